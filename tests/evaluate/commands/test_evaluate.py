"""evaluate-mrnn from the command line: the files it writes, what it refuses, what it keeps."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image as Picture

from mrnn.data.cache import open_cache
from mrnn.data.tokenize import tokenize
from mrnn.evaluate.commands.evaluate import main
from mrnn.evaluate.generation.consensus import Consensus
from mrnn.evaluate.generation.decode import Caption, generate
from mrnn.evaluate.metrics.captions import score_captions
from mrnn.evaluate.metrics.tokenizers import tokenize_all
from mrnn.evaluate.settings import ConsensusConfig, DecodingConfig
from mrnn.train.checkpoint import load_trained
from mrnn.train.features import Features
from mrnn.train.sentences import sentences_of
from mrnn.train.tasks.captioning import perplexity

World = Callable[..., tuple[Path, Path]]


def run(world: tuple[Path, Path], *options: str) -> Result:
    return CliRunner().invoke(main, ["--checkpoint", str(world[0]), "--features", str(world[1]), *options])


def results(world: tuple[Path, Path], name: str = "metrics.json") -> Any:
    return json.loads((world[0] / "evaluation-test" / name).read_text())


def test_writes_metrics_captions_and_report(make_world: World) -> None:
    world = make_world()
    done = run(world, "--beam", "2", "--normaliser-images", "5")
    assert done.exit_code == 0, done.output
    metrics = results(world)
    trained, cache = load_trained(world[0]), open_cache(world[1])
    expected = perplexity(trained.model, sentences_of(cache, "test", trained.vocabulary), Features(cache))
    assert metrics["perplexity"] == pytest.approx(expected.perplexity)
    assert metrics["perplexity_known"] == pytest.approx(expected.perplexity_known)
    for direction in ("image_to_sentence", "sentence_to_image"):
        assert metrics["retrieval"][direction].keys() == {"R@1", "R@5", "R@10", "median_rank", "mean_rank"}
    both = [metrics["retrieval"][direction] for direction in ("image_to_sentence", "sentence_to_image")]
    assert metrics["retrieval"]["rsum"] == pytest.approx(sum(each[f"R@{k}"] for each in both for k in (1, 5, 10)))
    assert f"rsum {metrics['retrieval']['rsum']:.1f}" in done.output
    assert metrics["retrieval"]["normaliser_images"] == 5
    assert metrics["retrieval"]["seed"] == 0
    assert "ranks" not in metrics["retrieval"]
    for name, lines in (("retrieved_sentences.jsonl", 10), ("retrieved_images.jsonl", None)):
        text = (world[0] / "evaluation-test" / name).read_text()
        assert text.count("\n") == (lines or metrics["retrieval"]["sentences"])
    assert metrics["split"] == "test"
    assert metrics["counts"]["images"] == 10
    assert metrics["vocabulary_size"] == len(trained.vocabulary)
    assert metrics["decoding"]["beam"] == 2
    assert metrics["features"]["backbone"] == "noise"
    assert metrics["checkpoint"]["epoch"] == 2
    assert {"perplexity", "Bleu_n", "CIDEr", "tokens"} <= metrics["definitions"].keys()

    captions = results(world, "captions.json")
    ids = [cache.images[i].id for i in cache.done("test")]
    assert [caption["image_id"] for caption in captions] == ids
    references = {
        cache.images[i].id: [s.lower().strip(" .!").split() for s in cache.images[i].sentences]
        for i in cache.done("test")
    }
    scores = score_captions({c["image_id"]: c["caption"].split() for c in captions}, references)
    for name in ("Bleu_1", "Bleu_2", "Bleu_3", "Bleu_4", "CIDEr", "ROUGE_L"):
        assert metrics[name] == pytest.approx(scores.corpus[name])
        assert name in metrics["greedy"]
    raw = {cache.images[i].id: cache.images[i].sentences for i in cache.done("test")}
    as_text = {caption["image_id"]: caption["caption"] for caption in captions}
    assert metrics["generation"]["ptb"] == score_captions(*tokenize_all(as_text, raw, tokenizer="ptb")).corpus
    assert "report.html" in done.output
    assert f"{metrics['perplexity']:.2f}" in done.output


def test_integer_ids_stay_integers(make_world: World) -> None:
    world = make_world(integer_ids=True)
    assert run(world, "--only", "generation", "--beam", "1").exit_code == 0
    assert [caption["image_id"] for caption in results(world, "captions.json")] == list(range(1024, 1034))
    assert "perplexity" not in results(world)
    assert "retrieval" not in results(world)


def test_finished_measurements_are_kept(make_world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world = make_world()
    assert run(world, "--only", "perplexity,retrieval").exit_code == 0
    before = results(world)

    def forbidden(*arguments: object, **options: object) -> None:
        raise AssertionError("measured again")

    monkeypatch.setattr("mrnn.evaluate.stages.sentence_bits", forbidden)
    monkeypatch.setattr("mrnn.evaluate.retrieval.stage.pairs_of", forbidden)
    assert run(world, "--only", "generation").exit_code == 0
    after = results(world)
    assert {name: after[name] for name in ("perplexity", "retrieval")} == {
        name: before[name] for name in ("perplexity", "retrieval")
    }
    assert "Bleu_1" in after
    assert isinstance(run(world, "--overwrite").exception, AssertionError)


def test_the_report_shows_pictures_where_they_are(make_world: World, tmp_path: Path) -> None:
    world = make_world()
    (tmp_path / "elsewhere" / "pictures").mkdir(parents=True)
    for number in range(24, 34):
        Picture.new("RGB", (60, 40), (number * 7, 0, 0)).save(tmp_path / "elsewhere" / "pictures" / f"{number}.png")
    assert run(world, "--images", str(tmp_path / "elsewhere")).exit_code == 0
    page = (world[0] / "evaluation-test" / "report.html").read_text()
    assert page.count("data:image/webp;base64,") == 10
    assert "Text only" not in page
    assert run(world).exit_code == 0
    page = (world[0] / "evaluation-test" / "report.html").read_text()
    assert "data:image/webp" not in page
    assert "none of the pictures was found" in page
    assert '"id":"picture \\u003c24> & co.png"' in page
    assert "random weights" in page


def test_figures_for_papers(make_world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world = make_world()
    lines = [{"kind": "epoch", "epoch": n, "step": 10 * n, "train_bits": 6 / n, "val_bits": 5.0} for n in (1, 2, 3)]
    (world[0] / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)))
    assert run(world, "--beam", "1", "--normaliser-images", "5", "--figures").exit_code == 0
    folder = world[0] / "evaluation-test" / "figures"
    names = ("learning-curves", "recall-at-k", "recall-at-percent", "perplexity-by-length")
    assert {path.name for path in folder.iterdir()} == {f"{name}.{kind}" for name in names for kind in ("png", "svg")}
    for name in names:
        with Picture.open(folder / f"{name}.png") as picture:
            assert picture.width > 900
        assert "<text" in (folder / f"{name}.svg").read_text(), "text stays text"
    before = (folder / "recall-at-k.svg").read_bytes()
    assert run(world, "--beam", "1", "--normaliser-images", "5", "--figures").exit_code == 0
    assert (folder / "recall-at-k.svg").read_bytes() == before
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    done = run(world, "--figures")
    assert done.exit_code == 1
    assert "pip install 'mrnn[analysis]'" in done.output


def test_a_cache_of_other_features_is_refused_by_name(make_world: World) -> None:
    run_folder, _ = make_world()
    _, other = make_world(name="other.h5", provenance={"backbone": "noise", "layer": "fc6", "weights_sha256": "ab"})
    run_folder, _ = make_world(name="third.h5")  # the checkpoint again as it was
    done = run((run_folder, other))
    assert done.exit_code == 1
    assert "layer: trained on fc7, the cache has fc6" in done.output
    assert "weights_sha256" in done.output
    assert "backbone" not in done.output


@pytest.mark.parametrize(
    ("options", "message", "code"),
    [
        (["--split", "val"], "no image with features in the split 'val'", 1),
        (["--prefix", "a zebra"], "does not know the word 'zebra'", 1),
        (["--only", "bleu"], "perplexity, generation, retrieval", 2),
        (["--sample", "--beam", "3"], "beam of 1", 2),
        (["--consensus", "--beam", "1"], "use --beam 10, not 1", 2),
        (["--consensus", "--sample"], "leave out --sample", 2),
        (["--folds", "5"], "--pool 1000 --folds 5", 2),
        (["--only", "retrieval", "--folds", "5", "--pool", "9", "--split", "test"], "too few for 5 folds of 9", 1),
        (["--device", "abacus"], "abacus", 1),
    ],
)
def test_refusals(make_world: World, options: list[str], message: str, code: int) -> None:
    done = run(make_world(val=0), *options)
    assert done.exit_code == code
    assert message in done.output


def test_sampling_and_prefix(make_world: World) -> None:
    world = make_world()
    assert run(world, "--only", "generation", "--sample", "--seed", "3", "--prefix", "A cat").exit_code == 0
    first = results(world, "captions.json")
    assert all(caption["caption"].startswith("a cat") for caption in first)
    assert run(world, "--only", "generation", "--sample", "--seed", "4", "--prefix", "A cat").exit_code == 0
    assert results(world, "captions.json") != first
    assert results(world)["decoding"]["beam"] == 1


def test_n_best_of_the_beam(make_world: World) -> None:
    world = make_world()
    assert run(world, "--only", "generation", "--beam", "4").exit_code == 0
    assert not (world[0] / "evaluation-test" / "nbest.json").exists()
    assert run(world, "--only", "generation", "--beam", "4", "--n-best", "3").exit_code == 0
    trained, cache = load_trained(world[0]), open_cache(world[1])
    listed, captions = results(world, "nbest.json"), results(world, "captions.json")
    assert len(listed) == 10
    for number, best, written in zip(cache.done("test"), listed, captions, strict=True):
        feature = Features(cache)[np.array([number])]
        expected = generate(trained.model.double(), feature, DecodingConfig(beam=4))[0][:3]
        assert best["image_id"] == written["image_id"]
        assert best["captions"][0]["caption"] == written["caption"]
        found = [(each["caption"].split(), each["complete"]) for each in best["captions"]]
        assert found == [(trained.vocabulary.decode(caption.words), caption.complete) for caption in expected]
        np.testing.assert_allclose(
            [each["log_prob"] for each in best["captions"]], [caption.log_prob for caption in expected], rtol=1e-5
        )
    refused = run(world, "--n-best", "3", "--beam", "2")
    assert refused.exit_code == 2
    assert "--n-best 3 needs a beam at least as wide" in refused.output


def test_consensus_chooses_among_the_captions_of_the_beam(make_world: World) -> None:
    world = make_world()
    assert run(world, "--only", "generation", "--beam", "10", "--n-best", "10").exit_code == 0
    plain, first = results(world, "nbest.json"), results(world, "captions.json")
    assert "consensus_images" not in results(world)["decoding"]
    options = ("--consensus", "--consensus-images", "3", "--consensus-log-prob", "0", "--n-best", "10")
    done = run(world, "--only", "generation", *options)
    assert done.exit_code == 0, done.output
    assert "beam 10, consensus" in done.output
    metrics, ranked = results(world), results(world, "nbest.json")
    assert metrics["decoding"] | {"beam": 10, "consensus_images": 3, "consensus_captions": 75} == metrics["decoding"]
    trained, cache = load_trained(world[0]), open_cache(world[1])
    consensus = Consensus.open(trained, world[1], ConsensusConfig(consensus_images=3, consensus_log_prob=0.0))
    for row, number in enumerate(cache.done("test")):
        found = ranked[row]["captions"]
        assert sorted(each["caption"] for each in found) == sorted(each["caption"] for each in plain[row]["captions"])
        keys = [(each["complete"], each["consensus"]) for each in found]
        assert keys == sorted(keys, reverse=True)
        words = trained.vocabulary.encode(found[0]["caption"].split())
        best = Caption(tuple(words), (0.0,), complete=True)
        ((score,),) = consensus.scores(Features(cache)[np.array([number])], [[best]])
        assert found[0]["consensus"] == pytest.approx(score)
    chosen = results(world, "captions.json")
    assert [(each["caption"], each["consensus"]) for each in chosen] == [
        (each["captions"][0]["caption"], each["captions"][0]["consensus"]) for each in ranked
    ]
    assert [each["caption"] for each in chosen] != [each["caption"] for each in first]


def test_a_cache_without_training_captions_is_refused_before_captions_are_generated(make_world: World) -> None:
    other = make_world(train=0, name="other.h5")[1]
    done = run((make_world()[0], other), "--only", "generation", "--consensus")
    assert done.exit_code == 1
    assert "other.h5 has no captions of training images to compare with" in done.output
    assert not (make_world(name="again.h5")[0] / "evaluation-test").exists()


def test_captions_that_do_not_end_are_flagged_counted_and_said(make_world: World) -> None:
    world = make_world(end=-50.0)
    done = run(world, "--only", "generation", "--beam", "2", "--max-steps", "4")
    assert "captions: 0 of 10 ended with END, 10 were cut at --max-steps, 0 are empty" in done.output
    assert results(world)["generation"]["cut_at_max_steps"] == results(world)["greedy"]["cut_at_max_steps"] == 10
    lines = (world[0] / "evaluation-test" / "per_image.jsonl").read_text().splitlines()
    assert [json.loads(line)["complete"] for line in lines] == [False] * 10


def test_perplexity_of_every_split_both_kinds_of_bleu_and_diversity(make_world: World) -> None:
    world = make_world()
    done = run(world, "--only", "perplexity,generation", "--beam", "2")
    metrics, trained, cache = results(world), load_trained(world[0]), open_cache(world[1])
    assert list(metrics["perplexity_splits"]) == ["test", "train", "val"]
    for split, found in metrics["perplexity_splits"].items():
        expected = perplexity(trained.model, sentences_of(cache, split, trained.vocabulary), Features(cache))
        assert found["perplexity"] == pytest.approx(expected.perplexity)
        assert found["perplexity_known"] == pytest.approx(expected.perplexity_known)
        assert sum(row["sentences"] for row in found["by_length"]) == found["sentences"]
        assert "per_image" not in found
        assert f"{found['perplexity']:.2f}" in done.output
    generation = metrics["generation"]
    precision, penalty = np.array(generation["ngram_precision"]), generation["brevity_penalty"]
    assert generation["ngram_precision_with_penalty"] == pytest.approx(precision * penalty)
    assert metrics["Bleu_2"] == pytest.approx(penalty * np.sqrt(precision[0] * precision[1]), abs=1e-6)
    for words in (
        "individual n-gram precision",
        "cumulative, with brevity penalty",
        f"x brevity penalty {penalty:.3f}",
    ):
        assert words in done.output
    assert metrics["diversity"].keys() == {"captions", "greedy", "people"}
    training = {" ".join(tokenize(s)) for i in cache.done("train") for s in cache.images[i].sentences}
    said = [caption["caption"] for caption in results(world, "captions.json")]
    assert metrics["diversity"]["captions"]["in_training"] == np.mean([caption in training for caption in said])
    assert metrics["diversity"]["captions"]["vocabulary_used"] == len({word for each in said for word in each.split()})
    assert {"intervals", "by_length", "distinct_n", "ngram_precision_with_penalty"} <= metrics["definitions"].keys()

    assert run(world, "--only", "perplexity", "--perplexity-splits", "val", "--overwrite").exit_code == 0
    assert list(results(world)["perplexity_splits"]) == ["test", "val"]
    assert run(world, "--only", "perplexity", "--perplexity-splits", "tset").exit_code == 2


def test_a_known_data_set_ends_with_the_papers_table(make_world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world = make_world()
    assert "in the papers" not in run(world).output, "an invented data set"
    monkeypatch.setattr("mrnn.evaluate.report.papers.papers_data_set", lambda dataset, root: "flickr8k")
    done = run(world)
    assert done.output.index("sentence_to_image  ") < done.output.index("flickr8k in the papers, and this run")
    assert "> this run, 10 x " in done.output


def test_help_ends_with_an_example() -> None:
    text = CliRunner().invoke(main, ["--help"]).output
    assert text.index("Example:") > text.index("--overwrite")
    assert all(f"--{name}" in text for name in ("pool", "folds", "full-pass", "images", "only"))

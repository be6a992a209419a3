"""evaluate-mrnn from the command line: the files it writes, what it refuses, what it keeps."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from PIL import Image as Picture

from mrnn.data.cache import open_cache
from mrnn.evaluate import cli
from mrnn.evaluate.cli import main
from mrnn.evaluate.metrics.captions import score_captions
from mrnn.evaluate.metrics.tokenizers import tokenize_all
from mrnn.train.batches import Features, sentences_of
from mrnn.train.checkpoint import load_trained
from mrnn.train.validation import perplexity

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
        assert metrics["retrieval"][direction].keys() == {"R@1", "R@5", "R@10", "median_rank"}
    assert metrics["retrieval"]["normaliser_images"] == 5
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

    monkeypatch.setattr("mrnn.evaluate.stages.perplexity", forbidden)
    monkeypatch.setattr("mrnn.evaluate.stages.RetrievalScorer", forbidden)
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
    assert page.count("data:image/jpeg;base64,") == 10
    assert "Text only" not in page
    assert run(world).exit_code == 0
    page = (world[0] / "evaluation-test" / "report.html").read_text()
    assert "data:image/jpeg" not in page
    assert "none of the pictures was found" in page
    assert "picture &lt;24&gt; &amp; co.png" in page
    assert "random weights" in page


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


def test_help_ends_with_an_example() -> None:
    text = CliRunner().invoke(main, ["--help"]).output
    assert text.index("Example:") > text.index("--overwrite")
    assert all(f"--{name}" in text for name in ("pool", "normaliser-images", "images", "only"))
    assert cli.STAGES == ("perplexity", "generation", "retrieval")

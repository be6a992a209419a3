"""Ensembles: the mixture against a loop over its members, in every measurement, and what they refuse."""

import json
from collections.abc import Callable
from math import log2
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result

from mrnn.data.cache import open_cache
from mrnn.data.errors import EvaluationError, SettingError, Stopped
from mrnn.data.stopping import StopRequest
from mrnn.data.vocabulary import BOUNDARY_ID, UNKNOWN_ID
from mrnn.evaluate.commands.evaluate import main
from mrnn.evaluate.commands.search import main as search
from mrnn.evaluate.ensemble import Ensemble, TrainedEnsemble, load_together
from mrnn.evaluate.evaluation import evaluate
from mrnn.evaluate.generation.consensus import Consensus
from mrnn.evaluate.generation.decode import Decoder, generate
from mrnn.evaluate.pool import build_pool
from mrnn.evaluate.retrieval.pair_scorer import captioner_pairs, log_normaliser
from mrnn.evaluate.retrieval.stage import sample_training_images
from mrnn.evaluate.settings import ConsensusConfig, DecodingConfig, RetrievalConfig
from mrnn.train.batches import pack
from mrnn.train.checkpoint import load_trained, read_checkpoint, write_checkpoint
from mrnn.train.features import Features
from mrnn.train.models.captioner import Predictor
from mrnn.train.sentences import sentences_of
from mrnn.train.tasks.captioning import sentence_bits
from tests.evaluate.retrieval.plain_ranks import image_to_sentence_ranks, sentence_to_image_ranks

Build = Callable[..., Any]
World = Callable[..., tuple[Path, Path]]
DECODING, RETRIEVAL = DecodingConfig(beam=2), RetrievalConfig(normaliser_images=5)


@pytest.fixture
def members(build_model: Build) -> list[Any]:
    found = [build_model(double=True), build_model(kind="generator", seed=1, double=True)]
    for member in found:
        member.output.bias[BOUNDARY_ID] = 1.5
    return found


@pytest.fixture
def features() -> torch.Tensor:
    return torch.randn(6, 12, generator=torch.Generator().manual_seed(3)).double()


@pytest.fixture
def runs(make_world: World) -> tuple[list[Path], Path]:
    """Runs of an m-RNN and a generator on one cache."""
    generator, _ = make_world(kind="generator", name="same.h5")
    mrnn, file = make_world()
    return [mrnn, generator], file


def mixed(members: list[Any], feature: torch.Tensor, words: list[int]) -> torch.Tensor:
    """P of every word after these, each member read from START: (V,)."""
    total = torch.zeros(40, dtype=feature.dtype)
    for member in members:
        state = member.start(feature[None])
        for word in [BOUNDARY_ID, *words]:
            hidden, state = member.step(torch.tensor([word]), state)
        total += member.output(hidden)[0].softmax(-1) / len(members)
    return total


def test_every_word_has_the_mean_of_the_probabilities(members: list[Any], features: torch.Tensor) -> None:
    for feature, captions in zip(features, generate(Ensemble(members), features, DecodingConfig(beam=3)), strict=True):
        for caption in captions:
            said = [*caption.words, *[BOUNDARY_ID] * caption.complete]
            expected = [mixed(members, feature, said[:n])[word].log().item() for n, word in enumerate(said)]
            np.testing.assert_allclose(caption.log_probs, expected, rtol=1e-9)


def test_greedy_search_follows_the_mixture(members: list[Any], features: torch.Tensor) -> None:
    found = generate(Ensemble(members), features, DecodingConfig(beam=1, max_steps=8))
    apart = [generate(member, features, DecodingConfig(beam=1, max_steps=8)) for member in members]
    assert all(one != found for one in apart), "a member alone says something else"
    for feature, (caption,) in zip(features, found, strict=True):
        words: list[int] = []
        while len(words) < 8 and BOUNDARY_ID not in words:
            chances = mixed(members, feature, words)
            chances[UNKNOWN_ID] = 0
            words.append(int(chances.argmax()))
        assert [*caption.words, *[BOUNDARY_ID] * caption.complete] == words


@pytest.mark.parametrize("copies", [1, 3])
def test_copies_of_one_model_are_that_model(
    members: list[Any], features: torch.Tensor, copies: int, make_world: World
) -> None:
    one = members[0]
    alone, together = (generate(model, features, DECODING) for model in (one, Ensemble([one] * copies)))
    assert [[c.words for c in each] for each in together] == [[c.words for c in each] for each in alone]
    np.testing.assert_allclose(
        [c.log_prob for each in together for c in each], [c.log_prob for each in alone for c in each], rtol=1e-12
    )
    run, file = make_world()
    trained, cache = load_trained(run), open_cache(file)
    sentences = sentences_of(cache, "test", trained.vocabulary)
    bits = [sentence_bits(m, sentences, Features(cache)) for m in (trained.model, Ensemble([trained.model] * copies))]
    np.testing.assert_allclose(bits[1].bits, bits[0].bits, rtol=1e-5)
    np.testing.assert_allclose(bits[1].known_bits, bits[0].known_bits, rtol=1e-5)


def test_a_sampled_caption_is_drawn_from_the_mixture(members: list[Any], features: torch.Tensor) -> None:
    ids = [str(n) for n in range(3000)]
    config = DecodingConfig(beam=1, sample=True, max_steps=1, suppress_unknown=False)
    drawn = Decoder(Ensemble(members))(features[:1].expand(3000, -1).float(), config, ids=ids)
    found = np.bincount([(*caption.words, BOUNDARY_ID)[0] for (caption,) in drawn], minlength=40) / 3000
    expected = mixed(members, features[0].float(), []).numpy()  # the decoder has made them float32
    assert (np.abs(found - expected) < 5 * np.sqrt(expected * (1 - expected) / 3000) + 1e-3).all()


def test_perplexity_is_that_of_the_mixture(runs: tuple[list[Path], Path]) -> None:
    trained, cache = load_together(runs[0]), open_cache(runs[1])
    assert isinstance(trained, TrainedEnsemble)
    sentences, features = sentences_of(cache, "test", trained.vocabulary), Features(cache)
    found = sentence_bits(trained.model, sentences, features, batch_size=4)
    for number in range(len(sentences)):
        batch = pack(sentences, np.array([number]), features)
        each = [
            member.output(member(batch)).softmax(-1).gather(1, batch.targets[:, None].clamp(min=0))[:, 0]
            for member in trained.model.members
        ]
        chances = torch.stack(each).detach().double().mean(0)[: batch.count].tolist()
        assert found.bits[number] == pytest.approx(sum(-log2(chance) for chance in chances), rel=1e-5)


def test_retrieval_ranks_by_the_mean_of_the_scores(runs: tuple[list[Path], Path], tmp_path: Path) -> None:
    (one, two), file = runs
    metrics = evaluate(runs[0], file, output=tmp_path / "out", stages=["retrieval"], retrieval=RETRIEVAL)
    cache = open_cache(file)
    pool, priors = build_pool(cache, cache.done("test")), sample_training_images(cache, 5, seed=0)
    total = np.zeros((len(pool.images), len(pool.sentences)))
    for run in (one, two):
        trained = load_trained(run)
        words = [trained.vocabulary.encode(sentence.words) for sentence in pool.sentences]
        pairs = captioner_pairs(trained.model, words, Features(cache))
        of_pool, of_priors = (np.stack([pairs.score(int(image)) for image in each]) for each in (pool.images, priors))
        total += (of_pool - log_normaliser(of_priors)) / 2
    expected = {
        "image_to_sentence": image_to_sentence_ranks(total, pool.owners),
        "sentence_to_image": sentence_to_image_ranks(total, pool.owners),
    }
    for name, ranks in expected.items():
        assert metrics["retrieval"][name]["R@1"] == pytest.approx(100 * np.mean(ranks == 1))
        assert metrics["retrieval"][name]["R@5"] == pytest.approx(100 * np.mean(ranks <= 5))
    assert metrics["retrieval"]["normaliser_images"] == 5
    assert "mean of log P(w|I) - log P(w)" in metrics["definitions"]["image_to_sentence"]


def command(runs: list[Path], file: Path, *options: str | Path) -> Result:
    given = [word for run in runs for word in ("--checkpoint", str(run))]
    return CliRunner().invoke(main, [*given, "--features", str(file), "--normaliser-images", "5", *map(str, options)])


def test_an_evaluation_names_its_members_and_resumes(
    runs: tuple[list[Path], Path], tmp_path: Path, stop_after: Callable[[int], StopRequest]
) -> None:
    done = command(*runs, "--output", tmp_path / "whole", "--consensus", "--consensus-images", "3", "--beam", "4")
    assert done.exit_code == 0, done.output
    assert f"report: {tmp_path / 'whole' / 'report.html'}" in done.output
    whole = json.loads((tmp_path / "whole" / "metrics.json").read_text())
    assert whole["checkpoint"]["model"] == "ensemble"
    assert [member["model"] for member in whole["checkpoint"]["members"]] == ["mrnn", "generator"]
    assert [member["run"] for member in whole["checkpoint"]["members"]] == list(map(str, runs[0]))
    assert "mean of their probabilities" in whole["definitions"]["ensemble"]
    assert "test: run + generator" in (tmp_path / "whole" / "report.html").read_text()
    settings: dict[str, Any] = {
        "decoding": DecodingConfig(beam=4),
        "retrieval": RETRIEVAL,
        "consensus": ConsensusConfig(consensus_images=3),
    }
    for looks in (2, 6, 14, 20):
        with pytest.raises(Stopped):
            evaluate(*runs, output=tmp_path / "parts", stop=stop_after(looks), **settings)
        assert not (tmp_path / "parts" / "metrics.json").exists()
    evaluate(*runs, output=tmp_path / "parts", **settings)
    for name in ("metrics.json", "captions.json", "per_image.jsonl"):
        assert (tmp_path / "parts" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
    swapped = command([*reversed(runs[0])], runs[1], "--only", "perplexity", "--output", tmp_path / "whole")
    assert swapped.exit_code == 0
    again = json.loads((tmp_path / "whole" / "metrics.json").read_text())
    assert "Bleu_4" not in again, "captions of other checkpoints are not used"
    assert again["perplexity"] == pytest.approx(whole["perplexity"])


def test_consensus_compares_the_vectors_of_all_members(runs: tuple[list[Path], Path]) -> None:
    trained = load_together(runs[0])
    vectors = trained.model.image_vector(torch.ones(2, 12))
    one, two = trained.members  # type: ignore[attr-defined]
    assert torch.equal(
        vectors, torch.cat([one.model.image(torch.ones(2, 12)), two.model.centred(torch.ones(2, 12))], 1)
    )
    assert Consensus.open(trained, runs[1], ConsensusConfig()).config == ConsensusConfig()


def test_one_checkpoint_is_no_ensemble(runs: tuple[list[Path], Path]) -> None:
    (run, _), file = runs
    assert not isinstance(load_together([run]), TrainedEnsemble)
    one, listed = evaluate(run, file, decoding=DECODING, retrieval=RETRIEVAL), run / "evaluation-test" / "captions.json"
    before = listed.read_bytes()
    assert evaluate([run], file, decoding=DECODING, retrieval=RETRIEVAL) == one
    assert listed.read_bytes() == before
    assert "members" not in one["checkpoint"]


def test_refusals(runs: tuple[list[Path], Path], make_world: World, tmp_path: Path) -> None:
    (mrnn, generator), file = runs
    content = read_checkpoint(mrnn / "checkpoint_best.pt")

    def changed(**values: Any) -> Path:
        folder = tmp_path / "changed"
        folder.mkdir(exist_ok=True)
        kept = {name: value for name, value in {**content, **values}.items() if name not in ("format", "version")}
        write_checkpoint(folder / "checkpoint_best.pt", kept)
        return folder

    words = [*content["vocabulary"][:-1], "another"]
    with pytest.raises(EvaluationError, match="knows other words than"):
        load_together([mrnn, changed(vocabulary=words)])
    with pytest.raises(EvaluationError, match=r"trained on other features than .* \(layer\)"):
        load_together([mrnn, changed(features={**content["features"], "layer": "fc6"})])
    matching, _ = make_world(kind="devise", name="other.h5")
    with pytest.raises(EvaluationError, match="predicts no words"):
        load_together([mrnn, matching])
    with pytest.raises(SettingError, match="name a folder for its results with --output"):
        evaluate([mrnn, generator], file)
    for given in ({"retrieval": RetrievalConfig(per_word=True)}, {"combine": [(mrnn, file)]}):
        with pytest.raises(SettingError, match="leave out --per-word and --combine"):
            evaluate([mrnn, generator], file, output=tmp_path / "out", **given)
    assert not (tmp_path / "out").exists()
    twice = ["--checkpoint", str(mrnn), "--checkpoint", str(generator), "--features", str(file), "a dog"]
    done = CliRunner().invoke(search, twice)
    assert done.exit_code == 2
    assert "this command uses one model" in done.output


def test_an_ensemble_is_a_predictor_and_no_captioner(members: list[Any]) -> None:
    """What needs one output layer, or the late fusion of words and image, does not take it for one."""
    ensemble = Ensemble(members)
    assert isinstance(ensemble, Predictor)
    assert not hasattr(ensemble, "output")
    with pytest.raises(ValueError, match="eval mode"):
        generate(ensemble.train(), torch.zeros(1, 12).double(), DECODING)

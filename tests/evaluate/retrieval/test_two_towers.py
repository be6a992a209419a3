"""Retrieval by a model of two towers: scores against the model's own, and the standardised ranking."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mrnn.data.cache import open_cache
from mrnn.data.errors import SettingError, Stopped
from mrnn.evaluate.evaluation import evaluate
from mrnn.evaluate.pool import build_pool
from mrnn.evaluate.retrieval import all_pairs
from mrnn.evaluate.retrieval.result import RetrievalResult
from mrnn.evaluate.retrieval.stage import retrieval_stage, sample_training_images
from mrnn.evaluate.retrieval.two_towers import LOCAL_DEFINITION, TowerPairs, moments
from mrnn.evaluate.settings import RetrievalConfig
from mrnn.evaluate.stages import Evaluation
from mrnn.evaluate.studies.evaluation_folders import caveats
from mrnn.train.checkpoint import load_trained
from mrnn.train.features import Features
from mrnn.train.pairs import pack_pairs
from mrnn.train.sentences import sentences_of

World = Callable[..., tuple[Path, Path]]
Evaluate = Callable[..., Evaluation]
StopAfter = Callable[[int], object]
CONFIG = RetrievalConfig(normaliser_images=6, per_word=True, top=3)
KINDS = ("alignment", "devise")


@pytest.mark.parametrize("kind", [*KINDS, "defrag"])
def test_scores_are_those_of_the_model(kind: str, make_world: World) -> None:
    run, file = make_world(kind=kind, regions=3)
    trained, cache = load_trained(run), open_cache(file)
    features = Features(cache, rows=trained.model.config.rows(3))
    sentences = sentences_of(cache, "test", trained.vocabulary)
    words = [sentences.tokens[a:b] for a, b in zip(sentences.starts, sentences.starts[1:], strict=False)]
    pairs = TowerPairs(trained.model, words, features)
    images = cache.done("test")
    whole = pairs.score_images(images)
    for k, image in enumerate(images):
        scores = pairs.score(int(image))
        np.testing.assert_allclose(scores, whole[k], rtol=1e-4, atol=1e-5)
        some = pairs.score(int(image), np.array([4, 1]))
        np.testing.assert_allclose(some[[4, 1]], scores[[4, 1]], rtol=1e-4, atol=1e-5)
        assert np.isnan(np.delete(some, [4, 1])).all()
        for n in (0, 7):
            rows, valid = features.regions(np.array([image]))
            batch = replace(pack_pairs(sentences, np.array([n]), features), features=rows, valid=valid)
            assert trained.model(batch).item() == pytest.approx(scores[n], rel=1e-4, abs=1e-5)
    assert pairs.work() == pairs.size == sentences.lengths.sum()
    with pytest.raises(ValueError, match="eval mode"):
        TowerPairs(trained.model.train(), words, features)


@pytest.mark.parametrize("local", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_ranks_by_the_standardised_score(
    kind: str, local: bool, make_world: World, evaluation: Evaluate, tmp_path: Path
) -> None:
    world = make_world(kind=kind, regions=3)
    found = retrieval_stage(evaluation(world, tmp_path / "out"), replace(CONFIG, local_scaling=local))
    assert found is not None
    assert RetrievalResult.from_json(json.loads(json.dumps(found.to_json()))) == found
    scores = np.load(tmp_path / "out/parts/scores-0.npy").astype(np.float64)
    assert len(scores) == 16
    trained, cache = load_trained(world[0]), open_cache(world[1])
    priors = sample_training_images(cache, 6, seed=CONFIG.seed)
    said = [trained.vocabulary.encode(sentence.words) for sentence in build_pool(cache, priors).sentences]
    features = Features(cache, rows=trained.model.config.rows(3))
    with_training = TowerPairs(trained.model, said, features).score_images(np.r_[cache.done("test"), priors])
    z = (scores - centre(with_training.T, local)[:, None]) / with_training.std(1)[:, None]
    mean, deviation = centre(z[10:], local), z[10:].std(0)
    assert not np.allclose(mean, 0)
    for k, answer in enumerate(found.images):
        best = answer.sentences[0].values
        column = int(np.argmin(np.abs(scores[k] - best["score"])))
        assert best["standardised"] == pytest.approx((z[k, column] - mean[column]) / deviation[column], rel=1e-3)
        assert best["standardised"] == pytest.approx(((z[k] - mean) / deviation).max(), rel=1e-3)
    answers = [answer.images[0] for answer in found.sentences]
    assert sorted({answer.log_prob for answer in answers}) == pytest.approx(sorted(set(z[:10].max(0))), rel=1e-3)
    assert set(found.recalls) == {
        "image_to_sentence",
        "image_to_sentence_raw",
        "image_to_sentence_per_word",
        "sentence_to_image",
        "sentence_to_image_raw",
    }
    raw = retrieval_stage(evaluation(world, tmp_path / "raw"), replace(CONFIG, normaliser_images=0))
    assert raw is not None
    assert raw.recalls["image_to_sentence"] == raw.recalls["image_to_sentence_raw"]
    assert raw.recalls["image_to_sentence_raw"] == found.recalls["image_to_sentence_raw"]
    assert raw.recalls["sentence_to_image"] == found.recalls["sentence_to_image_raw"]
    assert "sentence_to_image_raw" not in raw.recalls


def centre(values: np.ndarray, local: bool) -> np.ndarray:
    """Of each column, the mean, or half-way between it and the largest of fewer than 50."""
    assert len(values) < 50
    return np.mean([values.mean(0), values.max(0)], axis=0) if local else values.mean(0)


def test_local_scaling_by_hand() -> None:
    values = np.random.default_rng(0).permuted(np.tile(np.arange(200.0)[:, None], (1, 3)), axis=0)
    found, deviation = moments(values, local=True)
    assert found.tolist() == [(99.5 + 197.5) / 2] * 3, "the largest 2 % are 196 to 199"
    assert deviation.tolist() == moments(values)[1].tolist()


def test_local_scaling_demotes_a_picture_that_fits_everything() -> None:
    """A hub: with the sentences that fit it best it scores no higher than with the query."""
    training = np.random.default_rng(0).normal(0, 1, (500, 2))  # of two images with 500 training sentences
    training[:10, 0] += 6
    query = np.array([4.0, 2.5])
    for local, best in ((False, 0), (True, 1)):
        mean, deviation = moments(training, local=local)
        assert np.argmax((query - mean) / deviation) == best


def test_local_scaling_is_recorded_and_refused_where_it_changes_nothing(make_world: World, tmp_path: Path) -> None:
    config = replace(CONFIG, per_word=False, local_scaling=True)
    with pytest.raises(SettingError, match="--local-scaling is for models that match"):
        evaluate(*make_world(), retrieval=config, device="cpu")
    world = make_world(kind="devise", regions=3, name="regions.h5")
    found = [
        evaluate(*world, retrieval=replace(config, local_scaling=local), output=tmp_path / str(local), device="cpu")
        for local in (False, True)
    ]
    assert [each["retrieval"]["local_scaling"] for each in found] == [False, True]
    definitions = [each["definitions"]["sentence_to_image"] for each in found]
    assert definitions[1] == definitions[0] + LOCAL_DEFINITION
    assert caveats(*found) == ["only B was measured with --local-scaling"]
    without = {name: value for name, value in found[0].items() if name != "retrieval"}
    assert caveats(without, found[1]) == [], "what was not measured is not compared"


def test_moments_of_a_sentence_that_is_everywhere_the_same() -> None:
    mean, deviation = moments(np.array([[1.0, 2.0], [3.0, 2.0]]))
    assert mean.tolist() == [2, 2]
    assert deviation.tolist() == [1, 1]
    assert [each.tolist() for each in moments(np.zeros((0, 2)))] == [[0, 0], [1, 1]]


def test_a_stopped_pass_goes_on(
    make_world: World,
    evaluation: Evaluate,
    stop_after: StopAfter,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(all_pairs, "IMAGES", 4)
    world = make_world(kind="alignment", regions=3)
    with pytest.raises(Stopped):
        retrieval_stage(evaluation(world, tmp_path / "parts", stop=stop_after(2)), CONFIG)
    some = np.load(tmp_path / "parts/parts/scores-0.npy")
    assert 0 < np.isnan(some).mean() < 1
    computed = []
    score_images = TowerPairs.score_images

    def counted(self: TowerPairs, images: np.ndarray, **options: object) -> np.ndarray:
        computed.append(len(images))
        return score_images(self, images, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(TowerPairs, "score_images", counted)
    resumed = retrieval_stage(evaluation(world, tmp_path / "parts"), CONFIG)
    assert sum(computed) == np.isnan(some).any(axis=1).sum() + 16, "and all of them once with the training sentences"
    whole = retrieval_stage(evaluation(world, tmp_path / "whole"), CONFIG)
    assert resumed == whole

"""Pruned and full passes end the same, stopped ones go on, and pools, folds and files are as they are said to be."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mrnn.data.cache import open_cache
from mrnn.data.errors import EvaluationError, Stopped
from mrnn.data.stopping import EXIT_STOPPED
from mrnn.evaluate.retrieval.answers import PoolRanks, write_answers
from mrnn.evaluate.retrieval.bounds import BoundScorer
from mrnn.evaluate.retrieval.late_fusion import LateFusionScorer, Tiles
from mrnn.evaluate.retrieval.result import RetrievalResult
from mrnn.evaluate.retrieval.scores import Scores
from mrnn.evaluate.retrieval.stage import RetrievalConfig, retrieval_stage, sample_training_images
from mrnn.evaluate.stages import Evaluation
from tests.variants import FUSED, FUSED_IDS

World = Callable[..., tuple[Path, Path]]
Evaluate = Callable[..., Evaluation]
StopAfter = Callable[[int], Any]
PRUNED = RetrievalConfig(normaliser_images=6, bound_words=2, per_word=True, top=3)
FULL = replace(PRUNED, full_pass=True)
SMALL = Tiles(8, 5)


def comparable(found: RetrievalResult | None) -> dict[str, Any]:
    """A result less what a pruned pass leaves open or has its own way: the bracket of P(w), the share scored."""
    assert found is not None
    result: dict[str, Any] = json.loads(json.dumps(found.to_json()))
    assert RetrievalResult.from_json(result) == found, "what is stored is what was found"
    del result["scored_exactly"], result["course"]
    for answer in result["answers"].values():
        for sentence in answer["sentences"]:
            del sentence["normalised"]
    return result


@pytest.mark.parametrize(("kind", "variant"), FUSED, ids=FUSED_IDS)
def test_pruned_equals_full(
    kind: str, variant: dict[str, Any], make_world: World, evaluation: Evaluate, tmp_path: Path
) -> None:
    world = make_world(test=40, kind=kind, settings=variant)
    pruned = retrieval_stage(evaluation(world, tmp_path / "pruned"), PRUNED, tiles=SMALL)
    full = retrieval_stage(evaluation(world, tmp_path / "full"), FULL, tiles=SMALL)
    assert pruned is not None
    assert full is not None
    assert comparable(pruned) == comparable(full)
    assert pruned.scored_exactly < 1 == full.scored_exactly
    costs = [state.scored for state in pruned.course]
    assert costs == sorted(costs)
    assert costs[-1] == pruned.scored_exactly
    assert set(pruned.course[-1].settled.values()) == {1.0}
    assert full.course == ()
    some, every = (np.load(tmp_path / f"{name}/parts/scores-0.npy") for name in ("pruned", "full"))
    known = ~np.isnan(some)
    assert some[known].tobytes() == every[known].tobytes(), "a score does not depend on what else is scored"
    for answer, other in zip(full.images, pruned.images, strict=True):
        for exact, between in zip(answer.sentences, other.sentences, strict=True):
            low, high = between.values["normalised"]
            assert low <= exact.values["normalised"][0] == exact.values["normalised"][1] <= high


def test_a_full_pass_takes_up_what_a_pruned_one_scored(
    make_world: World, evaluation: Evaluate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = make_world()
    pruned = retrieval_stage(evaluation(world, tmp_path), PRUNED, tiles=SMALL)
    (tmp_path / "parts/retrieval.json").unlink()
    before = np.load(tmp_path / "parts/scores-0.npy")
    scored = []
    score = LateFusionScorer.score

    def counted(self: LateFusionScorer, feature: Any, sentences: Any = None, **options: Any) -> np.ndarray:
        if options.get("check"):
            scored.append(before.shape[1] if sentences is None else len(sentences))
        return score(self, feature, sentences, **options)

    monkeypatch.setattr(LateFusionScorer, "score", counted)
    assert comparable(retrieval_stage(evaluation(world, tmp_path), FULL, tiles=SMALL)) == comparable(pruned)
    assert sum(scored) == np.isnan(before).sum()


@pytest.mark.parametrize("config", [PRUNED, FULL], ids=["pruned", "full"])
@pytest.mark.parametrize("share", [0.05, 0.5, 0.98])
def test_stopped_retrieval_goes_on_where_it_was(
    make_world: World,
    evaluation: Evaluate,
    stop_after: StopAfter,
    tmp_path: Path,
    config: RetrievalConfig,
    share: float,
) -> None:
    """A stop is looked for at every tile and every node, early in the bounds and late in the exact scores."""
    world, looks = make_world(), 10**6
    never = stop_after(looks)
    whole = retrieval_stage(evaluation(world, tmp_path / "whole", stop=never), config, tiles=SMALL)
    some = stop_after(int(share * (looks - never.looks)))
    with pytest.raises(Stopped) as stopped:
        retrieval_stage(evaluation(world, tmp_path / "parts", stop=some), config, tiles=SMALL)
    assert stopped.value.exit_code == EXIT_STOPPED
    assert retrieval_stage(evaluation(world, tmp_path / "parts"), config, run=False) is None
    resumed = retrieval_stage(evaluation(world, tmp_path / "parts"), config, tiles=SMALL)
    assert comparable(resumed) == comparable(whole)
    first, second = (np.load(tmp_path / folder / "parts/scores-0.npy") for folder in ("whole", "parts"))
    both = ~np.isnan(first) & ~np.isnan(second)  # one that was stopped may need a little less of P(w)
    assert both.mean() > 0.7
    assert first[both].tobytes() == second[both].tobytes()


def test_finished_bounds_and_scores_are_kept(
    make_world: World, evaluation: Evaluate, stop_after: StopAfter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = make_world()
    monkeypatch.setattr("mrnn.evaluate.retrieval.bounds.PAIRS", 32)  # blocks of two sentences
    with pytest.raises(Stopped):
        retrieval_stage(evaluation(world, tmp_path, stop=stop_after(20)), PRUNED, tiles=SMALL)
    done = ~np.isnan(np.load(tmp_path / "parts/bounds-0.npy")).any(axis=1)
    assert 0 < done.sum() < len(done)
    blocks = []
    bounds = BoundScorer.bounds
    monkeypatch.setattr(
        BoundScorer, "bounds", lambda self, block, **options: blocks.append(block) or bounds(self, block, **options)
    )
    retrieval_stage(evaluation(world, tmp_path), PRUNED, tiles=SMALL)
    assert not done[np.concatenate(blocks)].any()
    monkeypatch.setattr(BoundScorer, "bounds", None)
    monkeypatch.setattr(LateFusionScorer, "__init__", None)
    assert retrieval_stage(evaluation(world, tmp_path), FULL) is not None, "finished: nothing is scored again"


def test_other_settings_do_not_take_up_foreign_work(make_world: World, evaluation: Evaluate, tmp_path: Path) -> None:
    world = make_world()
    one = comparable(retrieval_stage(evaluation(world, tmp_path), PRUNED))
    raw = comparable(retrieval_stage(evaluation(world, tmp_path), replace(PRUNED, normaliser_images=0)))
    assert raw["image_to_sentence"] == raw["image_to_sentence_raw"] == one["image_to_sentence_raw"]
    assert raw["sentence_to_image"] == one["sentence_to_image"]
    pool = comparable(retrieval_stage(evaluation(world, tmp_path), replace(PRUNED, pool=4, normaliser_images=0)))
    assert pool["images"] == len(pool["answers"]) == 4


@pytest.mark.parametrize("damage", ["ranks", "answers", "course", None])
def test_a_stored_result_that_cannot_be_read_is_measured_anew(
    make_world: World, evaluation: Evaluate, tmp_path: Path, damage: str | None
) -> None:
    """As a version before there were ranks left it; the stored scores are taken up."""
    world = make_world()
    whole = comparable(retrieval_stage(evaluation(world, tmp_path), PRUNED))
    part = tmp_path / "parts/retrieval.json"
    content = json.loads(part.read_text())
    if damage is None:
        content["result"] = [1]
    else:
        del content["result"][damage]
    part.write_text(json.dumps(content))
    before = np.load(tmp_path / "parts/scores-0.npy").tobytes()
    assert retrieval_stage(evaluation(world, tmp_path), PRUNED, run=False) is None
    assert comparable(retrieval_stage(evaluation(world, tmp_path), PRUNED)) == whole
    assert np.load(tmp_path / "parts/scores-0.npy").tobytes() == before, "nothing was scored again"


def test_counts_files_and_answers(make_world: World, evaluation: Evaluate, tmp_path: Path) -> None:
    world = make_world()
    cache = open_cache(world[1])
    result = retrieval_stage(evaluation(world, tmp_path), replace(PRUNED, top=100))
    assert result is not None
    images = [cache.images[i] for i in cache.done("test")]
    sentences = [(image.id, number, text) for image in images for number, text in enumerate(image.sentences)]
    sentences = [named for named in sentences if named[2] != "!"]
    assert result.pool_sentences == (len(sentences),), "the one without a word is left out"
    assert result.prefix_states < result.words_and_ends
    write_answers(tmp_path, result)
    by_image, by_sentence = (
        [json.loads(line) for line in (tmp_path / name).read_text().splitlines()]
        for name in ("retrieved_sentences.jsonl", "retrieved_images.jsonl")
    )
    assert [line["image_id"] for line in by_image] == [image.id for image in images]
    assert [(line["image_id"], line["number"], line["sentence"]) for line in by_sentence] == sentences
    assert [line["rank"] for line in by_image] == result.ranks()["image_to_sentence"]
    assert [line["rank"] for line in by_sentence] == result.ranks()["sentence_to_image"]
    for line in by_image:
        found = [(answer["image_id"], answer["number"], answer["sentence"]) for answer in line["sentences"]]
        assert sorted(found) == sorted(sentences), "a list longer than the pool holds all of it"
        right = [answer["image_id"] == line["image_id"] for answer in line["sentences"]]
        assert [answer["right"] for answer in line["sentences"]] == right
        worst, best = line["ranks"]["image_to_sentence"]
        assert best <= right.index(True) + 1 <= worst + sum(right)
        for answer in line["sentences"]:
            words = len(answer["sentence"].strip(" .").split()) + 1
            assert answer["log_prob_per_word"] * words == pytest.approx(answer["log_prob"])
    for line in by_sentence:
        log_probs = [image["log_prob"] for image in line["images"]]
        assert log_probs == sorted(log_probs, reverse=True)
        right = [image["right"] for image in line["images"]].index(True)
        worst, best = line["ranks"]["sentence_to_image"]
        assert best <= right + 1 <= worst
        assert line["images"][right]["image_id"] == line["image_id"]


def test_folds_are_pools_of_their_own(make_world: World, evaluation: Evaluate, tmp_path: Path) -> None:
    world = make_world(test=12)
    folds = comparable(retrieval_stage(evaluation(world, tmp_path / "a"), replace(PRUNED, pool=4, folds=3)))
    parts = []
    for fold in range(3):
        one = evaluation(world, tmp_path / str(fold))
        one.images = one.images[4 * fold : 4 * fold + 4]
        parts.append(comparable(retrieval_stage(one, PRUNED)))
    for direction in ("image_to_sentence", "sentence_to_image", "image_to_sentence_raw", "image_to_sentence_per_word"):
        for name, value in folds[direction].items():
            assert value == pytest.approx(np.mean([part[direction][name] for part in parts]))
        assert folds["ranks"][direction] == [rank for part in parts for rank in part["ranks"][direction]]
    assert folds["answers"] == {name: answer for part in parts for name, answer in part["answers"].items()}
    assert folds["images"] == [4, 4, 4]
    with pytest.raises(EvaluationError, match="too few for 4 folds of 4"):
        retrieval_stage(evaluation(world, tmp_path / "b"), replace(PRUNED, pool=4, folds=4))


def test_refusals(make_world: World, evaluation: Evaluate, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="--pool 1000 --folds 5"):
        RetrievalConfig(folds=5)
    with pytest.raises(ValueError, match="top must be at least 1"):
        RetrievalConfig(top=0)
    one = evaluation(make_world(), tmp_path)
    one.trained.model.output.bias.data[3] = np.nan
    for config in (PRUNED, FULL):
        with pytest.raises(EvaluationError, match="not a number"):
            retrieval_stage(one, config)


def test_a_bound_that_does_not_hold_is_noticed(
    make_world: World, evaluation: Evaluate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bounds = BoundScorer.bounds
    monkeypatch.setattr(BoundScorer, "bounds", lambda self, block, **options: bounds(self, block, **options) - 9)
    with pytest.raises(EvaluationError, match="--full-pass"):
        retrieval_stage(evaluation(make_world(), tmp_path), PRUNED)


def test_the_time_is_estimated_beforehand(make_world: World, evaluation: Evaluate, tmp_path: Path) -> None:
    world = make_world()
    said: list[str] = []
    for name, config in (("a", PRUNED), ("b", FULL)):
        retrieval_stage(replace(evaluation(world, tmp_path / name), report=said.append), config)
    pruned, full = said
    assert re.fullmatch(r"bounds, then exact scores where they matter: about .+ \(scoring every pair: .+\)", pruned)
    assert full.startswith("scoring every pair: about ")


def test_the_normaliser_is_divided_out() -> None:
    scores = np.log(np.array([[0.2, 0.9, 0.1], [0.1, 0.9, 0.1], [0.1, 0.9, 0.3], [0.1, 0.9, 0.1], [0.1, 0.8, 0.1]]))
    each = np.arange(3)
    known = np.ones(scores.shape, dtype=bool)
    pool = Scores(scores.astype(np.float32), known, each, each, np.ones(3), 3, top=1)
    ranks = PoolRanks.of(pool)
    found, tied = ranks.recalls()
    assert found["image_to_sentence_raw"].recall_1 == pytest.approx(100 / 3), "sentence 1 wins everywhere"
    assert found["image_to_sentence"].recall_1 == 100
    assert ranks.by_image["image_to_sentence"][0].tolist() == [1, 1, 1]
    # sentence 1 is the same under every image: worst and best of three
    assert ranks.by_sentence["sentence_to_image"][0].tolist() == [1, 3, 1]
    assert found["sentence_to_image"].recall_1 == pytest.approx(200 / 3)
    assert tied["sentence_to_image"].recall_1 == 100


def test_training_images_of_the_prior(make_world: World) -> None:
    cache = open_cache(make_world()[1])
    some = sample_training_images(cache, 7, seed=1)
    assert some.tolist() == sorted(set(some.tolist()))
    assert len(some) == 7
    assert {cache.images[i].split for i in some} == {"train"}
    assert some.tolist() == sample_training_images(cache, 7, seed=1).tolist()
    assert some.tolist() != sample_training_images(cache, 7, seed=2).tolist()
    assert len(sample_training_images(cache, 1000, seed=1)) == 20
    assert len(sample_training_images(cache, 0, seed=1)) == 0


def test_no_training_images_no_prior(make_world: World) -> None:
    cache = open_cache(make_world()[1])
    cache.states[cache.done("train")] = 2
    with pytest.raises(EvaluationError, match="--normaliser-images 0"):
        sample_training_images(cache, 5, seed=0)

"""Retrieval by several models: the sum, its weights, and pictures that are matched by id."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mrnn.data.cache import open_cache
from mrnn.data.cache_creation import create_cache
from mrnn.data.cache_writer import CacheWriter
from mrnn.data.captions import Corpus
from mrnn.data.errors import EvaluationError, SettingError, Stopped
from mrnn.data.regions import rows_of
from mrnn.evaluate.evaluation import evaluate
from mrnn.evaluate.pool import build_pool
from mrnn.evaluate.retrieval.combination import averaged_stage, combined_stage, member_values
from mrnn.evaluate.retrieval.result import RetrievalResult
from mrnn.evaluate.retrieval.stage import retrieval_stage, sample_training_images
from mrnn.evaluate.retrieval.weights import choose_weights, weighted_sum
from mrnn.evaluate.settings import RetrievalConfig
from mrnn.evaluate.stages import Evaluation
from tests.evaluate.retrieval.plain_ranks import image_to_sentence_ranks, sentence_to_image_ranks

World = Callable[..., tuple[Path, Path]]
Evaluate = Callable[..., Evaluation]
StopAfter = Callable[[int], object]
CONFIG = RetrievalConfig(normaliser_images=6, top=3)


def dev_of(member: Evaluation) -> Evaluation:
    return replace(member, split="val", images=member.cache.done("val"))


def shuffled(file: Path, output: Path, *, leave_out: str = "") -> Path:
    """The same cache with its images in the opposite order."""
    cache = open_cache(file)
    order = [n for n in reversed(range(len(cache.images))) if cache.images[n].id != leave_out]
    corpus = Corpus(cache.dataset, cache.root, tuple(cache.images[n] for n in order))
    rows = cache.rows_per_image
    create_cache(
        output,
        corpus,
        cache.provenance,
        feature_size=cache.feature_size,
        dtype=cache.features.dtype.name,
        rows_per_image=rows,
    )
    with CacheWriter(output) as writer:
        for new, old in enumerate(order):
            taken = rows_of(np.array([old]), rows)
            writer.write(np.array([new]), cache.features[taken], regions=cache.regions[taken])
    return output


def test_the_sum_of_standardised_values_ranks(make_world: World, evaluation: Evaluate, tmp_path: Path) -> None:
    members = [
        evaluation(make_world(), tmp_path / "a"),
        evaluation(make_world(kind="alignment", regions=3, name="regions.h5"), tmp_path / "b"),
    ]
    found = combined_stage(members, [dev_of(member) for member in members], CONFIG)
    pool = build_pool(members[0].cache, members[0].images)
    dev_pool = build_pool(members[0].cache, members[0].cache.done("val"))
    training = sample_training_images(members[0].cache, 6, seed=0)
    values = [member_values(member, CONFIG, pool, members[0], training, name="again") for member in members]
    scales = [
        member_values(dev_of(member), CONFIG, dev_pool, dev_of(members[0]), training, name="dev again").std()
        for member in members
    ]
    weights = [member["weight"] for member in found.summary["members"]]
    assert weights[0] == 1
    np.testing.assert_allclose([member["scale"] for member in found.summary["members"]], scales, rtol=1e-5)
    total = weighted_sum(values, np.array(weights), np.array(scales))
    ranks = found.result.ranks()
    assert ranks["image_to_sentence"] == image_to_sentence_ranks(total, pool.owners).tolist()
    assert ranks["sentence_to_image"] == sentence_to_image_ranks(total, pool.owners).tolist()
    again = combined_stage(members, [dev_of(member) for member in members], CONFIG)
    assert again == found


@pytest.mark.parametrize(
    "kinds", [["mrnn", "alignment"], ["alignment", "mrnn"], ["mrnn", "transformer"], ["mrnn", "devise", "transformer"]]
)
def test_pruned_and_full_pass_rank_alike(
    make_world: World, evaluation: Evaluate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kinds: list[str]
) -> None:
    weights = np.array([1, 0.5, 2])[: len(kinds)]
    monkeypatch.setattr("mrnn.evaluate.retrieval.combination.choose_weights", lambda *_: weights)
    worlds = [make_world(kind=kind, regions=3 if kind == "alignment" else 1, name=f"{kind}.h5") for kind in kinds]
    found = []
    for full in (False, True):
        config = replace(CONFIG, bound_words=2, full_pass=full)
        members = [evaluation(world, tmp_path / f"{full}-{n}") for n, world in enumerate(worlds)]
        found.append(combined_stage(members, [dev_of(member) for member in members], config))
    pruned, full = found
    assert pruned.summary == full.summary
    assert [member["weight"] for member in pruned.summary["members"]] == weights.tolist()
    assert_alike(pruned.result, full.result)


def test_an_ensemble_is_pruned(make_world: World, evaluation: Evaluate, tmp_path: Path) -> None:
    worlds = [make_world(kind=kind, name=f"{kind}.h5") for kind in ("mrnn", "transformer")]
    pruned, full = (
        averaged_stage(
            [evaluation(world, tmp_path / f"{full}-{n}") for n, world in enumerate(worlds)],
            replace(CONFIG, bound_words=2, full_pass=full),
        )
        for full in (False, True)
    )
    assert pruned is not None
    assert full is not None
    assert_alike(pruned, full)


def assert_alike(pruned: RetrievalResult, full: RetrievalResult) -> None:
    assert pruned.ranks() == full.ranks()
    assert pruned.best_of_ties == full.best_of_ties
    assert pruned.scored_exactly < full.scored_exactly == 1
    for ours, theirs in zip(pruned.images, full.images, strict=True):
        assert [each.text for each in ours.sentences] == [each.text for each in theirs.sentences]
        for one, other in zip(ours.sentences, theirs.sentences, strict=True):
            low, high = one.values["combined"]
            assert low <= other.values["combined"][0] == other.values["combined"][1] <= high


def test_without_weight_the_first_model_ranks(make_world: World, evaluation: Evaluate, tmp_path: Path) -> None:
    member = evaluation(make_world(kind="devise", regions=3, name="regions.h5"), tmp_path / "a")
    pool = build_pool(member.cache, member.images)
    training = sample_training_images(member.cache, 6, seed=0)
    values = member_values(member, CONFIG, pool, member, training, name="x")
    alone = retrieval_stage(member, CONFIG)
    assert alone is not None
    total = weighted_sum([values, -values], np.array([1.0, 0.0]), np.ones(2))
    assert image_to_sentence_ranks(total, pool.owners).tolist() == alone.ranks()["image_to_sentence"]


def test_weights_favour_what_is_right(make_world: World, evaluation: Evaluate, tmp_path: Path) -> None:
    member = evaluation(make_world(), tmp_path / "a")
    pool = build_pool(member.cache, member.images)
    right = (np.arange(len(pool.images))[:, None] == pool.owners).astype(np.float32)
    noise = np.random.default_rng(0).normal(size=right.shape).astype(np.float32)
    assert choose_weights([noise, right], np.ones(2), pool)[1] >= 3
    assert choose_weights([right, noise], np.ones(2), pool).tolist() == [1, 0]


def test_pictures_are_matched_by_id(make_world: World, evaluation: Evaluate, tmp_path: Path) -> None:
    (run, file), other = make_world(), make_world(kind="alignment", regions=3, name="regions.h5")
    turned = shuffled(other[1], tmp_path / "turned.h5")
    first = evaluation((run, file), tmp_path / "a")
    results = []
    for number, cache in enumerate((other[1], turned)):
        second = evaluation((other[0], cache), tmp_path / f"b{number}")
        members = [replace(first, parts=evaluation((run, file), tmp_path / f"a{number}").parts), second]
        results.append(combined_stage(members, [dev_of(member) for member in members], CONFIG).result.ranks())
    assert results[0] == results[1]
    lacking = shuffled(other[1], tmp_path / "less.h5", leave_out=first.cache.images[int(first.images[0])].id)
    members = [first, evaluation((other[0], lacking), tmp_path / "c")]
    with pytest.raises(
        EvaluationError, match="second has no features of it; models are combined on caches of the same pictures"
    ):
        combined_stage(members, [dev_of(member) for member in members], CONFIG)


def test_other_sentences_and_splits_are_refused(make_world: World, evaluation: Evaluate, tmp_path: Path) -> None:
    first, second = evaluation(make_world(), tmp_path / "a"), evaluation(make_world(name="b.h5"), tmp_path / "b")
    images = list(second.cache.images)
    for change, said in (
        ({"sentences": ("Another one.",)}, "other sentences"),
        ({"split": "val"}, "in the split 'val'"),
    ):
        changed = replace(images[-1], **change)
        other = replace(second, cache=replace(second.cache, images=(*images[:-1], changed)))
        with pytest.raises(EvaluationError, match=said):
            combined_stage([first, other], [dev_of(first), dev_of(other)], CONFIG)


def test_scores_for_another_order_of_pictures_are_not_taken_up(make_world: World, tmp_path: Path) -> None:
    (run, file), other = make_world(), make_world(kind="alignment", regions=3, name="regions.h5")
    turned = shuffled(file, tmp_path / "turned.h5")
    for name, cache in (("again", file), ("again", turned), ("anew", turned)):
        evaluate(run, cache, combine=[other], output=tmp_path / name, retrieval=CONFIG, device="cpu")
    again, anew = ((tmp_path / name / "per_image.jsonl").read_bytes() for name in ("again", "anew"))
    assert again == anew


def test_a_stopped_combination_goes_on(
    make_world: World, evaluation: Evaluate, stop_after: StopAfter, tmp_path: Path
) -> None:
    worlds = make_world(), make_world(kind="alignment", regions=3, name="regions.h5")

    def run(output: Path, looks: int | None) -> object:
        stop = {} if looks is None else {"stop": stop_after(looks)}
        members = [evaluation(world, output / str(n), **stop) for n, world in enumerate(worlds)]
        return combined_stage(members, [dev_of(member) for member in members], CONFIG)

    with pytest.raises(Stopped):
        run(tmp_path / "x", 3)
    assert run(tmp_path / "x", None) == run(tmp_path / "y", None)


def test_an_evaluation_writes_what_was_combined(make_world: World, tmp_path: Path) -> None:
    (run, file), (other, regions) = make_world(), make_world(kind="devise", regions=3, name="regions.h5")
    with pytest.raises(SettingError, match="--combine measures retrieval"):
        evaluate(run, file, combine=[(other, regions)], stages=["perplexity"], device="cpu")
    metrics = evaluate(run, file, combine=[(other, regions)], retrieval=CONFIG, device="cpu")
    folder = run / "evaluation-test-combined"
    assert [member["model"] for member in metrics["combined"]["members"]] == ["mrnn", "devise"]
    assert metrics["definitions"]["sentence_to_image"] == "ranked by the same sum, up to a constant for each sentence"
    assert "perplexity" not in metrics
    assert metrics["combined"]["members"][0]["dev"].keys() == {"image_to_sentence", "sentence_to_image"}
    assert "The weights were chosen on" in (folder / "report.html").read_text()

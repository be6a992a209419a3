"""Confidence: the staircase on made-up captions, the file, what dev taught measured on test, and what is refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mrnn.data.errors import EvaluationError, SettingError
from mrnn.evaluate.evaluation import evaluate
from mrnn.evaluate.generation.confidence import (
    BIN,
    FILE,
    Calibration,
    Step,
    bin_numbers,
    fit_calibration,
    rank_correlation,
    read_calibration,
    reliability,
)
from mrnn.evaluate.generation.stage import decoding_settings
from mrnn.evaluate.per_image import read_records
from mrnn.evaluate.settings import DecodingConfig
from mrnn.train.checkpoint import load_trained

World = Callable[..., tuple[Path, Path]]


def captions(count: int, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Confidences and CIDErs that rise with them, in no order."""
    draw = np.random.default_rng(seed)
    sure = draw.normal(-2, 0.5, count)
    return sure, np.maximum(0, 1 + sure / 3 + draw.normal(0, 0.3, count))


def test_bins_are_of_equal_size_and_small_sets_have_one() -> None:
    sure, _ = captions(1000)
    bins = bin_numbers(sure)
    assert np.bincount(bins).tolist() == [100] * 10
    assert all(sure[bins == n].max() < sure[bins == n + 1].min() for n in range(9))
    assert np.bincount(bin_numbers(sure[: 3 * BIN + 7])).min() >= BIN
    assert set(bin_numbers(sure[: 2 * BIN - 1])) == {0}
    assert set(bin_numbers(np.full(500, -1.0))) == {0}, "equal captions are not told apart"


def test_a_staircase_by_hand() -> None:
    sure = np.repeat([-4.0, -3.0, -2.0, -1.0], BIN)
    scored = np.repeat([0.2, 0.6, 0.4, 0.9], BIN)  # the middle two fall: both become their mean
    found = fit_calibration(sure, scored)
    assert [(step.lower, step.captions) for step in found.steps] == [(-4, BIN), (-3, 2 * BIN), (-1, BIN)]
    assert [step.cider for step in found.steps] == pytest.approx([0.2, 0.5, 0.9])
    assert found.predict(np.array([-9, -4, -3.5, -2, -1, 0])).tolist() == pytest.approx([0.2, 0.2, 0.2, 0.5, 0.9, 0.9])
    assert found.step(-2.5) == found.steps[1]
    falling = fit_calibration(sure, np.repeat([0.9, 0.6, 0.4, 0.2], BIN))
    assert falling.steps == (Step(-4, 4 * BIN, pytest.approx(0.525)),)


def test_it_rises_and_keeps_the_mean() -> None:
    for seed in range(5):
        sure, scored = captions(730, seed=seed)
        found = fit_calibration(sure, scored)
        values = [step.cider for step in found.steps]
        assert values == sorted(set(values))
        assert sum(step.captions for step in found.steps) == 730
        assert found.predict(sure).mean() == pytest.approx(scored.mean())


def test_reliability_shows_what_is_off() -> None:
    sure, scored = captions(1000)
    found = fit_calibration(sure, scored)
    own = reliability(found, sure, scored, generator=np.random.default_rng(0))
    assert own["mean_difference"] < 0.02
    other, theirs = captions(1000, seed=1)
    honest = reliability(found, other, theirs, generator=np.random.default_rng(0))
    assert own["mean_difference"] < honest["mean_difference"] < 0.05
    off = reliability(found, other, theirs + 0.5, generator=np.random.default_rng(0))
    assert off["mean_difference"] == pytest.approx(0.5, abs=0.05)
    for each in off["bins"]:
        low, high = each["interval"]
        assert low < each["measured"] < high
        assert each["predicted"] < low
    assert sum(each["captions"] for each in off["bins"]) == 1000


def test_rank_correlation() -> None:
    stats = pytest.importorskip("scipy.stats")
    sure, scored = captions(200)
    assert (scored == 0).sum() > 1, "ties"
    assert rank_correlation(sure, scored) == pytest.approx(stats.spearmanr(sure, scored).statistic)
    assert rank_correlation(sure, np.exp(sure)) == pytest.approx(1)
    assert rank_correlation(sure, np.zeros(200)) is None
    assert rank_correlation(sure[:1], scored[:1]) is None


def test_dev_writes_a_file_that_test_is_measured_with(make_world: World, tmp_path: Path) -> None:
    run, cache = make_world(val=2 * BIN, test=BIN)
    given: dict[str, Any] = {"stages": ["generation"], "perplexity_splits": [], "decoding": DecodingConfig(beam=1)}
    dev = evaluate(run, cache, output=tmp_path / "val", split="val", **given)["confidence"]
    assert dev["fitted_here"]
    content = json.loads((tmp_path / "val" / FILE).read_text())
    assert content["steps"] == dev["steps"]
    records = read_records(tmp_path / "val" / "per_image.jsonl")
    words = [len(record["caption"].split()) + record["complete"] for record in records]
    sure = np.array([record["log_prob"] for record in records]) / words
    scored = np.array([record["scores"]["CIDEr"] for record in records])
    assert fit_calibration(sure, scored) == Calibration(tuple(Step(**step) for step in content["steps"]))
    assert dev["rank_correlation"] == rank_correlation(sure, scored)

    plain = evaluate(run, cache, output=tmp_path / "test", **given)
    assert plain["confidence"].keys() == {"captions", "rank_correlation"}
    assert not (tmp_path / "test" / FILE).exists()
    metrics = evaluate(run, cache, output=tmp_path / "test", confidence=tmp_path / "val" / FILE, **given)
    found = metrics.pop("confidence")
    assert not found["fitted_here"]
    assert found["steps"] == dev["steps"]
    assert found["mean_difference"] >= 0
    assert {**found, **plain["confidence"]} == found
    assert metrics == {name: value for name, value in plain.items() if name != "confidence"}

    flattered, honest = ((tmp_path / split / "report.html").read_text() for split in ("val", "test"))
    for page in (flattered, honest):
        assert '<a href="#confidence">Confidence</a>' in page
        assert page.count('class="spread"') >= 1
    assert "flatters it" in flattered
    assert "flatters it" not in honest


@pytest.fixture
def calibrated(make_world: World, tmp_path: Path) -> tuple[Path, Path, Path]:
    """A run, its cache and the confidence.json of its dev split."""
    run, cache = make_world(val=10)
    evaluate(run, cache, output=tmp_path / "val", split="val", stages=["generation"], decoding=DecodingConfig(beam=2))
    return run, cache, tmp_path / "val" / FILE


def test_only_what_captions_depend_on_must_be_equal(calibrated: tuple[Path, Path, Path]) -> None:
    run, _, file = calibrated
    trained = load_trained(run)
    same = decoding_settings(DecodingConfig(beam=2, seed=7), [])  # a search draws nothing
    assert read_calibration(file, trained, same).steps
    for other, says in (
        (DecodingConfig(beam=3), "beam 2 there, 3 here"),
        (DecodingConfig(beam=2, length_norm=True), "length_norm False there, True here"),
        (DecodingConfig(beam=2, max_steps=9), "max_steps 30 there, 9 here"),
    ):
        with pytest.raises(EvaluationError, match=says):
            read_calibration(file, trained, decoding_settings(other, []))
    with pytest.raises(EvaluationError, match="prefix none there, a dog here"):
        read_calibration(file, trained, decoding_settings(DecodingConfig(beam=2), ["a", "dog"]))
    with pytest.raises(EvaluationError, match="consensus_images none there, 15 here"):
        read_calibration(file, trained, {**same, "consensus_images": 15})


def test_another_checkpoint_and_other_files_are_refused(calibrated: tuple[Path, Path, Path], tmp_path: Path) -> None:
    run, _, file = calibrated
    settings = decoding_settings(DecodingConfig(beam=2), [])
    content = json.loads(file.read_text())
    broken: list[Any] = [[], {}, {**content, "steps": []}, {**content, "steps": [{"lower": "x"}]}]
    broken += [{**content, "steps": [{"lower": None, "captions": 1, "cider": 1}]}, {**content, "decoding": {}}]
    for each in broken:
        (tmp_path / "other.json").write_text(json.dumps(each))
        with pytest.raises(EvaluationError, match="holds no calibration of confidence"):
            read_calibration(tmp_path / "other.json", load_trained(run), settings)
    with pytest.raises(EvaluationError, match=r"nowhere\.json"):
        read_calibration(tmp_path / "nowhere.json", load_trained(run), settings)
    (tmp_path / "other.json").write_text(json.dumps({**content, "checkpoint_sha256": "0"}))
    with pytest.raises(EvaluationError, match=r"another checkpoint .* evaluate-mrnn --split val"):
        read_calibration(tmp_path / "other.json", load_trained(run), settings)


def test_an_evaluation_refuses_it_before_any_work(calibrated: tuple[Path, Path, Path], tmp_path: Path) -> None:
    run, cache, file = calibrated
    refused: list[dict[str, Any]] = [{"split": "val"}, {"stages": ["retrieval"]}, {"combine": [(run, cache)]}]
    for given in refused:
        with pytest.raises(SettingError, match="--confidence"):
            evaluate(run, cache, output=tmp_path / "out", confidence=file, decoding=DecodingConfig(beam=2), **given)
    with pytest.raises(EvaluationError, match="beam 2 there, 5 here"):
        evaluate(run, cache, output=tmp_path / "out", confidence=file)
    assert not (tmp_path / "out").exists()

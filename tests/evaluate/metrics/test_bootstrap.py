"""Weighted statistics against really repeated samples, intervals against theory, p values by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mrnn.evaluate.metrics import bootstrap
from mrnn.evaluate.metrics.bootstrap import interval, median, p_value, ratio, resample


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=4), min_size=1, max_size=6), st.data())
def test_weights_stand_for_repeats(ranks: list[list[int]], data: st.DataObject) -> None:
    """Every image is drawn with all of its queries: median and recall equal those of the list written out."""
    drawn = data.draw(st.lists(st.integers(0, len(ranks) - 1), min_size=1, max_size=8))
    written_out = np.concatenate([ranks[image] for image in drawn])
    weights = np.bincount(drawn, minlength=len(ranks)).astype(float)[None]
    queries = np.array([len(each) for each in ranks])
    image = np.repeat(np.arange(len(ranks)), queries)
    assert median(np.concatenate(ranks), image)(weights)[0] == np.median(written_out)
    hits = np.array([sum(rank <= 3 for rank in each) for each in ranks])
    assert ratio(hits, queries)(weights)[0] == pytest.approx((written_out <= 3).mean())


def test_intervals_cover_the_truth_as_often_as_they_say() -> None:
    """Of 300 samples of 80 values, the 95 % interval of the mean holds the true one in 95 %, within 3 sigma."""
    generator = np.random.default_rng(5)
    held = 0
    for _ in range(300):
        values = generator.gamma(2.0, size=80)
        low, high = interval(resample({"m": ratio(values, np.ones(80))}, 80, generator=generator, resamples=400)["m"])
        held += low <= 2.0 <= high
    assert 0.90 < held / 300 < 0.985


def test_draws_are_seeded_shared_and_not_those_of_the_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.arange(30.0)
    statistics = {"mean": ratio(values, np.ones(30)), "again": ratio(values, np.ones(30)), "sum": lambda w: w.sum(1)}
    drawn = resample(statistics, 30, generator=np.random.default_rng(1), resamples=250)
    assert drawn["mean"].shape == (250,)
    assert (drawn["mean"] == drawn["again"]).all(), "the same draws for every statistic: that is what pairs them"
    assert (drawn["sum"] == 30).all()
    assert drawn["mean"].std() == pytest.approx(values.std() / np.sqrt(30), rel=0.15)
    monkeypatch.setattr(bootstrap, "CHUNK", 7)
    again = resample(statistics, 30, generator=np.random.default_rng(1), resamples=250)
    assert (again["mean"] == drawn["mean"]).all()
    other = resample(statistics, 30, generator=np.random.default_rng(2), resamples=250)
    assert (other["mean"] != drawn["mean"]).any()


def test_p_values_by_hand() -> None:
    gaps = np.concatenate([np.full(97, 0.5), [-0.1, -0.2, 0.0]])
    assert p_value(gaps) == pytest.approx(2 * (3 + 1) / 101), "two below 0 and one at 0 of a hundred"
    assert p_value(-gaps) == p_value(gaps)
    assert p_value(np.ones(999)) == pytest.approx(0.002)
    assert p_value(np.zeros(100)) == 1.0

"""Means and deviations are computed once, and what was computed before a stop is kept."""

from pathlib import Path

import numpy as np
import pytest

from mrnn.evaluate.search.moments import Moments

ABOUT = {"checkpoint_sha256": "a"}


class Compute:
    """Remembers what it was asked for; stops at number 8."""

    def __init__(self) -> None:
        self.asked: list[list[int]] = []

    def __call__(self, numbers: np.ndarray) -> np.ndarray:
        if 8 in numbers:
            raise KeyboardInterrupt
        self.asked.append(numbers.tolist())
        return np.stack([numbers, numbers + 0.5], axis=1)


def test_each_is_computed_once() -> None:
    compute = Compute()
    table = Moments("things", 9, compute, block=2, file=None, about={})
    np.testing.assert_array_equal(table(np.array([3, 1, 5])), [[3, 3.5], [1, 1.5], [5, 5.5]])
    np.testing.assert_array_equal(table(np.array([1, 2])), [[1, 1.5], [2, 2.5]])
    assert compute.asked == [[3, 1], [5], [2]]


def test_what_was_computed_before_a_stop_is_kept_for_equal_data(tmp_path: Path) -> None:
    file, first, second, other = tmp_path / "new" / "x.safetensors", Compute(), Compute(), Compute()
    with pytest.raises(KeyboardInterrupt):
        Moments("things", 9, first, block=2, file=file, about=ABOUT)(np.array([0, 1, 8]))
    table = Moments("things", 9, second, block=2, file=file, about=ABOUT)
    np.testing.assert_array_equal(table(np.array([1, 4])), [[1, 1.5], [4, 4.5]])
    assert second.asked == [[4]]
    Moments("things", 9, other, block=2, file=file, about={"checkpoint_sha256": "b"})(np.array([1, 4]))
    assert other.asked == [[1, 4]], "those of another checkpoint do not count"

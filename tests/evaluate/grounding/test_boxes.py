"""Overlap, centres and hulls of rectangles, worked out by hand."""

import numpy as np
import pytest

from mrnn.data.captions import Box
from mrnn.evaluate.grounding.boxes import centre_inside, enough_overlap, hull, overlap


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ((0, 0, 4, 4), (0, 0, 4, 4), 1),
        ((0, 0, 4, 4), (2, 0, 4, 4), 8 / 24),
        ((0, 0, 4, 4), (2, 2, 4, 4), 4 / 28),
        ((0, 0, 10, 10), (1, 2, 3, 4), 12 / 100),
        ((0, 0, 4, 4), (4, 0, 4, 4), 0),
        ((0, 0, 4, 4), (9, 9, 1, 1), 0),
        ((0, 0, 0, 0), (0, 0, 0, 0), 0),
    ],
)
def test_overlap(one: tuple[int, ...], other: tuple[int, ...], expected: float) -> None:
    rectangles = np.array(one, float), np.array(other, float)
    assert overlap(*rectangles) == overlap(*rectangles[::-1]) == pytest.approx(expected)


def test_exactly_half_is_enough() -> None:
    whole = np.array([0.0, 0, 10, 10])
    assert enough_overlap(np.array([[0.0, 0, 5, 10], [0, 0, 4.9, 10]]), whole).tolist() == [True, False]


def test_the_centre_counts_on_the_edge_too() -> None:
    one = np.array([[0.0, 0, 4, 4], [0, 0, 4.2, 4], [0, 0, 4, 20], [3, 1, 2, 2]])
    assert centre_inside(one, np.array([2.0, 1, 10, 3])).tolist() == [True, True, False, True]
    assert not centre_inside(np.array([0.0, 0, 3.9, 4]), np.array([2.0, 1, 10, 3]))


def test_hull() -> None:
    boxes = [Box(2, 3, 4, 5, "x"), Box(1, 6, 2, 7, "x")]
    assert hull(boxes) == (1, 3, 5, 10)
    assert hull(boxes[:1]) == (2, 3, 4, 5)

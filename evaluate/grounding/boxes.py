"""How well rectangles agree. A rectangle is (..., 4): left, top, width, height in pixels; leading axes broadcast."""

from collections.abc import Callable, Sequence

import numpy as np

from mrnn.data.captions import Box

ENOUGH = 0.5  # the overlap from which on a region is right, of Flickr30k Entities (Plummer et al. 2017)


def overlap(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Intersection over union, in [0, 1]; 0 for rectangles without area."""
    width, height = (
        np.minimum(one[..., side] + one[..., side + 2], other[..., side] + other[..., side + 2])
        - np.maximum(one[..., side], other[..., side])
        for side in (0, 1)
    )
    common = width.clip(0) * height.clip(0)
    union = one[..., 2] * one[..., 3] + other[..., 2] * other[..., 3] - common
    return np.divide(common, union, out=np.zeros(union.shape), where=union > 0)


def centre_inside(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Whether the centre of one rectangle lies in the other, its edge included: the pointing game."""
    centre = one[..., :2] + one[..., 2:] / 2
    return ((other[..., :2] <= centre) & (centre <= other[..., :2] + other[..., 2:])).all(axis=-1)


def enough_overlap(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Whether the overlap is at least ENOUGH."""
    return overlap(one, other) >= ENOUGH


def hull(boxes: Sequence[Box]) -> tuple[float, float, float, float]:
    """The smallest rectangle that holds some boxes."""
    left, top = min(box.left for box in boxes), min(box.top for box in boxes)
    right = max(box.left + box.width for box in boxes)
    bottom = max(box.top + box.height for box in boxes)
    return left, top, right - left, bottom - top


# Measure -> when a region is right, given the true box.
RIGHT: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {"iou": enough_overlap, "pointing": centre_inside}
# Measure -> what choosing the first region is worth if the second one is the true box, in [0, 1].
WORTH: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {"iou": overlap, "pointing": centre_inside}

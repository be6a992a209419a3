"""Features of others as a reader found them: the ids at once, the rows when they are asked for."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mrnn.data.regions import NO_CLASS, Regions, found_regions, whole_picture

LARGEST_FEATURE, MOST_REGIONS = 2**20, 10_000  # more is a damaged or hostile file


@dataclass(frozen=True)
class ImageRows:
    """What a file holds of one image.

    features : (1 + k, D), any float or integer type: the whole picture, then k regions, best first.
    regions : where they are; None for a whole picture of unknown size.
    picture_hash : (16,) uint8, BLAKE2b-128 of the picture's file, or None.
    """

    features: np.ndarray
    regions: Regions | None = None
    picture_hash: np.ndarray | None = None


@dataclass(frozen=True)
class Source:
    """The features in a file or a folder. An import holds the rows of a few images at a time.

    path : the file or folder.
    ids : of the images; None where nothing says, and the order is the data set's own.
    count : number of images.
    feature_size : D.
    regions : the most regions that an image has.
    read : the rows of an image, given its number. Raises ValueError, OSError and so on for damaged contents.
    where : file and line or row of an image, for messages.
    files : all the files that are read; those of a hash over the source.
    sentences : captions of each image, by which images can be joined, or None.
    provenance : of features that mrnn computed, with their dtype; None for those of others.
    """

    path: Path
    ids: tuple[str, ...] | None
    count: int
    feature_size: int
    regions: int
    read: Callable[[int], ImageRows] = field(repr=False)
    where: Callable[[int], str] = field(repr=False)
    files: tuple[Path, ...]
    sentences: tuple[tuple[str, ...], ...] | None = None
    provenance: Mapping[str, str | int | float | bool] | None = None

    def __post_init__(self) -> None:
        if not self.count:
            raise ValueError("it holds no image")
        if not 1 <= self.feature_size <= LARGEST_FEATURE or self.regions > MOST_REGIONS:
            raise ValueError(f"{self.regions} regions of {self.feature_size} numbers, which no network has")


def with_regions(
    features: np.ndarray,
    *,
    corners: np.ndarray | None = None,
    size: tuple[float, float] = (0, 0),
    scores: np.ndarray | None = None,
    classes: np.ndarray | None = None,
    whole: np.ndarray | None = None,
) -> ImageRows:
    """The rows of an image from those of its regions.

    features : (k, D), k at least 1.
    corners : (k, 4) left, top, right, bottom in pixels; None where unknown.
    size : width and height of the picture; 0 where unknown.
    scores, classes : (k,); with scores the regions are sorted by them, best first, else they keep their order.
    whole : (D,) feature of the whole picture; without one it is the mean of the regions, as is usual for features of
        bottom-up attention (Anderson et al. 2018).

    Raises ValueError for boxes that are none.
    """
    count = len(features)
    if not count:
        raise ValueError("an image without regions")
    if whole is None:
        whole = features.mean(axis=0, dtype=np.float64).astype(features.dtype)
    if whole.shape != features.shape[1:]:
        raise ValueError(f"{len(whole)} numbers for the whole picture, and {features.shape[1]} for a region")
    if corners is None:
        corners = np.zeros((count, 4))
    corners = np.asarray(corners, np.float64)
    if corners.shape != (count, 4) or not np.isfinite(corners).all():
        raise ValueError(f"boxes of shape {corners.shape}, or not finite; {count} x 4 corners were expected")
    rectangles = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1)
    if (rectangles[:, 2:] < 0).any():
        raise ValueError("a box whose right or lower edge comes before its left or upper one")
    order = np.arange(count) if scores is None else np.argsort(-scores, kind="stable")
    found = found_regions(
        rectangles[order],
        np.zeros(count) if scores is None else scores[order],
        np.full(count, NO_CLASS) if classes is None else classes[order],
    )
    regions = Regions.unknown(1 + count)
    if size[0] and size[1]:
        regions.put(0, whole_picture(*map(round, size)), limit=1)
    regions.put(1, found, limit=count)
    return ImageRows(np.concatenate([whole[None], features[order]]), regions)

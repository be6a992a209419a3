"""Where the feature rows of an image were taken from: the whole picture and its regions."""

from dataclasses import dataclass

import numpy as np

NO_CLASS = -1
# The tables of a cache that hold regions, in the order in which a checksum covers them.
REGION_TABLES = ("rectangle", "region_score", "region_class", "valid")


@dataclass(frozen=True)
class Regions:
    """Regions of some images, R rows each: row 0 the whole picture, then its regions, best first.

    rectangles : (n * R, 4) float32; left, top, width, height in pixels of the upright picture. Zeros where unknown.
    scores : (n * R,) float32; the detector's confidence, 1 for boxes that somebody drew, 0 where there is none.
    classes : (n * R,) int32; number of the detector's class, NO_CLASS where there is none.
    valid : (n * R,) uint8; 1 where the row holds features: an image may have fewer regions than R - 1.
    """

    rectangles: np.ndarray
    scores: np.ndarray
    classes: np.ndarray
    valid: np.ndarray

    @staticmethod
    def empty(rows: int) -> "Regions":
        """`rows` rows that hold nothing yet."""
        return Regions(
            np.zeros((rows, 4), np.float32),
            np.zeros(rows, np.float32),
            np.full(rows, NO_CLASS, np.int32),
            np.zeros(rows, np.uint8),
        )

    @staticmethod
    def unknown(rows: int) -> "Regions":
        """`rows` rows with features from places that nobody recorded, as in a cache of schema version 1."""
        regions = Regions.empty(rows)
        regions.valid[:] = 1
        return regions

    def __getitem__(self, rows: slice | np.ndarray) -> "Regions":
        """Some of the rows."""
        return Regions(self.rectangles[rows], self.scores[rows], self.classes[rows], self.valid[rows])

    def put(self, row: int, found: "Regions", *, limit: int) -> None:
        """Write regions into the rows from `row` on, at most `limit` of them."""
        n = min(len(found.valid), limit)
        for mine, theirs in zip(self.tables().values(), found.tables().values(), strict=True):
            mine[row : row + n] = theirs[:n]

    def tables(self) -> dict[str, np.ndarray]:
        """The arrays under their names in a cache, as they are stored."""
        return dict(zip(REGION_TABLES, (self.rectangles, self.scores, self.classes, self.valid), strict=True))


def whole_picture(width: int, height: int) -> Regions:
    """The one row of a picture as a whole."""
    return found_regions(np.array([[0, 0, width, height]]), np.ones(1), np.full(1, NO_CLASS))


def found_regions(rectangles: np.ndarray, scores: np.ndarray, classes: np.ndarray) -> Regions:
    """Valid rows of (n, 4) rectangles, (n,) scores and (n,) classes of any number type."""
    n = len(rectangles)
    return Regions(
        np.asarray(rectangles, np.float32).reshape(n, 4),
        np.asarray(scores, np.float32),
        np.asarray(classes, np.int32),
        np.ones(n, np.uint8),
    )


def rows_of(images: np.ndarray, rows_per_image: int) -> np.ndarray:
    """Numbers of the rows of some images, (n * R,) int64: all of the first image's, then the second's, ..."""
    return (images[:, None] * rows_per_image + np.arange(rows_per_image)).ravel()

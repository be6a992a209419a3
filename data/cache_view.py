"""A feature cache read like a table: a row for each image, found by its id."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from mrnn.data.cache_layout import STATE_DONE
from mrnn.data.captions import Image
from mrnn.data.errors import CacheError

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True)
class CachedImage:
    """An image of a cache with its features.

    id, path, split, sentences : as in the data set (mrnn.data.captions.Image).
    features : (D,), or in a cache with regions (R, D) with the whole picture first; None for an image that has none,
        because it could not be read or is still pending. A copy, of the cache's dtype.
    rectangles : (R, 4) float32 of those rows: left, top, width, height in pixels; zeros where unknown.
    valid : (R,) bool, which rows hold features; an image may have fewer regions than the cache has room for.
    """

    id: str
    path: str
    split: str
    sentences: tuple[str, ...]
    features: np.ndarray | None = field(repr=False)
    rectangles: np.ndarray = field(repr=False)
    valid: np.ndarray = field(repr=False)


class CacheView(ABC):
    """The table's methods of mrnn.data.cache.FeatureCache: len(cache), cache["1000.jpg"], iteration, `to_pandas`."""

    images: tuple[Image, ...]
    states: np.ndarray
    rows_per_image: int
    regions: Any

    @abstractmethod
    def read(self, images: np.ndarray, *, out: np.ndarray | None = None) -> np.ndarray:
        """See `FeatureCache.read`."""

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {image.id: number for number, image in enumerate(self.images)}

    def number_of(self, image_id: str) -> int:
        """The number of an image: its place in `images`, and its first row of features divided by `rows_per_image`.

        Raises CacheError if there is no such image.
        """
        if image_id not in self._numbers:
            raise CacheError(f"there is no image {image_id!r} in this cache; the first one is {self.images[0].id!r}")
        return self._numbers[image_id]

    def __len__(self) -> int:
        return len(self.images)

    def __contains__(self, image_id: object) -> bool:
        return image_id in self._numbers

    def __iter__(self) -> Iterator[CachedImage]:
        return (self._row(number) for number in range(len(self.images)))

    def __getitem__(self, image_id: str) -> CachedImage:
        """An image by its id. Raises CacheError if there is no such image."""
        return self._row(self.number_of(image_id))

    def to_pandas(self) -> "pandas.DataFrame":
        """A row for each image, by id: path, split, sentences, done (whether it has features).

        Raises CacheError without the package pandas.
        """
        try:
            import pandas
        except ImportError:
            raise CacheError("to_pandas needs the package pandas, which is not installed: pip install pandas") from None
        return pandas.DataFrame(
            {
                "path": [image.path for image in self.images],
                "split": [image.split for image in self.images],
                "sentences": [list(image.sentences) for image in self.images],
                "done": self.states == STATE_DONE,
            },
            index=pandas.Index([image.id for image in self.images], name="id"),
        )

    def _row(self, number: int) -> CachedImage:
        image, rows = self.images[number], self.rows_per_image
        places = slice(number * rows, (number + 1) * rows)
        features = None
        if self.states[number] == STATE_DONE:
            found = self.read(np.array([number]))
            features = found if rows > 1 else found[0]
        return CachedImage(
            id=image.id,
            path=image.path,
            split=image.split,
            sentences=image.sentences,
            features=features,
            rectangles=np.array(self.regions.rectangles[places]),
            valid=np.array(self.regions.valid[places], dtype=bool),
        )

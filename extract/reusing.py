"""Rows of older caches that need not be computed again: of pictures with the same bytes, under the same settings."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mrnn.data.cache import FeatureCache, matching_settings, open_cache, read_checksums
from mrnn.data.cache_layout import STATE_DONE
from mrnn.data.errors import CacheError
from mrnn.data.regions import Regions, rows_of
from mrnn.data.verify import is_intact
from mrnn.extract.regions import GivenBoxes, RegionSource

# What must agree beside the settings of features and regions; batch size, threads and device move last bits alone.
STORED_SETTINGS = ("dtype", "precision")


class Reusable:
    """Finds the rows of a picture by the hash of its file, whatever its id, path, split and captions."""

    def __init__(
        self, paths: Sequence[Path], provenance: Mapping[str, Any], *, source: RegionSource | None = None
    ) -> None:
        """paths : caches, of which the first that has a picture counts; unfinished ones are taken as far as they are.

        provenance : of the features that are wanted. source : of their regions; given boxes need not follow from the
        picture, so they are compared with those of the older cache.
        Raises CacheError if a cache has no hashes or was made with other settings, naming them.
        """
        self._given = source if isinstance(source, GivenBoxes) else None
        self._by_hash: dict[bytes, tuple[FeatureCache, int]] = {}
        self._sums: dict[Path, np.ndarray] = {}
        for path in paths:
            cache = open_cache(path, allow_partial=True)
            names = matching_settings(cache.provenance, provenance, regions=True)
            if self._given is not None:  # then the regions themselves are compared
                names = [name for name in names if name not in ("regions", "region_settings")]
            names += [name for name in STORED_SETTINGS if cache.provenance.get(name) != provenance.get(name)]
            if names:
                was, now = cache.provenance.get(names[0]), provenance.get(names[0])
                raise CacheError(
                    f"{path} cannot be reused: it has another {', '.join(names)} ({names[0]} was {was}, now {now})"
                )
            if "picture_hash" not in cache.offsets:
                raise CacheError(f"{path} cannot be reused: it has schema version 1, which has no hashes of pictures")
            self._sums[path] = read_checksums(cache)
            for number in np.flatnonzero(cache.states == STATE_DONE).tolist():
                digest = cache.picture_hashes[number].tobytes()
                if any(digest):
                    self._by_hash.setdefault(digest, (cache, number))

    def find(self, image_id: str, digest: bytes) -> tuple[FeatureCache, int] | None:
        """The cache and the number there of a picture with that hash; None if none is intact and fits."""
        found = self._by_hash.get(digest)
        if found is None:
            return None
        cache, number = found
        if not is_intact(cache, number, int(self._sums[cache.path][number])):
            return None
        if self._given is not None:
            rows = cache.regions[rows_of(np.array([number]), cache.rows_per_image)]
            width, height = rows.rectangles[0, 2:]
            wanted = Regions.empty(cache.rows_per_image)
            wanted.put(0, rows, limit=1)
            wanted.put(1, self._given.find(image_id, (int(width), int(height)), None), limit=cache.rows_per_image - 1)
            same = zip(rows.tables().values(), wanted.tables().values(), strict=True)
            if not all(np.array_equal(mine, theirs) for mine, theirs in same):
                return None
        return found

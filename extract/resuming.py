"""Resuming a cache that an earlier run started: only with the settings it was started with."""

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mrnn.data.cache import REGION_SETTINGS, FeatureCache, open_cache
from mrnn.data.cache_creation import create_cache
from mrnn.data.cache_writer import CacheWriter
from mrnn.data.captions import Corpus
from mrnn.data.errors import CacheError
from mrnn.data.progress import silent

# Recorded settings that must be the same for a cache to be resumed.
FIXED_SETTINGS = (
    "dataset",
    "annotation_sha256",
    "limit",
    "backbone",
    "layer",
    "views",
    "relu",
    "weights_sha256",
    "preprocessing",
    "dtype",
    "batch_size",
    "precision",
    *REGION_SETTINGS,
)
# Recorded settings that may change; the last bits of features then differ between the images before and after.
NOTED_SETTINGS = ("device", "torch", "torchvision", "pillow")


class AskedCache:
    """The cache that a run was asked for, to compare with the one that exists.

    path : the file.
    part : the images of this file and their captions.
    provenance : settings and versions of this run.
    first, total : the place of the first image in the whole data set, and the size of that.
    threads : number of network threads if the user gave one; None to keep the recorded one.
    """

    def __init__(
        self,
        path: Path,
        part: Corpus,
        provenance: Mapping[str, str | int],
        *,
        first: int,
        total: int,
        threads: int | None,
    ) -> None:
        self._path, self._part, self._provenance = path, part, provenance
        self._first, self._total, self._threads = first, total, threads

    def create(self, *, feature_size: int, rows_per_image: int = 1) -> None:
        """Create the file with all images pending. feature_size : numbers per row, D."""
        create_cache(
            self._path,
            self._part,
            self._provenance,
            feature_size=feature_size,
            dtype=str(self._provenance["dtype"]),
            rows_per_image=rows_per_image,
            first=self._first,
            total=self._total,
        )

    def check(self, cache: FeatureCache, *, report: Callable[[str], None] = silent) -> None:
        """Raise CacheError, naming every setting that differs, if the file was started with other ones.

        report : called with a line for each setting that may change and did.
        """
        if differing := self._differing(cache):
            raise CacheError(
                f"{self._path} was started with different settings: {'; '.join(differing)}. Give the same settings, "
                "another --output, or --overwrite to compute everything again"
            )
        for name in NOTED_SETTINGS:
            was, now = cache.provenance.get(name), self._provenance[name]
            if was != now:
                report(f"note: started with {name} {was}, now {now}: the last bits of features may differ")

    def remove_unless_it_fits(self, *, lock: bool) -> None:
        """Remove the file, unless an interrupted run with the same settings left it."""
        try:
            open_cache(self._path, allow_partial=True)
        except CacheError:  # damaged
            self._path.unlink()
            return
        with CacheWriter(self._path, lock=lock) as writer:
            if self._differing(writer.cache):
                self._path.unlink()

    def _differing(self, cache: FeatureCache) -> list[str]:
        names = FIXED_SETTINGS + (("threads",) if self._threads else ())
        then: dict[str, Any] = {name: cache.provenance.get(name) for name in names}
        now: dict[str, Any] = {name: self._provenance.get(name) for name in names}
        images = {"images": (cache.first, len(cache.images), cache.total)}
        then |= images
        now |= {"images": (self._first, len(self._part.images), self._total)}
        for settings in (then, now):
            settings |= _fields(settings.pop("preprocessing"))
        texts = [
            f"{name} was {_shown(then.get(name))}, now {_shown(now.get(name))}"
            for name in dict.fromkeys([*then, *now])
            if then.get(name) != now.get(name)
        ]
        if not texts and cache.images != self._part.images:
            texts = ["the captions or the list of pictures"]
        return texts


def _fields(preprocessing: object) -> dict[str, Any]:
    """The fields of the recorded preprocessing, so that the one that differs can be named."""
    try:
        fields = json.loads(preprocessing) if isinstance(preprocessing, str) else None
    except ValueError:
        fields = None
    return dict(fields) if isinstance(fields, dict) else {"preprocessing": preprocessing}


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        first, number, total = value
        return f"{number} of {total} from number {first}"
    if value is None:
        return "none"
    return f"{value:.12}" if isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value) else str(value)

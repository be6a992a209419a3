"""Going on with a cache that an earlier run began: only with the settings it was begun with."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from mrnn.data.cache import FeatureCache, create_cache, open_cache
from mrnn.data.cache_writer import CacheWriter
from mrnn.data.captions import Corpus
from mrnn.data.errors import CacheError

# Recorded settings that must be the same when a run goes on.
FIXED_SETTINGS = (
    "dataset",
    "annotation_sha256",
    "limit",
    "backbone",
    "layer",
    "relu",
    "weights_sha256",
    "preprocessing",
    "dtype",
    "batch_size",
    "precision",
)
# Recorded settings that may change, at the price of bits that differ between the images before and after.
NOTED_SETTINGS = ("device", "torch", "torchvision", "pillow")


class AskedCache:
    """The file that this command should make, to compare with the one that is there.

    threads : as given, None if left open; a file goes on with the number it was begun with.
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

    def create(self, *, feature_size: int) -> None:
        create_cache(
            self._path,
            self._part,
            self._provenance,
            feature_size=feature_size,
            dtype=str(self._provenance["dtype"]),
            first=self._first,
            total=self._total,
        )

    def check(self, cache: FeatureCache) -> None:
        """Raises CacheError, naming every setting that differs, if the file was begun with other ones."""
        if differing := self._differing(cache):
            raise CacheError(
                f"{self._path} was begun with other settings: {'; '.join(differing)}. Give the same settings, another "
                "--output, or --overwrite to start afresh"
            )
        for name in NOTED_SETTINGS:
            was, now = cache.provenance.get(name), self._provenance[name]
            if was != now:
                click.echo(f"note: begun with {name} {was}, going on with {now}: last bits may differ", err=True)

    def remove_unless_it_fits(self, *, lock: bool) -> None:
        """Make way for a new file, unless an interrupted run with the same settings left this one."""
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
        now: dict[str, Any] = {name: self._provenance[name] for name in names}
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
    """The fields of recorded preprocessing, to name the one that differs."""
    try:
        fields = json.loads(preprocessing) if isinstance(preprocessing, str) else None
    except ValueError:
        fields = None
    return dict(fields) if isinstance(fields, dict) else {"preprocessing": preprocessing}


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        first, number, total = value
        return f"{number} of {total} from number {first}"
    return f"{value:.12}" if isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value) else str(value)

"""Check every row of a feature cache against its checksum."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mrnn.data.cache import STATE_DONE, STATE_FAILED, STATE_PENDING, FeatureCache, open_cache, read_checksums
from mrnn.data.cache_writer import done_checksum, failed_checksum


@dataclass(frozen=True)
class Verification:
    """What a check of a whole cache found. damaged : ids whose rows, reason or mark are not what was written."""

    done: int
    failed: int
    pending: int
    damaged: tuple[str, ...]


def verify_cache(path: str | Path) -> Verification:
    """Read all rows and compare their checksums, one image in memory at a time.

    Raises CacheError where `open_cache` would; damage to rows is returned, not raised.
    """
    cache = open_cache(path, allow_partial=True)
    sums = read_checksums(cache)
    damaged = tuple(
        image.id for number, image in enumerate(cache.images) if not is_intact(cache, number, int(sums[number]))
    )
    counts = [int((cache.states == state).sum()) for state in (STATE_DONE, STATE_FAILED, STATE_PENDING)]
    return Verification(counts[0], counts[1], counts[2], damaged)


def is_intact(cache: FeatureCache, number: int, checksum: int) -> bool:
    """Whether an image's rows (or its reason, if it failed) have the checksum that was stored with them."""
    image_id, state = cache.images[number].id, cache.states[number]
    if state == STATE_PENDING:
        return True
    if state == STATE_FAILED:
        return failed_checksum(image_id, cache.reasons[image_id].encode()) == checksum
    if state != STATE_DONE:
        return False
    rows = cache.features[number * cache.rows_per_image : (number + 1) * cache.rows_per_image]
    return done_checksum(image_id, np.asarray(rows)) == checksum

"""Check every row of a feature cache against its checksum."""

from dataclasses import dataclass
from pathlib import Path

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
    """Whether what is stored of an image (its reason, if it failed) has the checksum that was stored with it."""
    image_id, state = cache.images[number].id, cache.states[number]
    digest = [cache.picture_hashes[number]] if "picture_hash" in cache.offsets else []
    if state == STATE_PENDING:
        return True
    if state == STATE_FAILED:
        return failed_checksum(image_id, cache.reasons[image_id].encode(), b"".join(map(bytes, digest))) == checksum
    if state != STATE_DONE:
        return False
    rows = slice(number * cache.rows_per_image, (number + 1) * cache.rows_per_image)
    regions = cache.regions[rows].tables().values() if "rectangle" in cache.offsets else ()
    return done_checksum(image_id, cache.features[rows], *regions, *digest) == checksum

"""Join the shards of an extraction into one cache, equal byte for byte to an extraction in one piece."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mrnn.data.cache import STATE_DONE, STATE_FAILED, FeatureCache, open_cache, read_checksums
from mrnn.data.cache_creation import create_cache
from mrnn.data.cache_writer import CacheWriter
from mrnn.data.captions import Corpus
from mrnn.data.errors import CacheError
from mrnn.data.progress import Progress
from mrnn.data.regions import rows_of
from mrnn.data.stopping import StopRequest
from mrnn.data.verify import is_intact

BYTES_AT_ONCE = 4 << 20


def merge_caches(
    output: str | Path, shards: Sequence[str | Path], *, lock: bool = True, stop: StopRequest | None = None
) -> FeatureCache:
    """Copy the rows of all shards into `output`, checking each against its checksum; the same call resumes it.

    Images that failed in a shard are failed in the result. Rows are copied BYTES_AT_ONCE at a time.
    Raises CacheError if shards are incomplete, damaged, of different provenance, overlap or leave a gap, or if
    `output` is something else than an unfinished merge of the same shards. Raises Stopped, with all copied rows saved,
    if `stop` asks for it.
    """
    output, stop = Path(output), stop or StopRequest()
    caches = sorted((open_cache(path) for path in shards), key=lambda cache: cache.first)
    _check_fit(caches)
    first = caches[0]
    images = tuple(image for cache in caches for image in cache.images)
    corpus = Corpus(first.dataset, first.root, images, problems=first.problems, integer_ids=first.integer_ids)
    if not output.exists():
        create_cache(
            output,
            corpus,
            first.provenance,
            feature_size=first.feature_size,
            dtype=first.features.dtype.name,
            rows_per_image=first.rows_per_image,
        )
    with CacheWriter(output, lock=lock) as writer:
        if writer.cache.images != images or writer.cache.provenance != first.provenance:
            raise CacheError(f"{output} exists and is not a merge of these shards; choose another name or remove it")
        with Progress("merge", len(images), unit="images", done=len(images) - len(writer.pending())) as progress:
            for cache in caches:
                step = images_at_once(cache)
                for begin in range(0, len(cache.images), step):
                    progress.add(_copy(cache, writer, begin, min(begin + step, len(cache.images))))
                    if stop.reason:
                        raise stop.stopped(f"{len(images) - len(writer.pending())} of {len(images)} images are merged")
    return open_cache(output)


def _copy(cache: FeatureCache, writer: CacheWriter, begin: int, end: int) -> int:
    """Copy the images begin..end-1 of a shard that the output does not have yet; return how many."""
    pending = np.array([n for n in range(begin, end) if not writer.states[cache.first + n]], dtype=np.int64)
    copy_images(cache, pending, writer, pending + cache.first)
    return len(pending)


def copy_images(cache: FeatureCache, theirs: np.ndarray, writer: CacheWriter, ours: np.ndarray) -> None:
    """Copy what a cache holds of some images, done or failed, checked against its checksums.

    theirs : (n,) int64, numbers of the images in `cache`. ours : (n,) int64, where they go to.
    Raises CacheError, with nothing copied, if one is damaged.
    """
    sums = read_checksums(cache)
    damaged = [cache.images[n].id for n in theirs if not is_intact(cache, n, int(sums[n]))]
    if damaged:
        raise CacheError(
            f"{cache.path}: the rows of {damaged[0]!r} ({len(damaged)} images) are damaged; "
            "verify-features lists them, extract that file again with --overwrite"
        )
    done = cache.states[theirs] == STATE_DONE
    if done.any():
        rows = rows_of(theirs[done], cache.rows_per_image)
        hashes = cache.picture_hashes[theirs[done]]
        writer.write(ours[done], cache.features[rows], regions=cache.regions[rows], hashes=hashes)
    failed = cache.states[theirs] == STATE_FAILED
    if failed.any():
        reasons = [cache.reasons[cache.images[n].id] for n in theirs[failed]]
        writer.fail(ours[failed], reasons, hashes=cache.picture_hashes[theirs[failed]])


def images_at_once(cache: FeatureCache) -> int:
    """Images whose features take about BYTES_AT_ONCE."""
    return max(1, BYTES_AT_ONCE * len(cache.images) // cache.features.nbytes)


def _check_fit(caches: Sequence[FeatureCache]) -> None:
    """Raise CacheError unless the shards, in order, make up one whole."""
    first = caches[0]
    expected = 0
    for cache in caches:
        differing = sorted(
            name
            for name in first.provenance.keys() | cache.provenance.keys()
            if first.provenance.get(name) != cache.provenance.get(name)
        )
        if differing:
            name = differing[0]
            raise CacheError(
                f"{cache.path} and {first.path} are not shards of one extraction: they differ in "
                f"{', '.join(differing)} ({name}: {cache.provenance.get(name)!r} and {first.provenance.get(name)!r})"
            )
        if cache.total != first.total or cache.first < expected:
            raise CacheError(f"{cache.path} overlaps with another shard, or its data set has another size")
        if cache.first > expected:
            raise CacheError(
                f"the shard that begins at image {expected} of {first.total} is missing before {cache.path}"
            )
        expected = cache.first + len(cache.images)
    if expected != first.total:
        raise CacheError(f"the shard from image {expected} of {first.total} on is missing after {caches[-1].path}")

"""Pending images -> batches -> backbone -> cache; reading, computing and writing overlap.

Threads decode ahead (mrnn.extract.pipeline), the network runs in the calling thread, and one more thread writes and
syncs. Batches are cut at the same places in every run, and an image always has the same place in its batch, so that
killed, resumed and sharded runs write the same bytes.
"""

from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mrnn.data.cache import STATE_DONE
from mrnn.data.cache_writer import CacheWriter
from mrnn.data.errors import CorpusError, ImageError
from mrnn.data.exhaustion import memory_for
from mrnn.data.progress import Progress
from mrnn.data.regions import Regions, rows_of
from mrnn.data.stopping import StopRequest
from mrnn.extract.images import MissingImageError, Source
from mrnn.extract.network import repeatable
from mrnn.extract.pipeline import PreparedBatch, Wanted, prepared_batches
from mrnn.extract.regions import RegionSource
from mrnn.extract.reusing import Reusable
from mrnn.extract.sampling import Sampler

LESS = "lower --batch-size, where the command has it, or use another --device"
UNSAVED_BATCHES = 2


def extract(
    writer: CacheWriter,
    sampler: Sampler,
    root: str | Path,
    *,
    threads: int,
    source: RegionSource | None = None,
    reuse: Reusable | None = None,
    workers: int = 1,
    on_error: str = "skip",
    stop: StopRequest | None = None,
) -> int:
    """Compute the features of all pending images of a cache; return how many were taken from older caches.

    writer : the cache.
    sampler : how an image becomes rows; as many as the cache has for each.
    root : the folder that the paths of the images are relative to.
    threads : CPU threads of the network.
    source : where the regions are; None for whole images.
    reuse : older caches, whose rows are taken where file and settings agree.
    workers : threads that decode images.
    on_error : 'skip' marks an image that cannot be decoded as failed, 'fail' raises its ImageError.
    stop : asked after each batch.

    Raises CorpusError, with nothing marked, if all files are missing or the folder has disappeared; Stopped if `stop`
    asks for it, after the current batch is saved.
    """
    root = Path(root)
    stop = stop or StopRequest()
    images = writer.cache.images
    pending = writer.pending()
    total, before, reused = len(images), len(images) - len(pending), 0
    paths = [root / image.path for image in images]
    witness = _Witness(root, paths, done=np.flatnonzero(writer.states == STATE_DONE))

    def saved() -> str:
        return f"{total - len(writer.pending())} of {total} images are done"

    if stop.reason:
        raise stop.stopped(saved())
    wanted = Wanted(tuple(image.id for image in images), tuple(paths))
    parts = _cut(pending, batch_size=sampler.images)
    with (
        repeatable(threads=threads),
        Progress("extract", total, unit="images", done=before) as progress,
        _Saver(writer, progress) as saver,
        closing(prepared_batches(parts, wanted, sampler, source=source, reuse=reuse, workers=workers)) as batches,
    ):
        for batch in batches:
            witness.check(batch)
            if batch.errors and on_error == "fail":
                number, error = min(batch.errors.items())
                raise ImageError(f"{images[number].id} ({paths[number]}): {error}")
            first = f"the batch of {len(batch.numbers)} images that begins with {images[batch.numbers[0]].id}"
            with memory_for(first, remedy=LESS):
                features = batch.features(sampler)
            saver.save(batch, features)
            reused += len(batch.reused)
            if stop.reason:
                saver.wait()
                if len(writer.pending()):
                    raise stop.stopped(saved())
    return reused


@dataclass(frozen=True)
class PictureRows:
    """Rows of n pictures.

    features : (n, R, D) float32; NaN for a picture that cannot be decoded.
    regions : of the n * R rows; none is valid of such a picture.
    reasons : index -> why a picture cannot be decoded.
    """

    features: np.ndarray
    regions: Regions
    reasons: dict[int, str]


def rows_of_pictures(
    sampler: Sampler,
    pictures: Sequence[Source],
    *,
    ids: Sequence[str] | None = None,
    source: RegionSource | None = None,
    workers: int = 1,
    threads: int | None = None,
) -> PictureRows:
    """Rows of pictures, computed as `extract` computes them; the other arguments are its own.

    pictures : files, bytes of files, images of Pillow, or arrays as `mrnn.extract.images.given_picture` takes them.
    ids : by which the source of regions knows the pictures, and messages name them; None where all are files, for their
        paths.

    With the pass, threads and device of an extraction the bits are equal up to the place of an image in its pass.
    """
    rows = sampler.rows
    features = np.full((len(pictures) * rows, sampler.feature_size), np.nan, dtype=np.float32)
    regions = Regions.empty(len(features))
    reasons: dict[int, str] = {}
    parts = _cut(np.arange(len(pictures)), batch_size=sampler.images)
    sources = tuple(Path(each) if isinstance(each, str) else each for each in pictures)
    wanted = Wanted(tuple(ids or map(str, pictures)), sources)
    with (
        repeatable(threads=threads),
        closing(prepared_batches(parts, wanted, sampler, source=source, workers=workers)) as batches,
    ):
        for batch in batches:
            numbers, places = batch.done()
            if len(numbers):
                first = f"the batch of {len(numbers)} images that begins with {wanted.name(numbers[0])}"
                ours, theirs = rows_of(numbers, rows), rows_of(places, rows)
                with memory_for(first, remedy=LESS):
                    features[ours] = batch.features(sampler)[theirs]
                for table, found in zip(regions.tables().values(), batch.regions.tables().values(), strict=True):
                    table[ours] = found[theirs]
            reasons.update({number: str(error) for number, error in batch.errors.items()})
    return PictureRows(features.reshape(len(pictures), rows, sampler.feature_size), regions, reasons)


def _cut(pending: np.ndarray, *, batch_size: int) -> list[list[int]]:
    """Split rising image numbers into parts, each within one batch; batches begin at multiples of batch_size."""
    if not len(pending):
        return []
    cuts = np.flatnonzero(np.diff(pending // batch_size)) + 1
    return [part.tolist() for part in np.split(pending, cuts)]


class _Saver:
    """Writes results in a thread of its own, a few batches behind; an error there is raised by the next call."""

    def __init__(self, writer: CacheWriter, progress: Progress) -> None:
        self._writer, self._progress = writer, progress
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="write")
        self._waiting: deque[Future[int]] = deque()
        self._failed = 0

    def __enter__(self) -> "_Saver":
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        try:
            if kind is None:
                self.wait()
        finally:
            self._pool.shutdown()

    def save(self, batch: PreparedBatch, features: np.ndarray) -> None:
        """Queue the results of a batch for writing."""
        self._failed += len(batch.errors)
        self._waiting.append(self._pool.submit(self._write, batch, features))
        self.wait(leave=UNSAVED_BATCHES)

    def wait(self, *, leave: int = 0) -> None:
        """Wait until at most `leave` batches are unsaved."""
        while len(self._waiting) > leave:
            note = f"{self._failed} failed" if self._failed else ""
            self._progress.add(self._waiting.popleft().result(), note=note)

    def _write(self, batch: PreparedBatch, features: np.ndarray) -> int:
        numbers, places = batch.done()
        if len(numbers):
            rows = rows_of(places, batch.rows_per_image)
            self._writer.write(numbers, features[rows], regions=batch.regions[rows], hashes=batch.hashes[places])
        if batch.errors:
            failed, places = batch.failed()
            reasons = [str(batch.errors[number]) for number in failed.tolist()]
            self._writer.fail(failed, reasons, hashes=batch.hashes[places])
        return len(batch.numbers)


class _Witness:
    """Tells a missing file from a missing folder.

    Where files are missing, one that is known to have existed must still exist; otherwise the folder is gone (an
    unmounted disk, say), and marking the images of a whole batch as failed would be wrong.
    """

    def __init__(self, root: Path, paths: Sequence[Path], *, done: np.ndarray) -> None:
        self._root, self._paths = root, paths
        self._path: Path | None = paths[done[0]] if len(done) else None

    def check(self, batch: PreparedBatch) -> None:
        """Raise CorpusError if images of the batch are missing because all files are."""
        there = [n for n in batch.numbers if not isinstance(batch.errors.get(n), MissingImageError)]
        if len(there) < len(batch.numbers):
            if self._path is None and not there:
                self._path = next((path for path in self._paths if path.exists()), None)
            known = self._path or (self._paths[there[0]] if there else None)
            if known is None:
                raise CorpusError(
                    f"none of the {len(self._paths)} images was found, the first being {self._paths[0]}; "
                    "is --root the right folder?"
                )
            if not known.exists():
                raise CorpusError(
                    f"the images in {self._root} have disappeared: {known} existed before; "
                    "nothing was marked as failed, run the command again when they are back"
                )
        if there:
            self._path = self._paths[there[-1]]

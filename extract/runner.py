"""Pending images -> batches -> backbone -> cache; reading, computing and writing overlap.

Threads decode a bounded number of batches ahead (Pillow releases the interpreter lock meanwhile), the network runs in
the calling thread, and one more thread writes and syncs. Batches are cut at the same places in every run, and an image
always has the same place in its batch, so that killed, resumed and sharded runs write the same bytes.
"""

from collections import deque
from collections.abc import Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from torch import Tensor

from mrnn.data.cache import STATE_DONE
from mrnn.data.cache_writer import CacheWriter
from mrnn.data.errors import CorpusError, ImageError
from mrnn.data.exhaustion import memory_for
from mrnn.data.progress import Progress
from mrnn.data.stopping import StopRequest
from mrnn.extract.backbones import Backbone
from mrnn.extract.images import MissingImageError, Preprocessing, load_image
from mrnn.extract.network import BatchNetwork, choose_device, repeatable

LESS = "lower --batch-size, where the command has it, or use another --device"
BATCHES_AHEAD = 2
UNSAVED_BATCHES = 2


@dataclass
class DecodedBatch:
    """Decoded images, ready for the network.

    numbers : the number of each image in the cache.
    rows : the row of each image in `pixels`.
    pixels : (B, crop, crop, 3) uint8; the other rows, and those of images that could not be decoded, are zero.
    errors : number -> why that image could not be decoded.
    """

    numbers: list[int]
    rows: list[int]
    pixels: Tensor
    errors: dict[int, ImageError] = field(default_factory=dict)

    def decoded(self) -> tuple[list[int], list[int]]:
        """Numbers and rows of the images that could be decoded."""
        kept = [(number, row) for number, row in zip(self.numbers, self.rows, strict=True) if number not in self.errors]
        return [number for number, _ in kept], [row for _, row in kept]


def extract(
    writer: CacheWriter,
    backbone: Backbone,
    root: Path,
    *,
    batch_size: int,
    threads: int,
    device: str = "auto",
    workers: int = 1,
    precision: str = "float32",
    on_error: str = "skip",
    stop: StopRequest | None = None,
) -> None:
    """Compute the features of all pending images of a cache.

    writer : the cache.
    backbone : the network; its feature size is that of the cache.
    root : the folder that the paths of the images are relative to.
    batch_size : rows of every forward pass.
    threads : CPU threads of the network.
    device : 'auto', 'cpu', 'cuda' or 'cuda:N'.
    workers : threads that decode images.
    precision : 'float32', or 'bfloat16' on CUDA devices.
    on_error : 'skip' marks an image that cannot be decoded as failed, 'fail' raises its ImageError.
    stop : asked after each batch.

    Raises CorpusError, with nothing marked, if all files are missing or the folder has disappeared; Stopped if `stop`
    asks for it, after the current batch is saved.
    """
    stop = stop or StopRequest()
    network = BatchNetwork(backbone, batch_size=batch_size, device=choose_device(device), precision=precision)
    images = writer.cache.images
    pending = writer.pending()
    total, before = len(images), len(images) - len(pending)
    paths = [root / image.path for image in images]
    witness = _Witness(root, paths, done=np.flatnonzero(writer.states == STATE_DONE))

    def saved() -> str:
        return f"{total - len(writer.pending())} of {total} images are done"

    if stop.reason:
        raise stop.stopped(saved())
    parts = _cut(pending, batch_size=batch_size)
    with (
        repeatable(threads=threads),
        Progress("extract", total, unit="images", done=before) as progress,
        _Saver(writer, progress) as saver,
        closing(decoded_batches(parts, paths, backbone.preprocessing, network, workers=workers)) as batches,
    ):
        for batch in batches:
            witness.check(batch)
            if batch.errors and on_error == "fail":
                number, error = min(batch.errors.items())
                raise ImageError(f"{images[number].id} ({paths[number]}): {error}")
            numbers, rows = batch.decoded()
            with memory_for(
                f"the batch of {len(rows)} images that begins with {images[batch.numbers[0]].id}", remedy=LESS
            ):
                features = network(batch.pixels)[rows] if rows else np.empty((0, backbone.feature_size), np.float32)
            saver.save(np.array(numbers, dtype=np.int64), features, batch.errors)
            if stop.reason:
                saver.wait()
                if len(writer.pending()):
                    raise stop.stopped(saved())


def features_of_files(
    backbone: Backbone,
    paths: Sequence[Path],
    *,
    batch_size: int,
    device: str = "auto",
    workers: int = 1,
    precision: str = "float32",
    threads: int | None = None,
) -> tuple[np.ndarray, dict[int, str]]:
    """Features of image files, computed as `extract` computes them; the arguments are its own.

    Returns (n, D) float32 and {index: reason} for the files that cannot be decoded, whose rows are NaN. With the batch
    size, threads and device of an extraction the bits are equal up to the place of an image in its batch.
    """
    network = BatchNetwork(backbone, batch_size=batch_size, device=choose_device(device), precision=precision)
    features = np.full((len(paths), backbone.feature_size), np.nan, dtype=np.float32)
    reasons: dict[int, str] = {}
    parts = _cut(np.arange(len(paths)), batch_size=batch_size)
    with (
        repeatable(threads=threads),
        closing(decoded_batches(parts, paths, backbone.preprocessing, network, workers=workers)) as batches,
    ):
        for batch in batches:
            numbers, rows = batch.decoded()
            if rows:
                with memory_for(f"the batch of {len(rows)} images that begins with {paths[numbers[0]]}", remedy=LESS):
                    features[numbers] = network(batch.pixels)[rows]
            reasons.update({number: str(error) for number, error in batch.errors.items()})
    return features, reasons


def decoded_batches(
    parts: Iterable[list[int]],
    paths: Sequence[Path],
    preprocessing: Preprocessing,
    network: BatchNetwork,
    *,
    workers: int,
) -> Generator[DecodedBatch, None, None]:
    """Decode batches of images while the caller works on the batch before.

    parts : numbers of images, each part from within one batch.
    paths : the file of each image by its number.
    preprocessing : how a file becomes pixels.
    network : it says how large a batch is.
    workers : threads that decode.
    """

    def decode(number: int, row: np.ndarray) -> None:
        with memory_for(f"decoding {paths[number]}", remedy="lower --workers, or make the image smaller"):
            row[:] = load_image(paths[number], preprocessing)

    with ThreadPoolExecutor(workers, thread_name_prefix="decode") as pool:
        waiting: deque[tuple[DecodedBatch, list[Future[None]]]] = deque()
        try:
            remaining = iter(parts)
            while True:
                while len(waiting) <= BATCHES_AHEAD and (numbers := next(remaining, None)) is not None:
                    rows = [number % network.batch_size for number in numbers]
                    pixels = network.empty_batch()
                    array = pixels.numpy()
                    jobs = [pool.submit(decode, n, array[row]) for n, row in zip(numbers, rows, strict=True)]
                    waiting.append((DecodedBatch(numbers, rows, pixels), jobs))
                if not waiting:
                    return
                batch, jobs = waiting.popleft()
                for number, job in zip(batch.numbers, jobs, strict=True):
                    try:
                        job.result()
                    except ImageError as error:
                        batch.errors[number] = error
                yield batch
        finally:
            pool.shutdown(cancel_futures=True)


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

    def save(self, numbers: np.ndarray, features: np.ndarray, errors: dict[int, ImageError]) -> None:
        """Queue the results of a batch for writing."""
        self._failed += len(errors)
        self._waiting.append(self._pool.submit(self._write, numbers, features, errors))
        self.wait(leave=UNSAVED_BATCHES)

    def wait(self, *, leave: int = 0) -> None:
        """Wait until at most `leave` batches are unsaved."""
        while len(self._waiting) > leave:
            note = f"{self._failed} failed" if self._failed else ""
            self._progress.add(self._waiting.popleft().result(), note=note)

    def _write(self, numbers: np.ndarray, features: np.ndarray, errors: dict[int, ImageError]) -> int:
        if len(numbers):
            self._writer.write(numbers, features)
        if errors:
            self._writer.fail(np.array(list(errors), dtype=np.int64), [str(error) for error in errors.values()])
        return len(numbers) + len(errors)


class _Witness:
    """Tells a missing file from a missing folder.

    Where files are missing, one that is known to have existed must still exist; otherwise the folder is gone (an
    unmounted disk, say), and marking the images of a whole batch as failed would be wrong.
    """

    def __init__(self, root: Path, paths: Sequence[Path], *, done: np.ndarray) -> None:
        self._root, self._paths = root, paths
        self._path: Path | None = paths[done[0]] if len(done) else None

    def check(self, batch: DecodedBatch) -> None:
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

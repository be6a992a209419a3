"""Writing rows into a feature cache that exists: in place, in an order that a kill at any moment cannot spoil."""

import fcntl
import itertools
import os
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType

import numpy as np

from mrnn.data.cache import FeatureCache, open_cache
from mrnn.data.cache_layout import DIGEST_BYTES, REASON_BYTES, STATE_DONE, STATE_FAILED, STATE_PENDING
from mrnn.data.errors import CacheError
from mrnn.data.exhaustion import writing
from mrnn.data.files import sync_data
from mrnn.data.regions import Regions


def done_checksum(image_id: str, *stored: np.ndarray) -> int:
    """CRC-32 over an image's id and what is stored of it: a flipped byte and a swapped row both change it.

    stored : its rows of features, then (not in schema version 1) of its regions, then its picture's hash.
    """
    checksum = zlib.crc32(image_id.encode())
    for array in stored:
        checksum = zlib.crc32(np.ascontiguousarray(array).view(np.uint8).data, checksum)
    return checksum


def failed_checksum(image_id: str, reason: bytes, picture_hash: bytes = b"") -> int:
    """CRC-32 over a failed image's id, its reason (without padding) and (not in version 1) its picture's hash."""
    return zlib.crc32(picture_hash, zlib.crc32(reason, zlib.crc32(image_id.encode())))


class CacheWriter:
    """The one process that writes a cache. Use as a context manager.

    cache : the cache as it was at opening. states : (N,) uint8, kept up to date.
    Rows go to disk, are synced, and only then marked as done. Raises CacheError if the cache cannot be opened or, with
    lock=True, if another process is writing it or its file system has no locks.
    """

    def __init__(self, path: str | Path, *, lock: bool = True) -> None:
        self._path, self._lock_wanted = Path(path), lock
        self._file: int | None = None
        self._read()
        if len(self.pending()):  # a complete cache has nothing to write, so whoever holds it does not matter
            self._open()

    def __enter__(self) -> "CacheWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            sync_data(self._file)
            os.close(self._file)

    def _read(self) -> None:
        self.cache: FeatureCache = open_cache(self._path, allow_partial=True)
        self.states = self.cache.states.copy()

    def _open(self) -> int:
        """The descriptor to write with; at its first use the file is locked and read again.

        Another writer may have gone on since it was read.
        """
        if self._file is None:
            self._file = os.open(self._path, os.O_RDWR)
            if self._lock_wanted:
                try:
                    _lock(self._file, self._path)
                except CacheError:
                    os.close(self._file)
                    self._file = None
                    raise
                self._read()
        return self._file

    def pending(self) -> np.ndarray:
        """Numbers (int64, rising) of the images still to be done."""
        return np.flatnonzero(self.states == STATE_PENDING)

    def write(
        self,
        indices: np.ndarray,
        features: np.ndarray,
        *,
        regions: Regions | None = None,
        hashes: np.ndarray | None = None,
    ) -> None:
        """Store the features of some images and mark them as done.

        indices : (n,), image numbers.
        features : (n * rows_per_image, D), any float type.
        regions : of the same rows; None where nobody knows them.
        hashes : (n, 16) uint8, of the pictures' files; None where nobody knows them.
        Raises CacheError, with nothing marked, for values that are not finite or too large for float16.
        """
        cache, n = self.cache, len(indices)
        rows = n * cache.rows_per_image
        tables = {
            "features": self._as_stored(indices, features),
            **(regions or Regions.unknown(rows)).tables(),
            "picture_hash": np.zeros((n, DIGEST_BYTES), np.uint8) if hashes is None else hashes,
        }
        by_image = {name: table.reshape(n, -1) for name, table in tables.items() if name in cache.offsets}
        sums = [
            done_checksum(cache.images[i].id, *(table[place] for table in by_image.values()))
            for place, i in enumerate(indices)
        ]
        for name, table in by_image.items():
            self._put(name, indices, table)
        self._put("checksum", indices, np.array(sums, dtype="<u4"))
        self._mark(indices, STATE_DONE)

    def fail(self, indices: np.ndarray, reasons: Sequence[str], *, hashes: np.ndarray | None = None) -> None:
        """Mark images as failed, each with its reason (its first REASON_BYTES bytes are kept).

        hashes : (n, 16) uint8, of the files as they were, zeros for those that could not be read; None for no file.
        """
        if hashes is None:
            hashes = np.zeros((len(indices), DIGEST_BYTES), np.uint8)
        texts = [reason.encode()[:REASON_BYTES].decode(errors="ignore").encode() for reason in reasons]
        hashed = "picture_hash" in self.cache.offsets
        sums = [
            failed_checksum(self.cache.images[i].id, text, digest.tobytes() if hashed else b"")
            for i, text, digest in zip(indices, texts, hashes, strict=True)
        ]
        self._put("reason", indices, np.array(texts, dtype=f"S{REASON_BYTES}"))
        if hashed:
            self._put("picture_hash", indices, hashes)
        self._put("checksum", indices, np.array(sums, dtype="<u4"))
        self._mark(indices, STATE_FAILED)

    def reopen_failed(self) -> int:
        """Make failed images pending again; return how many."""
        if (self.states == STATE_FAILED).any():
            self._open()
        failed = np.flatnonzero(self.states == STATE_FAILED)
        self._mark(failed, STATE_PENDING)
        return len(failed)

    def _as_stored(self, indices: np.ndarray, features: np.ndarray) -> np.ndarray:
        cache = self.cache
        limit = float(np.finfo(cache.features.dtype).max)
        with np.errstate(invalid="ignore"):
            bad = ~(np.abs(features) <= limit)
        if bad.any():
            row = int(np.argwhere(bad)[0][0])
            image_id = cache.images[int(indices[row // cache.rows_per_image])].id
            value = features[tuple(np.argwhere(bad)[0])]
            hint = "use --dtype float32" if np.isfinite(value) else "check the weights of the network"
            raise CacheError(
                f"{cache.path}: image {image_id!r} has the activation {value}, which {limit:g} bounds; {hint}"
            )
        return features.astype(cache.features.dtype)

    def _put(self, name: str, indices: np.ndarray, values: np.ndarray) -> None:
        """Write one item per image in place, neighbours together."""
        item = values.nbytes // max(len(values), 1)
        file = self._open()
        for begin, end in _runs(indices):
            data = np.ascontiguousarray(values[begin:end]).view(np.uint8).reshape(-1).data
            place = self.cache.offsets[name] + int(indices[begin]) * item
            with writing(self._path):
                while data:
                    written = os.pwrite(file, data, place)
                    data, place = data[written:], place + written

    def _mark(self, indices: np.ndarray, state: int) -> None:
        if not len(indices):
            return
        with writing(self._path):
            sync_data(self._open())  # what the marks vouch for must be on disk before them
        self._put("state", indices, np.full(len(indices), state, dtype=np.uint8))
        self.states[indices] = state


def _runs(indices: np.ndarray) -> Iterable[tuple[int, int]]:
    """Begin and end positions of stretches of consecutive numbers."""
    cuts = np.flatnonzero(np.diff(indices) != 1) + 1
    bounds = [0, *cuts.tolist(), len(indices)]
    return [(begin, end) for begin, end in itertools.pairwise(bounds) if end > begin]


def _lock(descriptor: int, path: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise CacheError(_holder(descriptor, path)) from None
    except OSError as error:
        raise CacheError(
            f"the file system of {path} cannot lock files ({error.strerror}); make sure that no other process writes "
            "it and pass --no-lock"
        ) from error


def _holder(descriptor: int, path: Path) -> str:
    """Who holds a lock that could not be had: writers lock a file for themselves, HDF5's readers lock it together."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return f"another process is writing {path}; wait for it, or choose another --output"
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    return (
        f"another process has {path} open for reading with HDF5's lock (a notebook with h5py?); close the file there, "
        "open it there with h5py.File(..., locking=False), or pass --no-lock"
    )

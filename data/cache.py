"""The feature cache: one HDF5 file with the features of a data set, its captions and splits, and their origin.

Any HDF5 library reads it. This is the specification of the bytes, schema version 2; N images of R rows each.

    user block    1024 bytes of JSON, blank-padded: format, version, size of the file, the mutable ranges
                  {name: [offset, length]}, and sha256 over every byte after the user block outside of them
    /             attributes dataset, root (where the pictures lay: a hint), integer_ids, first (place of the
                  first image in the whole id order), total (images in the whole order; more than N in a shard)
    /provenance   attributes, plain values: backbone, layer, weights_sha256, annotation_sha256, ...
    /images/      id, path, split (N,) text
    /sentences/   text (S,) text     image (S,) int64
    /boxes/       phrase, kind (K,) text   image, sentence (K,) int64   words (K, 2) int64: first, one past the last
                  rectangle (K, 4) float64: left, top, width, height
    /problems/    kind, subject, detail (text): what the reader of the data set found wrong

and, of fixed size, the only parts that change after creation:

    /features      (N * R, D) float16 or float32, attribute rows_per_image = R; rows i*R ... i*R+R-1 are image i:
                   row 0 the whole picture, the others its regions, best first
    /state         (N,) uint8: 0 pending, 1 done, 2 failed
    /checksum      (N,) uint32: CRC-32 of the id in UTF-8, then of the image's rows of features, rectangle,
                   region_score, region_class, valid (done) or of its reason (failed), then of its picture_hash
    /reason        (N,) 200 bytes of UTF-8, zero-padded: why an image failed
    /picture_hash  (N, 16) uint8: BLAKE2b-128 of the picture's file; zeros where it could not be read
    /rectangle     (N * R, 4) float32: left, top, width, height in pixels of the upright picture; row 0 is its size
    /region_score  (N * R,) float32    /region_class  (N * R,) int32, -1 for none; names in the provenance
    /valid         (N * R,) uint8: 1 where the row holds features

The file is created whole (mrnn.data.cache_creation): contiguous data sets allocated at once in the oldest file format,
disk space reserved, synced, renamed into place. From then on no HDF5 library writes to it: rows are written in place at
their known offsets (mrnn.data.cache_writer). So a killed process can leave rows that are not marked as done, but never
a broken file, and the digest of all the rest is checked at each opening before an HDF5 library parses a byte.

Version 1 has a user block of 512 bytes, the first four of these data sets, checksums without hash and regions, and
boxes without words and kind. It is read, and an unfinished one is finished, but no new one is written.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from mrnn.data.cache_layout import (
    DIGEST_BYTES,
    DTYPES,
    MUTABLE,
    STATE_DONE,
    STATE_FAILED,
    STATE_PENDING,
    TABLES,
    check_bytes,
    table_shape,
)
from mrnn.data.cache_tables import plain, read_tables
from mrnn.data.cache_view import CacheView
from mrnn.data.captions import Corpus, Image, Problem
from mrnn.data.errors import CacheError
from mrnn.data.regions import REGION_TABLES, Regions
from mrnn.data.settings import FEATURE_SETTINGS, REGION_SETTINGS

# What HDF5 says of a file that this process has open with other settings.
OPENED_OTHERWISE = ("locking flag values don't match", "close degree doesn't match", "already open")

Provenance = dict[str, str | int | float | bool]


@dataclass(frozen=True)
class FeatureCache(CacheView):
    """An opened cache; open one with `open_cache`. It reads like a table: `cache["1000.jpg"]`, `len(cache)`.

    images : in row order, with their splits, raw sentences and boxes.
    features : (N * rows_per_image, D), mapped read-only; rows of images that are not done hold anything.
    states : (N,) uint8 as they were at opening. reasons : id -> why, for the failed images.
    regions : of all rows, mapped read-only; of schema version 1 `Regions.unknown`.
    picture_hashes : (N, 16) uint8, BLAKE2b-128 of each picture's file, mapped read-only; zeros where unknown.
    offsets : where in the file each data set that changes begins.
    """

    path: Path
    dataset: str
    root: Path
    integer_ids: bool
    first: int
    total: int
    images: tuple[Image, ...]
    problems: tuple[Problem, ...]
    provenance: Provenance
    features: np.ndarray
    states: np.ndarray
    reasons: dict[str, str]
    rows_per_image: int
    regions: Regions
    picture_hashes: np.ndarray
    offsets: dict[str, int]

    @property
    def feature_size(self) -> int:
        """D, numbers in a row."""
        return int(self.features.shape[1])

    def done(self, split: str | None = None) -> np.ndarray:
        """Numbers (int64, rising) of the images that have features; of one split, if given."""
        wanted = [i for i, image in enumerate(self.images) if split is None or image.split == split]
        indices = np.array(wanted, dtype=np.int64)
        return indices[self.states[indices] == STATE_DONE]

    def read(self, images: np.ndarray, *, out: np.ndarray | None = None) -> np.ndarray:
        """Copy the rows of some images (n,) into `out`, (n * rows_per_image, D) of the cache's dtype, and return it.

        Giving the same `out` again and again is several times faster than new memory for each batch.
        """
        if len(images) and not 0 <= images.min() <= images.max() < len(self.images):
            raise IndexError(
                f"{self.path} has images 0 to {len(self.images) - 1}, not {images.min()} to {images.max()}"
            )
        if out is None:
            out = np.empty((len(images) * self.rows_per_image, self.feature_size), dtype=self.features.dtype)
        whole = self.features.reshape(len(self.images), -1)
        np.take(whole, images, axis=0, out=out.reshape(len(images), -1), mode="clip")
        return out

    def corpus(self) -> Corpus:
        """The captions as the reader of the data set returned them."""
        return Corpus(self.dataset, self.root, self.images, problems=self.problems, integer_ids=self.integer_ids)


def open_cache(path: str | Path, *, allow_partial: bool = False) -> FeatureCache:
    """Open a cache for reading, everything but the features checked.

    allow_partial : accept images that are still pending. Raises CacheError if there is no such file, it is not a
    cache of ours, it is cut off or changed, or (without allow_partial) some images are pending.
    """
    path = Path(path)
    version, ranges = check_bytes(path)
    try:
        with _open_hdf5(path) as file:
            cache = _read(path, file, {name: offset for name, (offset, _) in ranges.items()}, version=version)
    except (
        OSError,
        KeyError,
        ValueError,
        TypeError,
        RuntimeError,
        AttributeError,
        OverflowError,
        MemoryError,
    ) as error:
        raise CacheError(f"{path} does not follow the schema of a feature cache: {error}") from error
    pending = int((cache.states == STATE_PENDING).sum())
    if pending and not allow_partial:
        raise CacheError(
            f"{path} is not complete: {pending} of {len(cache.images)} images are pending; run the extract-features "
            "command that began it again to finish it (or pass --allow-partial to use what is there)"
        )
    return cache


@contextmanager
def _open_hdf5(path: Path) -> Iterator[h5py.File]:
    """The file for reading, without locks, whether or not this process has it open already.

    HDF5 refuses to open a file anew with settings that differ from those of the first time, which in a notebook are
    somebody else's; read through Python's own file it does not know that it is the same.
    """
    try:
        file = h5py.File(path, "r", locking=False)
    except OSError as error:
        if not any(words in str(error) for words in OPENED_OTHERWISE):
            raise
        with path.open("rb", buffering=0) as stream, h5py.File(stream, "r") as file:
            yield file
    else:
        with file:
            yield file


def matching_settings(one: Mapping[str, Any], other: Mapping[str, Any], *, regions: bool = False) -> list[str]:
    """Names of the settings in which two provenances describe different features; empty if they fit together.

    regions : compare what the regions are as well, for models that look at more than row 0.
    """
    names = FEATURE_SETTINGS + (REGION_SETTINGS if regions else ())
    return [name for name in names if one.get(name) != other.get(name)]


def read_checksums(cache: FeatureCache) -> np.ndarray:
    """The stored checksums, (N,) uint32."""
    return np.memmap(cache.path, "<u4", mode="r", offset=cache.offsets["checksum"], shape=len(cache.images))


def _read(path: Path, file: h5py.File, offsets: dict[str, int], *, version: int) -> FeatureCache:
    mutable = {name: plain(file, name) for name in MUTABLE[version]}
    moved = [name for name, data in mutable.items() if data.id.get_offset() != offsets[name]]
    if moved:
        raise ValueError(f"{moved[0]} does not lie where the header says")
    images, problems = read_tables(file, version=version)
    rows_per_image = int(mutable["features"].attrs["rows_per_image"])
    size, dtype = int(mutable["features"].shape[1]), mutable["features"].dtype
    if dtype not in DTYPES.values():
        raise ValueError(f"features are {dtype}")
    mapped = {}
    for name, data in mutable.items():
        shape = table_shape(name, images=len(images), rows_per_image=rows_per_image, feature_size=size)
        kind = np.dtype(TABLES[name][0]) if TABLES[name][0] else dtype
        if data.shape != shape or data.dtype != kind:
            raise ValueError(f"{name} is {data.dtype} of shape {data.shape}, not {kind} of {shape}")
        mapped[name] = np.memmap(path, dtype=kind, mode="r", offset=offsets[name], shape=shape)
    states = np.array(mapped["state"])
    regions = [mapped[name] for name in REGION_TABLES if name in mapped]
    return FeatureCache(
        path=path,
        dataset=str(file.attrs["dataset"]),
        root=Path(file.attrs["root"]),
        integer_ids=bool(file.attrs["integer_ids"]),
        first=int(file.attrs["first"]),
        total=int(file.attrs["total"]),
        images=images,
        problems=problems,
        provenance={name: _plain_value(value) for name, value in file["provenance"].attrs.items()},
        features=mapped["features"],
        states=states,
        reasons={
            images[i].id: bytes(mapped["reason"][i]).decode(errors="replace")
            for i in np.flatnonzero(states == STATE_FAILED)
        },
        rows_per_image=rows_per_image,
        regions=Regions(*regions) if regions else Regions.unknown(len(images) * rows_per_image),
        picture_hashes=mapped.get("picture_hash", np.zeros((len(images), DIGEST_BYTES), np.uint8)),
        offsets=offsets,
    )


def _plain_value(value: Any) -> str | int | float | bool:
    return value.item() if isinstance(value, np.generic) else value

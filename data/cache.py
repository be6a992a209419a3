"""The feature cache: one HDF5 file with the features of a data set, its captions and splits, and their origin.

Any HDF5 library reads it. This is the specification of the bytes, schema version 1; N images of R rows each.

    user block    512 bytes of JSON, blank-padded: format, version, size of the file, the mutable ranges
                  {name: [offset, length]}, and sha256 over every byte after the user block outside of them
    /             attributes dataset, root (where the pictures lay: a hint), integer_ids, first (place of the
                  first image in the whole id order), total (images in the whole order; more than N in a shard)
    /provenance   attributes, plain values: backbone, layer, weights_sha256, annotation_sha256, ...
    /images/      id, path, split (N,) text
    /sentences/   text (S,) text     image (S,) int64
    /boxes/       phrase (K,) text   image, sentence (K,) int64   rectangle (K, 4) float64: left, top, width, height
    /problems/    kind, subject, detail (text): what the reader of the data set found wrong

and, of fixed size, the only parts that change after creation:

    /features     (N * R, D) float16 or float32, attribute rows_per_image = R; rows i*R ... i*R+R-1 are image i
    /state        (N,) uint8: 0 pending, 1 done, 2 failed
    /checksum     (N,) uint32: CRC-32 of the id in UTF-8, then of the image's rows (done) or reason (failed)
    /reason       (N,) 200 bytes of UTF-8, zero-padded: why an image failed

The file is created whole: contiguous data sets allocated at once in the oldest file format, disk space reserved,
synced, renamed into place. From then on no HDF5 library writes to it: rows are written in place at their known
offsets (mrnn.data.cache_writer). So a killed process can leave rows that are not marked as done, but never a broken
file, and the digest of all the rest is checked at each opening before an HDF5 library parses a byte.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from mrnn.data.captions import Box, Corpus, Image, Problem, is_storable
from mrnn.data.errors import CacheError
from mrnn.data.exhaustion import free_bytes
from mrnn.data.files import new_file, reserve_space
from mrnn.data.settings import FEATURE_SETTINGS

FORMAT = "mrnn-features"
VERSION = 1
USER_BLOCK = 512
HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
DTYPES = {"float16": "<f2", "float32": "<f4"}
REASON_BYTES = 200
STATE_PENDING, STATE_DONE, STATE_FAILED = 0, 1, 2
MUTABLE = ("features", "state", "checksum", "reason")
# What HDF5 says of a file that this process has open with other settings.
OPENED_OTHERWISE = ("locking flag values don't match", "close degree doesn't match", "already open")

Provenance = dict[str, str | int | float | bool]


@dataclass(frozen=True)
class FeatureCache:
    """An opened cache; open one with `open_cache`.

    images : in row order, with their splits, raw sentences and boxes.
    features : (N * rows_per_image, D), mapped read-only; rows of images that are not done hold anything.
    states : (N,) uint8 as they were at opening. reasons : id -> why, for the failed images.
    offsets : where in the file each MUTABLE data set begins.
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


def create_cache(
    path: str | Path,
    corpus: Corpus,
    provenance: Mapping[str, str | int | float | bool],
    *,
    feature_size: int,
    dtype: str = "float16",
    rows_per_image: int = 1,
    first: int = 0,
    total: int | None = None,
) -> None:
    """Create a cache whose images are all pending; it appears at `path` whole or not at all.

    corpus : the images of this file (of one shard, say), `first` the place of its first image among all `total`.
    Raises CacheError for an empty corpus, for a root or provenance that is not UTF-8 and for a full disk,
    FileExistsError if `path` exists.
    """
    if not corpus.images:
        raise CacheError(f"{path}: a feature cache needs at least one image, and {corpus.name} has none here")
    path = Path(path)
    root = os.path.abspath(corpus.root)  # a later stage may run in another folder
    for name, value in {"root": root, **provenance}.items():
        if isinstance(value, str) and not is_storable(value):
            raise CacheError(f"{path}: the {name}, {value!a}, is not UTF-8 text, which a cache holds; rename it")
    with new_file(path) as draft:
        with h5py.File(draft, "w", libver="earliest", userblock_size=USER_BLOCK, locking=False) as file:
            file.attrs["dataset"] = corpus.name
            file.attrs["root"] = root
            file.attrs["integer_ids"] = corpus.integer_ids
            file.attrs["first"] = first
            file.attrs["total"] = len(corpus.images) if total is None else total
            file.create_group("provenance").attrs.update(sorted(provenance.items()))
            _write_corpus(file, corpus)
            n = len(corpus.images)
            shapes = {"features": (n * rows_per_image, feature_size), "state": (n,), "checksum": (n,), "reason": (n,)}
            dtypes = {"features": DTYPES[dtype], "state": "u1", "checksum": "<u4", "reason": f"S{REASON_BYTES}"}
            ranges = {}
            for name in MUTABLE:
                data = _allocate(file, name, shapes[name], np.dtype(dtypes[name]))
                ranges[name] = [data.id.get_offset(), data.id.get_storage_size()]
            file["features"].attrs["rows_per_image"] = rows_per_image
        size = max(draft.stat().st_size, max(offset + length for offset, length in ranges.values()))
        _reserve(draft, size, path)
        with draft.open("r+b") as stream:
            stream.write(_user_block(size, ranges, _static_digest(draft, ranges, size)))


def open_cache(path: str | Path, *, allow_partial: bool = False) -> FeatureCache:
    """Open a cache for reading, everything but the features checked.

    allow_partial : accept images that are still pending. Raises CacheError if there is no such file, it is not a
    cache of ours, it is cut off or changed, or (without allow_partial) some images are pending.
    """
    path = Path(path)
    ranges = _check_bytes(path)
    try:
        with _open_hdf5(path) as file:
            cache = _read(path, file, {name: offset for name, (offset, _) in ranges.items()})
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


def matching_settings(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Names of the settings in which two provenances describe different features; empty if they fit together."""
    return [name for name in FEATURE_SETTINGS if one.get(name) != other.get(name)]


def read_checksums(cache: FeatureCache) -> np.ndarray:
    """The stored checksums, (N,) uint32."""
    return np.memmap(cache.path, "<u4", mode="r", offset=cache.offsets["checksum"], shape=len(cache.images))


def _write_corpus(file: h5py.File, corpus: Corpus) -> None:
    def table(name: str, texts: Mapping[str, Sequence[str]], numbers: Mapping[str, np.ndarray]) -> None:
        group = file.create_group(name)
        for column, values in texts.items():
            group.create_dataset(column, data=np.array(values, dtype=object), dtype=h5py.string_dtype())
        for column, array in numbers.items():
            group.create_dataset(column, data=array)

    images = corpus.images
    table(
        "images",
        {"id": [i.id for i in images], "path": [i.path for i in images], "split": [i.split for i in images]},
        {},
    )
    sentences = [(n, text) for n, image in enumerate(images) for text in image.sentences]
    table(
        "sentences",
        {"text": [text for _, text in sentences]},
        {"image": np.array([n for n, _ in sentences], dtype=np.int64)},
    )
    boxes = [(n, box) for n, image in enumerate(images) for box in image.boxes]
    rectangles = [(box.left, box.top, box.width, box.height) for _, box in boxes]
    table(
        "boxes",
        {"phrase": [box.phrase for _, box in boxes]},
        {
            "image": np.array([n for n, _ in boxes], dtype=np.int64),
            "sentence": np.array([box.sentence for _, box in boxes], dtype=np.int64),
            "rectangle": np.array(rectangles, dtype=np.float64).reshape(-1, 4),
        },
    )
    found = corpus.problems
    table(
        "problems",
        {"kind": [p.kind for p in found], "subject": [p.subject for p in found], "detail": [p.detail for p in found]},
        {},
    )


def _allocate(file: h5py.File, name: str, shape: tuple[int, ...], dtype: np.dtype) -> h5py.Dataset:
    """A contiguous data set whose place in the file is settled now and whose bytes HDF5 never writes."""
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_layout(h5py.h5d.CONTIGUOUS)
    properties.set_obj_track_times(False)  # equal contents, equal bytes
    properties.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    properties.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    kind = h5py.h5t.py_create(dtype, logical=True)
    return h5py.Dataset(h5py.h5d.create(file.id, name.encode(), kind, h5py.h5s.create_simple(shape), properties))


def _reserve(draft: Path, size: int, path: Path) -> None:
    """Take the disk space of the whole file now, so that a full disk shows before the first image is read."""
    with draft.open("r+b") as stream:
        try:
            reserve_space(stream.fileno(), size)
        except OSError as error:
            free = free_bytes(draft.parent) / 1e6
            raise CacheError(
                f"{path} needs {size / 1e6:.0f} MB, and {draft.parent} has {free:.0f} MB free "
                f"({error.strerror}); free some space, choose another --output, or use --dtype float16"
            ) from error


def _user_block(size: int, ranges: Mapping[str, list[int]], sha256: str) -> bytes:
    header = {"format": FORMAT, "version": VERSION, "size": size, "mutable": ranges, "sha256": sha256}
    return json.dumps(header).encode().ljust(USER_BLOCK - 1) + b"\n"


def _static_ranges(ranges: Mapping[str, list[int]], size: int) -> Iterator[tuple[int, int]]:
    """Begin and end of the stretches of the file that never change after creation."""
    position = USER_BLOCK
    for offset, length in sorted(ranges.values()):
        yield position, offset
        position = offset + length
    yield position, size


def _static_digest(path: Path, ranges: Mapping[str, list[int]], size: int) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        for begin, end in _static_ranges(ranges, size):
            stream.seek(begin)
            digest.update(stream.read(end - begin))
    return digest.hexdigest()


def _check_bytes(path: Path) -> dict[str, list[int]]:
    """Check that the file is a whole cache of ours; return its mutable ranges, {name: [offset, length]}."""
    try:
        with path.open("rb") as stream:
            block = stream.read(USER_BLOCK + len(HDF5_SIGNATURE))
            size = os.fstat(stream.fileno()).st_size
    except FileNotFoundError:
        raise CacheError(f"there is no feature cache at {path}; extract-features makes one") from None
    except IsADirectoryError:
        raise CacheError(f"{path} is a folder, not a feature cache") from None
    if block.startswith(HDF5_SIGNATURE):
        raise CacheError(f"{path} is an HDF5 file, but not a feature cache written by mrnn")
    damaged = CacheError(f"{path} is damaged: its header does not describe a feature cache; make it anew")
    if not block.startswith(b'{"format": "' + FORMAT.encode()):
        raise CacheError(f"{path} is not a feature cache (nor any HDF5 file of mrnn)")
    try:
        header = json.loads(block[:USER_BLOCK])
        version, whole, digest = header["version"], int(header["size"]), header["sha256"]
        ranges = {name: [int(offset), int(length)] for name, (offset, length) in header["mutable"].items()}
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        raise damaged from None
    if version != VERSION:
        raise CacheError(f"{path} has schema version {version}; this mrnn reads version {VERSION}")
    if size < whole:
        raise CacheError(f"{path} is cut off: it has {size} of {whole} bytes; copy it again or make it anew")
    if ranges.keys() != set(MUTABLE) or block[:USER_BLOCK] != _user_block(whole, ranges, digest):
        raise damaged
    ordered = all(0 <= begin <= end for begin, end in _static_ranges(ranges, size))
    if not ordered or size != whole or _static_digest(path, ranges, size) != digest:
        raise CacheError(f"{path} is damaged: bytes outside the features have changed; copy it again or make it anew")
    return ranges


def _read(path: Path, file: h5py.File, offsets: dict[str, int]) -> FeatureCache:
    def plain(name: str) -> h5py.Dataset:
        """A data set that lies in this file itself: external links and virtual sources are not followed."""
        place: Any = file
        for part in name.split("/"):
            if not isinstance(place.get(part, getlink=True), h5py.HardLink):
                raise ValueError(f"{name} is missing or a link")
            place = place[part]
        if not isinstance(place, h5py.Dataset) or place.is_virtual or place.external:
            raise ValueError(f"the contents of {name} lie in another file")
        return place

    def text(name: str) -> list[str]:
        return [value.decode() for value in plain(name)[:]]

    def numbers(name: str, *, below: int) -> list[int]:
        """Numbers of images."""
        found = plain(name)[:]
        if len(found) and not 0 <= found.min() <= found.max() < below:
            raise ValueError(f"{name} names images that are not there")
        return found.tolist()

    mutable = {name: plain(name) for name in MUTABLE}
    moved = [name for name, data in mutable.items() if data.id.get_offset() != offsets[name]]
    if moved:
        raise ValueError(f"{moved[0]} does not lie where the header says")
    ids = text("images/id")
    sentences: list[list[str]] = [[] for _ in ids]
    for number, sentence in zip(numbers("sentences/image", below=len(ids)), text("sentences/text"), strict=True):
        sentences[number].append(sentence)
    boxes: list[list[Box]] = [[] for _ in ids]
    of_image, of_sentence = numbers("boxes/image", below=len(ids)), plain("boxes/sentence")[:].tolist()
    rectangles, phrases = plain("boxes/rectangle")[:].tolist(), text("boxes/phrase")
    for i, (left, top, width, height), phrase, j in zip(of_image, rectangles, phrases, of_sentence, strict=True):
        boxes[i].append(Box(left, top, width, height, phrase, j))
    images = tuple(
        Image(image_id, relative, split, tuple(said), tuple(drawn))
        for image_id, relative, split, said, drawn in zip(
            ids, text("images/path"), text("images/split"), sentences, boxes, strict=True
        )
    )
    found = zip(*(text(f"problems/{name}") for name in ("kind", "subject", "detail")), strict=True)
    states = mutable["state"][:]
    failed = np.flatnonzero(states == STATE_FAILED)
    features = mutable["features"]
    rows_per_image = int(features.attrs["rows_per_image"])
    if features.shape[0] != len(images) * rows_per_image or len(states) != len(images):
        raise ValueError("features, states and images differ in number")
    return FeatureCache(
        path=path,
        dataset=str(file.attrs["dataset"]),
        root=Path(file.attrs["root"]),
        integer_ids=bool(file.attrs["integer_ids"]),
        first=int(file.attrs["first"]),
        total=int(file.attrs["total"]),
        images=images,
        problems=tuple(Problem(*parts) for parts in found),
        provenance={name: _plain_value(value) for name, value in file["provenance"].attrs.items()},
        features=np.memmap(path, dtype=features.dtype, mode="r", offset=offsets["features"], shape=features.shape),
        states=states,
        reasons={ids[i]: mutable["reason"][i].decode(errors="replace") for i in failed},
        rows_per_image=rows_per_image,
        offsets=offsets,
    )


def _plain_value(value: Any) -> str | int | float | bool:
    return value.item() if isinstance(value, np.generic) else value

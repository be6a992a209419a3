"""Creating a feature cache, whole and with all its space reserved; the specification is in mrnn.data.cache."""

import os
from collections.abc import Mapping
from pathlib import Path

import h5py
import numpy as np

from mrnn.data.cache_layout import DTYPES, TABLES, USER_BLOCKS, VERSION, static_digest, table_shape, user_block
from mrnn.data.cache_tables import write_tables
from mrnn.data.captions import Corpus, is_storable
from mrnn.data.errors import CacheError
from mrnn.data.exhaustion import free_bytes
from mrnn.data.files import new_file, reserve_space


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
        with h5py.File(draft, "w", libver="earliest", userblock_size=USER_BLOCKS[VERSION], locking=False) as file:
            file.attrs["dataset"] = corpus.name
            file.attrs["root"] = root
            file.attrs["integer_ids"] = corpus.integer_ids
            file.attrs["first"] = first
            file.attrs["total"] = len(corpus.images) if total is None else total
            file.create_group("provenance").attrs.update(sorted(provenance.items()))
            write_tables(file, corpus)
            ranges = {}
            for name, (kind, _, _) in TABLES.items():
                shape = table_shape(
                    name, images=len(corpus.images), rows_per_image=rows_per_image, feature_size=feature_size
                )
                data = _allocate(file, name, shape, np.dtype(kind or DTYPES[dtype]))
                ranges[name] = [data.id.get_offset(), data.id.get_storage_size()]
            file["features"].attrs["rows_per_image"] = rows_per_image
        size = max(draft.stat().st_size, max(offset + length for offset, length in ranges.values()))
        _reserve(draft, size, path)
        with draft.open("r+b") as stream:
            stream.write(user_block(size, ranges, static_digest(draft, ranges, size)))


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

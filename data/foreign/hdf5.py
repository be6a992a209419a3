"""HDF5 files of others, opened without following links or virtual sources into other files."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np

from mrnn.data.cache_tables import plain


def is_hdf5(path: Path) -> bool:
    """Whether a path is an HDF5 file."""
    return path.is_file() and bool(h5py.is_hdf5(path))


def open_hdf5(path: Path) -> h5py.File:
    """The file for reading, without locks."""
    return h5py.File(path, "r", locking=False)


def numbers(file: h5py.File, name: str) -> h5py.Dataset:
    """A data set of numbers that lies in the file itself. Raises ValueError if there is none."""
    found = plain(file, name)
    if found.dtype.kind not in "fiu":
        raise ValueError(f"{name} is {found.dtype}, not numbers")
    return found


def data_sets(path: Path) -> list[str]:
    """Names of all data sets in a file."""
    names: list[str] = []
    with open_hdf5(path) as file:
        file.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
    return names


def first_group(path: Path) -> set[str]:
    """Names of what lies beside the first data set of a file, itself included."""

    def look(name: str, item: Any) -> set[str] | None:
        return set(item.parent) if isinstance(item, h5py.Dataset) else None

    with open_hdf5(path) as file:
        return file.visititems(look) or set()


def read_arrays(path: Path, wanted: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Those of the wanted data sets that the file has, and under '' the names of all."""
    names = data_sets(path)
    with open_hdf5(path) as file:
        return {name: plain(file, name)[()] for name in set(wanted) & set(names)} | {"": np.array(names)}

"""One matrix with a row or a column for each image: MATLAB (neuraltalk), NumPy or HDF5."""

from pathlib import Path

import numpy as np

from mrnn.data.errors import CacheError
from mrnn.data.foreign.formats import ORIENTATIONS, UNREADABLE, Given
from mrnn.data.foreign.hdf5 import is_hdf5, read_arrays
from mrnn.data.foreign.ids import read_ids
from mrnn.data.foreign.source import ImageRows, Source


def recognise(path: Path) -> bool:
    """Every file is taken for one of these; `read` says what it is not."""
    return not path.is_dir()


def read(path: Path, given: Given) -> list[Source]:
    """A .mat (MATLAB 5 or 7.3), .npy, .npz or HDF5 file.

    Raises CacheError for anything else, and with orientation 'auto' where the number of images fits both axes or none.
    MATLAB files of neuraltalk have images in columns.
    """
    name = given.features_name
    arrays = _load(path, (name, given.ids_name))
    if name not in arrays:
        raise CacheError(f"{path} has no {name!r}; it has {', '.join(sorted(arrays['']))}: name one of them")
    features = arrays[name]
    if features.ndim != 2 or features.dtype.kind not in "fiu":
        raise CacheError(f"{path}: {name!r} is {features.dtype} of shape {features.shape}, not a number matrix")
    ids = None
    if given.ids_file is not None:
        ids = read_ids(given.ids_file)
    elif given.ids_name in arrays:
        ids = tuple(_text(value) for value in arrays[given.ids_name].ravel())
    expected = given.count if ids is None else len(ids)
    orientation = given.orientation
    if orientation == "auto":
        fits = [axis for axis in (0, 1) if features.shape[axis] == expected]
        if len(fits) != 1:
            verb = "fits both axes" if fits else "fits neither axis"
            raise CacheError(
                f"{path}: {name!r} has shape {features.shape}, and the number of images, {expected}, {verb}; "
                + ("pass --orientation rows or columns" if fits else "pass the right ids with --ids FILE")
            )
        orientation = ORIENTATIONS[1 + fits[0]]
    if orientation == "columns":
        features = features.T
    if len(features) != expected:
        raise CacheError(f"{path}: {len(features)} images ({orientation}) in {name!r}, but {expected} ids")
    if ids is not None and len(set(ids)) != len(ids):
        raise CacheError(f"{path}: some ids occur twice; every image must have one row")
    return [matrix_source(path, features, ids)]


def matrix_source(path: Path, features: np.ndarray, ids: tuple[str, ...] | None) -> Source:
    """The source of a matrix of whole pictures, (n, D) of any number type."""
    return Source(
        path=path,
        ids=ids,
        count=len(features),
        feature_size=features.shape[1],
        regions=0,
        read=lambda number: ImageRows(features[number : number + 1]),
        where=lambda number: f"{path}, row {number}",
        files=(path,),
    )


def _load(path: Path, wanted: tuple[str, str]) -> dict[str, np.ndarray]:
    """The wanted arrays that the file has, and under '' the names of all."""
    try:
        with path.open("rb") as stream:
            magic = stream.read(128)
        if magic[:6] == b"\x93NUMPY":
            array = np.load(path, mmap_mode="r", allow_pickle=False)
            return {wanted[0]: array, "": np.array([wanted[0]])}
        if magic[:2] == b"PK":
            with path.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
                return {name: archive[name] for name in wanted if name in archive} | {"": np.array(archive.files)}
        if is_hdf5(path):  # MATLAB 7.3 is HDF5 with every array transposed; orientation sorts that out
            return read_arrays(path, wanted)
        if magic.startswith(b"MATLAB 5"):
            return _load_matlab(path, wanted)
    except UNREADABLE as error:
        raise CacheError(f"{path} cannot be read as a features file: {error}") from error
    raise CacheError(
        f"{path} is none of .mat, .npy, .npz, HDF5, nor a file in the form of another project (--format lists them)"
    )


def _load_matlab(path: Path, wanted: tuple[str, str]) -> dict[str, np.ndarray]:
    try:
        from scipy.io import loadmat, whosmat
    except ImportError:
        raise CacheError(f"{path} is a MATLAB 5 file, which takes scipy: pip install 'mrnn[analysis]'") from None
    try:
        with path.open("rb") as stream:
            names = [name for name, _, _ in whosmat(stream)]
            arrays = loadmat(stream, variable_names=[name for name in wanted if name in names])
    except Exception as error:  # on damaged files the parser fails in whatever way the bytes lead it to
        raise ValueError(str(error)) from error
    return {name: arrays[name] for name in wanted if name in names} | {"": np.array(names)}


def _text(value: object) -> str:
    if isinstance(value, bytes):
        return value.decode()
    return str(value.item() if isinstance(value, np.ndarray | np.generic) else value)

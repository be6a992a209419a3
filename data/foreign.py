"""Features that people already have: MATLAB, NumPy and HDF5 files of others, turned into rows with image ids."""

import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from mrnn.data.annotation_files import read_lines
from mrnn.data.cache_creation import create_cache
from mrnn.data.cache_writer import CacheWriter
from mrnn.data.captions import Corpus, Problem
from mrnn.data.errors import CacheError
from mrnn.data.files import new_file

ORIENTATIONS = ("auto", "rows", "columns")
ROWS_AT_ONCE = 1024


@dataclass(frozen=True)
class ForeignFeatures:
    """features : (n, D), one image a row. ids : the image of each row, or None where the file does not say."""

    features: np.ndarray
    ids: tuple[str, ...] | None


def read_foreign(
    path: str | Path,
    *,
    features_name: str = "feats",
    ids_name: str = "ids",
    ids_file: str | Path | None = None,
    count: int = 0,
    orientation: str = "auto",
) -> ForeignFeatures:
    """Read a features file: .mat (MATLAB 5 or 7.3), .npy, .npz, .h5 or .hdf5.

    features_name, ids_name : variables, arrays or HDF5 data sets that hold them. ids_file : ids, one a line, instead.
    count : images expected where there are no ids (their order is then the data set's own).
    orientation : 'rows' or 'columns' says which way round images lie; 'auto' tells from the number of images, and
    raises CacheError where both axes fit. MATLAB files of neuraltalk have images in columns.
    """
    path = Path(path)
    arrays = _load(path, (features_name, ids_name))
    if features_name not in arrays:
        raise CacheError(f"{path} has no {features_name!r}; it has {', '.join(sorted(arrays['']))}: name one of them")
    features = arrays[features_name]
    if features.ndim != 2 or features.dtype.kind not in "fiu":
        raise CacheError(
            f"{path}: {features_name!r} is {features.dtype} of shape {features.shape}, not a number matrix"
        )
    ids = None
    if ids_file is not None:
        ids = tuple(line.strip() for _, line in read_lines(Path(ids_file)))
    elif ids_name in arrays:
        ids = tuple(_text(value) for value in arrays[ids_name].ravel())
    expected = count if ids is None else len(ids)
    if orientation == "auto":
        fits = [axis for axis in (0, 1) if features.shape[axis] == expected]
        if len(fits) != 1:
            verb = "fits both axes" if fits else "fits neither axis"
            raise CacheError(
                f"{path}: {features_name!r} has shape {features.shape}, and the number of images, {expected}, {verb}; "
                + ("pass --orientation rows or columns" if fits else "pass the right ids with --ids FILE")
            )
        orientation = ORIENTATIONS[1 + fits[0]]
    if orientation == "columns":
        features = features.T
    if len(features) != expected:
        raise CacheError(f"{path}: {len(features)} images ({orientation}) in {features_name!r}, but {expected} ids")
    if ids is not None and len(set(ids)) != len(ids):
        raise CacheError(f"{path}: some ids occur twice; every image must have one row")
    return ForeignFeatures(features, ids)


def import_features(
    output: str | Path,
    corpus: Corpus,
    foreign: ForeignFeatures,
    *,
    source: str | Path,
    source_sha256: str,
    layer: str,
    dtype: str = "float16",
) -> tuple[int, int]:
    """Write a cache of foreign features joined with a corpus by id; it appears whole or not at all.

    Images without a row are failed with the reason. Returns the numbers of images without a row and of rows without
    an image; the latter are listed among the problems. Raises CacheError if no row belongs to an image.
    """
    source = Path(source)
    ids = foreign.ids or tuple(image.id for image in corpus.images)
    row_of = {image_id: row for row, image_id in enumerate(ids)}
    known = {image.id for image in corpus.images}
    strays = tuple(
        Problem("features without an image", image_id, source.name) for image_id in ids if image_id not in known
    )
    if len(strays) == len(ids):
        raise CacheError(f"{source}: no id is an image of {corpus.name} (the first is {ids[0]!r}); pass --ids FILE")
    provenance = {
        "dataset": corpus.name,
        "annotation_sha256": corpus.sha256(),
        "backbone": "imported",
        "layer": layer,
        "relu": "unknown",
        "weights": str(source),
        "weights_sha256": source_sha256,
        "preprocessing": "unknown",
        "dtype": dtype,
    }
    whole = Corpus(
        corpus.name, corpus.root, corpus.images, (*corpus.problems, *strays), corpus.notes, corpus.integer_ids
    )
    with new_file(output) as draft:
        create_cache(draft, whole, provenance, feature_size=foreign.features.shape[1], dtype=dtype)
        with CacheWriter(draft) as writer:
            present = np.array([n for n, image in enumerate(corpus.images) if image.id in row_of])
            for begin in range(0, len(present), ROWS_AT_ONCE):
                numbers = present[begin : begin + ROWS_AT_ONCE]
                writer.write(numbers, foreign.features[[row_of[corpus.images[n].id] for n in numbers]])
            absent = writer.pending()
            writer.fail(absent, [f"no features in {source.name}"] * len(absent))
    return len(absent), len(strays)


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
        if h5py.is_hdf5(path):  # MATLAB 7.3 is HDF5 with every array transposed; orientation sorts that out
            with h5py.File(path, "r", locking=False) as file:
                return _load_hdf5(file, wanted)
        if magic.startswith(b"MATLAB 5"):
            return _load_matlab(path, wanted)
    except (ValueError, TypeError, KeyError, OSError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise CacheError(f"{path} cannot be read as a features file: {error}") from error
    raise CacheError(f"{path} is none of .mat, .npy, .npz, HDF5")


def _load_hdf5(file: h5py.File, wanted: tuple[str, str]) -> dict[str, np.ndarray]:
    names: list[str] = []
    file.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
    arrays = {}
    for name in set(wanted) & set(names):
        if file[name].is_virtual or file[name].external:
            raise ValueError(f"the contents of {name} lie in another file")
        arrays[name] = file[name][()]
    return arrays | {"": np.array(names)}


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

"""The formats that `import-features` reads, by the name used in --format. A new format is a module and a line here.

A module has `recognise(path) -> bool`, which looks at names and first bytes only, and `read(path, given)`, which
returns Sources. It raises ValueError for contents that it cannot use. This module does not import h5py or NumPy, so
that a command can show the formats without loading them.
"""

import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mrnn.data.errors import CacheError, SettingError

if TYPE_CHECKING:
    from mrnn.data.foreign.source import Source

# In the order in which they are tried; arrays, the last, takes every file that the others do not.
FORMATS = {
    "mrnn": "mrnn.data.foreign.exported",  # .npz of export-mrnn
    "vse": "mrnn.data.foreign.vse",  # VSE++, SCAN: SPLIT_ims.npy
    "bottom-up": "mrnn.data.foreign.bottom_up",  # tab-separated lines with base64
    "updown": "mrnn.data.foreign.updown",  # HDF5: image_features, image_bb
    "neuraltalk2": "mrnn.data.foreign.neuraltalk2",  # HDF5: fc, att, with NAME.json beside it
    "imagecaptioning": "mrnn.data.foreign.imagecaptioning",  # folders of ID.npy and ID.npz
    "hloc": "mrnn.data.foreign.hloc",  # HDF5: a group for each image
    "arrays": "mrnn.data.foreign.arrays",  # one matrix in .mat, .npy, .npz or HDF5
}
ORIENTATIONS = ("auto", "rows", "columns")
UNREADABLE = (
    OSError,
    ValueError,
    TypeError,
    KeyError,
    EOFError,
    RuntimeError,
    OverflowError,
    zipfile.BadZipFile,
    zlib.error,
)


@dataclass(frozen=True)
class Given:
    """What the user says about files that do not say it themselves.

    features_name, ids_name : variables, arrays or HDF5 data sets that hold features and ids.
    ids_file : ids in the order of the rows, in a form of mrnn.data.foreign.ids.
    orientation : 'rows' or 'columns' says which way round images lie; 'auto' tells from the number of images.
    count : number of images of the data set, which a matrix without ids must have.
    """

    features_name: str = "feats"
    ids_name: str = "ids"
    ids_file: Path | None = None
    orientation: str = "auto"
    count: int = 0


def read_sources(paths: Sequence[Path], given: Given, *, format: str = "auto") -> "list[Source]":
    """The features in some files or folders, all of one format.

    format : a name of FORMATS, or 'auto' to tell it from each file.
    Raises CacheError for files that cannot be read or do not go together, SettingError for ids of several files.
    """
    if given.ids_file is not None and len(paths) > 1:
        raise SettingError("--ids names the rows of one file; import several files with ids of their own, or one")
    return [source for path in paths for source in _read(path, given, format)]


def guess_format(path: Path) -> str:
    """The name of the format that a file or folder has by its look."""
    for name, module in FORMATS.items():
        if import_module(module).recognise(path):
            return name
    raise CacheError(
        f"{path}: a folder without features in a known form; known are folders with SPLIT_ims.npy (VSE, SCAN), with "
        "ID.npy or ID.npz, or with folders fc and att of these (ImageCaptioning.pytorch)"
    )


def _read(path: Path, given: Given, format: str) -> "list[Source]":
    try:
        reader: Any = import_module(FORMATS[guess_format(path) if format == "auto" else format])
        found: list[Source] = reader.read(path, given)
    except UNREADABLE as error:
        raise CacheError(f"{path}: {error}") from error
    return found

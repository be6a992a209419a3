"""Index files: arrays that are computed once and searched often, in one safetensors file.

The writer of safetensors needs all arrays in memory. Here they are filled part by part in a mapped file instead, which
the format allows: 8 bytes with the length of a JSON header, the header, then the arrays one after another.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from mrnn.data.errors import SettingError
from mrnn.data.files import new_file

DTYPES = {"F16": "<f2", "F32": "<f4", "I64": "<i8"}
Layout = Mapping[str, tuple[str, tuple[int, ...]]]


class InMemory:
    """An index that is in no file, with the methods of a safetensors handle that are used here."""

    def __init__(self, arrays: Mapping[str, np.ndarray]) -> None:
        self._arrays = arrays

    def get_tensor(self, name: str) -> np.ndarray:
        """A whole array."""
        return self._arrays[name]

    def get_slice(self, name: str) -> np.ndarray:
        """Something to take parts of an array from."""
        return self._arrays[name]


@contextmanager
def new_index(path: Path | None, about: Mapping[str, Any], layout: Layout) -> Iterator[dict[str, np.ndarray]]:
    """Yield the arrays of a new file, {name: array}, mapped for writing.

    The file gets its name, and replaces an older one, when the block ends without an exception.

    path : the index file; None for arrays in memory.
    about : plain values that identify what the arrays were made from.
    layout : {name: (key of DTYPES, shape)}. List wide types first, so that every array is aligned to its item size.
    """
    if path is None:
        yield {name: np.empty(shape, DTYPES[dtype]) for name, (dtype, shape) in layout.items()}
        return
    header: dict[str, Any] = {"__metadata__": {"about": json.dumps(about, sort_keys=True)}}
    position = 0
    for name, (dtype, shape) in layout.items():
        size = int(np.prod(shape)) * np.dtype(DTYPES[dtype]).itemsize
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [position, position + size]}
        position += size
    text = json.dumps(header).encode()
    text = text.ljust(-(-len(text) // 8) * 8)  # the format allows trailing spaces; they align the arrays to 8 bytes
    if path.exists() and not _is_index(path):
        raise SettingError(f"{path} is not an index that mrnn wrote, so it is not replaced; name another --index")
    path.parent.mkdir(parents=True, exist_ok=True)
    with new_file(path, replace=True) as draft:
        with draft.open("wb") as stream:
            stream.write(len(text).to_bytes(8, "little") + text)
            stream.truncate(8 + len(text) + position)
        arrays = {
            name: np.memmap(
                draft,
                DTYPES[dtype],
                mode="r+",
                offset=8 + len(text) + header[name]["data_offsets"][0],
                shape=shape,
            )
            for name, (dtype, shape) in layout.items()
        }
        yield {**arrays}
        for array in arrays.values():
            array.flush()


def open_index(path: Path | None, about: Mapping[str, Any]) -> Any | None:
    """The opened file (a safetensors handle), or None if there is no file that was made from equal data."""
    if path is None:
        return None
    try:
        handle = safe_open(path, framework="numpy").__enter__()
        stored = json.loads(handle.metadata()["about"])
    except (FileNotFoundError, SafetensorError, ValueError, KeyError, TypeError):
        return None
    return handle if stored == json.loads(json.dumps(about)) else None


def _is_index(path: Path) -> bool:
    """Whether a file begins as one of ours, of whatever arrays; a damaged one counts too."""
    with path.open("rb") as stream:
        return b'{"__metadata__": {"about": ' in stream.read(64)

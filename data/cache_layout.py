"""The bytes of a feature cache outside of its HDF5 data sets: header, mutable ranges, digest of all the rest."""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mrnn.data.errors import CacheError
from mrnn.data.picture_files import DIGEST_BYTES

FORMAT = "mrnn-features"
VERSION = 2
USER_BLOCKS = {1: 512, 2: 1024}  # HDF5 looks for its own beginning at these places and at every further power of two
HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
REASON_BYTES = 200
STATE_PENDING, STATE_DONE, STATE_FAILED = 0, 1, 2
DTYPES = {"float16": "<f2", "float32": "<f4"}

# The data sets that change after creation, in their order in the file: (dtype or '' for that of the features, whether
# the first axis counts rows or images, the shape of an item or (-1,) for a feature vector).
TABLES: dict[str, tuple[str, str, tuple[int, ...]]] = {
    "features": ("", "rows", (-1,)),
    "state": ("u1", "images", ()),
    "checksum": ("<u4", "images", ()),
    "reason": (f"S{REASON_BYTES}", "images", ()),
    "picture_hash": ("u1", "images", (DIGEST_BYTES,)),
    "rectangle": ("<f4", "rows", (4,)),
    "region_score": ("<f4", "rows", ()),
    "region_class": ("<i4", "rows", ()),
    "valid": ("u1", "rows", ()),
}
MUTABLE = {1: tuple(TABLES)[:4], 2: tuple(TABLES)}
Ranges = Mapping[str, list[int]]


def table_shape(name: str, *, images: int, rows_per_image: int, feature_size: int) -> tuple[int, ...]:
    """The shape of one of TABLES in a cache of that size."""
    _, axis, item = TABLES[name]
    first = images * rows_per_image if axis == "rows" else images
    return (first, *(feature_size if length < 0 else length for length in item))


def user_block(size: int, ranges: Ranges, sha256: str, *, version: int = VERSION) -> bytes:
    """The header of a cache: one line of JSON, padded with blanks to the block's size."""
    header = {"format": FORMAT, "version": version, "size": size, "mutable": ranges, "sha256": sha256}
    return json.dumps(header).encode().ljust(USER_BLOCKS[version] - 1) + b"\n"


def static_ranges(ranges: Ranges, size: int, *, version: int = VERSION) -> Iterator[tuple[int, int]]:
    """Begin and end of the stretches of the file that never change after creation."""
    position = USER_BLOCKS[version]
    for offset, length in sorted(ranges.values()):
        yield position, offset
        position = offset + length
    yield position, size


def static_digest(path: Path, ranges: Ranges, size: int, *, version: int = VERSION) -> str:
    """SHA-256 (hex) over everything that never changes after creation."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        for begin, end in static_ranges(ranges, size, version=version):
            stream.seek(begin)
            digest.update(stream.read(end - begin))
    return digest.hexdigest()


def check_bytes(path: Path) -> tuple[int, dict[str, list[int]]]:
    """Check that the file is a whole cache of ours; return its schema version and mutable ranges.

    The ranges are {name: [offset, length]}. Raises CacheError for anything else, naming what is wrong.
    """
    try:
        with path.open("rb") as stream:
            block = stream.read(max(USER_BLOCKS.values()) + len(HDF5_SIGNATURE))
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
        header: dict[str, Any] = json.loads(block.partition(b"\n")[0])
        version, whole, digest = header["version"], int(header["size"]), header["sha256"]
        ranges = {name: [int(offset), int(length)] for name, (offset, length) in header["mutable"].items()}
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        raise damaged from None
    if not isinstance(version, int) or version not in MUTABLE:
        raise CacheError(f"{path} has schema version {version}; this mrnn reads versions 1 to {VERSION}")
    if size < whole:
        raise CacheError(f"{path} is cut off: it has {size} of {whole} bytes; copy it again or make it anew")
    expected = user_block(whole, ranges, digest, version=version)
    if ranges.keys() != set(MUTABLE[version]) or block[: USER_BLOCKS[version]] != expected:
        raise damaged
    ordered = all(0 <= begin <= end for begin, end in static_ranges(ranges, size, version=version))
    if not ordered or size != whole or static_digest(path, ranges, size, version=version) != digest:
        raise CacheError(f"{path} is damaged: bytes outside the features have changed; copy it again or make it anew")
    return version, ranges

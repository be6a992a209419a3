"""Folders of ImageCaptioning.pytorch and its descendants: NAME_fc/ID.npy, NAME_att/ID.npz, NAME_box/ID.npy.

fc holds (D,) of the whole picture. att holds, under 'feat' or 'z', (k, D) of regions or (h, w, D) of a grid; box their
(k, 4) left, top, right, bottom in pixels. Without fc the whole picture is the mean of its regions, as it is there.
"""

import zipfile
from pathlib import Path
from typing import IO

import numpy as np

from mrnn.data.foreign.formats import UNREADABLE, Given
from mrnn.data.foreign.source import LARGEST_FEATURE, MOST_REGIONS, ImageRows, Source, with_regions

PARTS = ("fc", "att", "box")
NAMES = ("feat", "z")  # of the array of an .npz
LARGEST = 2**28  # numbers in one file: more than 1,000 regions of 2^18


def recognise(path: Path) -> bool:
    """Whether a folder has features of these forms."""
    return path.is_dir() and any(_locate(path).values())


def read(path: Path, given: Given) -> list[Source]:
    """A folder of one part, with the parts that lie beside it, or the folder of all parts."""
    parts = _locate(path)
    whole, regions, boxes = (parts.get(part) for part in PARTS)
    names = sorted(file.stem for file in (regions or whole or path).iterdir() if file.suffix in (".npy", ".npz"))
    if not names:
        raise ValueError("a folder without ID.npy or ID.npz")
    shapes = [_shape(_file(regions or whole, name)) for name in names]

    def read_image(number: int) -> ImageRows:
        name = names[number]
        one = None if whole is None else _load(_file(whole, name))
        if one is not None and one.size != one.shape[-1]:
            raise ValueError(f"an array of shape {one.shape}, where one vector of a whole picture was expected")
        if regions is None:
            assert one is not None
            return ImageRows(one.reshape(1, -1))
        found = _load(_file(regions, name))
        return with_regions(
            found.reshape(-1, found.shape[-1]),
            corners=None if boxes is None else _load(_file(boxes, name)),
            whole=None if one is None else one.ravel(),
        )

    return [
        Source(
            path=path,
            ids=tuple(names),
            count=len(names),
            feature_size=shapes[0][-1],
            regions=max(int(np.prod(shape[:-1])) for shape in shapes) if regions else 0,
            read=read_image,
            where=lambda number: str(_file(regions or whole, names[number])),
            files=tuple(_file(part, name) for part in (whole, regions, boxes) if part for name in names),
        )
    ]


def _locate(path: Path) -> dict[str, Path | None]:
    """The folders of each of PARTS: `path` itself and those beside it that are named alike, or those in it."""
    if any(path.glob("*.npz")):
        stem = path.name.removesuffix("att")
        beside = {part: path.with_name(stem + part) for part in ("fc", "box")} if _is_part(path, "att") else {}
        return {"att": path, **{part: folder for part, folder in beside.items() if folder.is_dir()}}
    if any(path.glob("*.npy")):
        return {"fc": path}
    found: dict[str, Path | None] = {}
    for part in PARTS:
        inside = sorted(folder for folder in path.iterdir() if folder.is_dir() and _is_part(folder, part))
        if len(inside) > 1:
            raise ValueError(f"{', '.join(folder.name for folder in inside)}: which one? Name the folder itself")
        found[part] = inside[0] if inside else None
    return found


def _is_part(folder: Path, part: str) -> bool:
    """Whether a folder is named as one of PARTS: att, cocobu_att."""
    return folder.name == part or folder.name.endswith(f"_{part}")


def _file(folder: Path | None, name: str) -> Path:
    assert folder is not None
    for suffix in (".npy", ".npz"):
        if (folder / (name + suffix)).is_file():
            return folder / (name + suffix)
    raise ValueError(f"{folder} has no {name}.npy or {name}.npz")


def _shape(file: Path) -> tuple[int, ...]:
    """The shape of a file's array from its header, so that nothing large is unpacked for it."""
    try:
        if file.suffix == ".npy":
            with file.open("rb") as stream:
                return _read_header(stream)
        with zipfile.ZipFile(file) as archive:
            member = next((name + ".npy" for name in NAMES if name + ".npy" in archive.namelist()), None)
            if member is None:
                raise ValueError(f"no array {' or '.join(NAMES)}")
            with archive.open(member) as stream:
                return _read_header(stream)
    except UNREADABLE as error:
        raise ValueError(f"{file.name}: {error}") from error


def _read_header(stream: IO[bytes]) -> tuple[int, ...]:
    version = np.lib.format.read_magic(stream)
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in readers:
        raise ValueError(f"version {version} of NumPy's format")
    shape, _, dtype = readers[version](stream)
    if dtype.kind not in "fiu" or not shape or min(shape) < 1:
        raise ValueError(f"{dtype} of shape {shape}, not features")
    if shape[-1] > LARGEST_FEATURE or np.prod(shape[:-1], dtype=float) > MOST_REGIONS or np.prod(shape) > LARGEST:
        raise ValueError(f"shape {shape}, more than features of an image have")
    return tuple(map(int, shape))


def _load(file: Path) -> np.ndarray:
    shape = _shape(file)
    with file.open("rb") as stream:
        found = np.load(stream, allow_pickle=False)
        if not isinstance(found, np.ndarray):
            found = next(found[name] for name in NAMES if name in found)
    assert found.shape == shape
    return found

"""HDF5 beside a list of neuraltalk2, as its successors in PyTorch keep features: rows in the order of the list.

    NAME.json      {"images": [{"file_path": ..., "id": ..., "split": ...}, ...], "ix_to_word": ...}
    NAME_fc.h5     fc (N, D), of whole pictures
    NAME_att.h5    att (N, k, D) of regions, or (N, h, w, D) of a grid

neuraltalk2 itself keeps no features: its HDF5 holds the pictures, as `images` (N, 3, 256, 256), and `labels`.
"""

from pathlib import Path

import numpy as np

from mrnn.data.foreign.formats import Given
from mrnn.data.foreign.hdf5 import data_sets, is_hdf5, numbers, open_hdf5
from mrnn.data.foreign.ids import read_ids
from mrnn.data.foreign.source import ImageRows, Source, with_regions

PARTS = {"fc": (2,), "att": (3, 4)}  # with the numbers of axes that they may have
# "id" is the number that COCO, or Karpathy's file of another data set, gives the image; the path is known to all.
ID_KEYS = ("file_path", "id")


def recognise(path: Path) -> bool:
    """Whether an HDF5 file has fc or att and a list beside it, or is neuraltalk2's own."""
    names = set(data_sets(path)) if is_hdf5(path) else set()
    return (bool(names & set(PARTS)) and _list_of(path).is_file()) or {"images", "labels", "label_length"} <= names


def read(path: Path, given: Given) -> list[Source]:
    """NAME_fc.h5 or NAME_att.h5, with the other one where it lies beside; ids from --ids or NAME.json."""
    files = {path: open_hdf5(path)}  # open as long as the source is in use
    parts = {name: numbers(files[path], name) for name in PARTS if name in files[path]}
    if not parts:
        raise ValueError(
            "it holds the pictures themselves, not features; compute those with extract-features, or give the file "
            "that has them (NAME_fc.h5)"
        )
    for name, other in (("fc", "att"), ("att", "fc")):
        beside = path.with_name(path.name.replace(f"_{name}", f"_{other}"))
        if name in parts and other not in parts and beside != path and is_hdf5(beside):
            files[beside] = open_hdf5(beside)
            parts[other] = numbers(files[beside], other)
    for name, part in parts.items():
        if part.ndim not in PARTS[name] or not all(part.shape):
            raise ValueError(f"{name} has shape {part.shape}, which is not one of features")
    counts = {len(part) for part in parts.values()}
    ids = _read_ids(path, given)
    if counts != {len(ids)}:
        raise ValueError(f"{' and '.join(map(str, sorted(counts)))} images, but {len(ids)} ids")
    whole, regions = parts.get("fc"), parts.get("att")

    def read_image(number: int) -> ImageRows:
        one = None if whole is None else whole[number]
        if regions is None:
            assert one is not None
            return ImageRows(one[None])
        return with_regions(regions[number].reshape(-1, regions.shape[-1]), whole=one)

    return [
        Source(
            path=path,
            ids=ids,
            count=len(ids),
            feature_size=next(iter(parts.values())).shape[-1],
            regions=0 if regions is None else int(np.prod(regions.shape[1:-1])),
            read=read_image,
            where=lambda number: f"{path}, row {number}",
            files=tuple(files),
        )
    ]


def _read_ids(path: Path, given: Given) -> tuple[str, ...]:
    if given.ids_file is not None:
        return read_ids(given.ids_file)
    beside = _list_of(path)
    if not beside.is_file():
        raise ValueError(f"nothing says which images it holds; give --ids FILE, or put {beside.name} beside it")
    return read_ids(beside, keys=ID_KEYS)


def _list_of(path: Path) -> Path:
    stem = path.stem
    for name in PARTS:
        stem = stem.replace(f"_{name}", "")
    return path.with_name(f"{stem}.json")

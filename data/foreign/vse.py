"""SPLIT_ims.npy, SPLIT_caps.txt and SPLIT_ids.txt of VSE++ (Faghri et al. 2018), SCAN (Lee et al. 2018) and successors.

SPLIT_ims.npy is (n, D) for whole pictures, or (n, k, D) for k regions of each. SPLIT_caps.txt has a caption per line:
five for each row, or one, and then the row of an image is repeated for each of its captions. SPLIT_ids.txt, which VSE++
lacks, has COCO's id or, for Flickr30k, the number in Karpathy's file (imgid) for each row or each caption. So images
are joined by their captions as well.
"""

import itertools
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from mrnn.data.annotation_files import read_text
from mrnn.data.foreign.formats import Given
from mrnn.data.foreign.ids import read_ids
from mrnn.data.foreign.source import ImageRows, Source, with_regions

ENDING = "_ims.npy"
CAPTIONS = 5  # for each row, where rows are not repeated


def recognise(path: Path) -> bool:
    """Whether it is a SPLIT_ims.npy, or a folder that has one."""
    return path.name.endswith(ENDING) or (path.is_dir() and any(path.glob(f"*{ENDING}")))


def read(path: Path, given: Given) -> list[Source]:
    """One SPLIT_ims.npy, or all that a folder has."""
    files = sorted(path.glob(f"*{ENDING}")) if path.is_dir() else [path]
    return [_read_split(file, given) for file in files]


def _read_split(path: Path, given: Given) -> Source:
    features = np.lib.format.open_memmap(path, mode="r")  # never a pickle
    if features.ndim not in (2, 3) or features.dtype.kind not in "fiu" or not features.size:
        raise ValueError(f"{features.dtype} of shape {features.shape}, not numbers of (images, D) or (images, k, D)")
    stem = path.name.removesuffix(ENDING)
    captions_file = path.with_name(f"{stem}_caps.txt")
    ids_file = given.ids_file or path.with_name(f"{stem}_ids.txt")
    captions = _read_lines(captions_file) if captions_file.is_file() else None
    ids = read_ids(ids_file) if ids_file.is_file() else None
    if captions is None and ids is None:
        raise ValueError(f"nothing says which images it holds; put {stem}_caps.txt or {stem}_ids.txt beside it")
    rows = len(features)
    each = 1 if captions is None else _captions_per_row(len(captions), rows)
    # A row for each caption, so an image is a run of equal rows; otherwise every row is an image of its own.
    starts = _runs(features) if each == 1 and captions is not None else list(range(rows))
    bounds = [*starts, rows]
    if ids is not None:
        ids = _id_per_row(ids, rows, each, ids_file)
        ids = tuple(ids[start] for start in starts)
    sentences = None
    if captions is not None:
        sentences = tuple(tuple(captions[each * begin : each * end]) for begin, end in itertools.pairwise(bounds))

    def read_image(number: int) -> ImageRows:
        row = np.asarray(features[starts[number]])
        return ImageRows(row[None]) if features.ndim == 2 else with_regions(row)

    return Source(
        path=path,
        ids=ids,
        count=len(starts),
        feature_size=features.shape[-1],
        regions=features.shape[1] if features.ndim == 3 else 0,
        read=read_image,
        where=lambda number: f"{path}, row {starts[number]}",
        files=(path,),
        sentences=sentences,
    )


def _captions_per_row(captions: int, rows: int) -> int:
    for each in (1, CAPTIONS):
        if captions == each * rows:
            return each
    raise ValueError(f"{rows} rows, and {captions} captions beside them: neither one nor five for each row")


def _id_per_row(ids: tuple[str, ...], rows: int, each: int, file: Path) -> tuple[str, ...]:
    if len(ids) == rows:
        return ids
    if len(ids) == each * rows:
        return ids[::each]
    if each == 1 and len(ids) * CAPTIONS == rows:  # an id for each image, and rows repeated
        return tuple(image_id for image_id in ids for _ in range(CAPTIONS))
    raise ValueError(f"{file.name} has {len(ids)} ids for {rows} rows")


def _read_lines(path: Path) -> list[str]:
    """All lines; a blank one is a caption too, and keeps its place."""
    return [line.rstrip("\r") for line in read_text(path).removesuffix("\n").split("\n")]


def _runs(features: np.ndarray) -> list[int]:
    """Numbers of the rows that differ from the row before."""
    differs: Iterable[int] = (n for n in range(1, len(features)) if not np.array_equal(features[n], features[n - 1]))
    return [0, *differs]

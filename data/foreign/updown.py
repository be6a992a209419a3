"""HDF5 of bottom-up attention as bottom-up-attention-vqa converts it, and many after it.

    image_features    (N, 36, D), image_bb (N, 36, 4), spatial_features (N, 36, 6)         36 boxes for each image
    image_features    (M, D), image_bb (M, 4), spatial_features (M, 6), pos_boxes (N, 2)   boxes pos_boxes[i]: from, to

image_bb are left, top, right, bottom in pixels; spatial_features the same over width and height of the picture, from
which its size follows. The ids are in a file beside it, {id: i}: a pickle that mrnn does not read, or JSON.
"""

from pathlib import Path

import numpy as np

from mrnn.data.foreign.formats import Given
from mrnn.data.foreign.hdf5 import data_sets, is_hdf5, numbers, open_hdf5
from mrnn.data.foreign.ids import read_ids, refuse_pickle
from mrnn.data.foreign.source import ImageRows, Source, with_regions

FEATURES, BOXES, SPATIAL, SPANS = "image_features", "image_bb", "spatial_features", "pos_boxes"


def recognise(path: Path) -> bool:
    """Whether an HDF5 file has image_features."""
    return is_hdf5(path) and FEATURES in data_sets(path)


def read(path: Path, given: Given) -> list[Source]:
    """A file, with the ids of --ids or of STEM_imgid2idx.json beside it."""
    file = open_hdf5(path)  # open as long as the source is in use
    features = numbers(file, FEATURES)
    boxes = numbers(file, BOXES) if BOXES in file else None
    spatial = numbers(file, SPATIAL) if SPATIAL in file else None
    if features.ndim == 3:
        rows, most = np.arange(len(features)), features.shape[1]
    elif features.ndim == 2 and SPANS in file:
        rows = numbers(file, SPANS)[()].astype(np.int64)
        if rows.ndim != 2 or rows.shape[1] != 2 or (rows < 0).any() or (rows > len(features)).any():
            raise ValueError(f"{SPANS} of shape {rows.shape} does not give the first and last box of each image")
        most = int((rows[:, 1] - rows[:, 0]).max(initial=0))
    else:
        raise ValueError(f"{FEATURES} has shape {features.shape}, and there is no {SPANS}; not a form of updown")
    for name, data, width in ((BOXES, boxes, 4), (SPATIAL, spatial, 6)):
        if data is not None and data.shape != (*features.shape[:-1], width):
            raise ValueError(f"{name} has shape {data.shape}, and {FEATURES} {features.shape}")
    ids = _read_ids(path, given)
    if len(ids) != len(rows):
        raise ValueError(f"{len(rows)} images, but {len(ids)} ids")

    def read_image(number: int) -> ImageRows:
        place = number if features.ndim == 3 else slice(*rows[number])
        corners = None if boxes is None else boxes[place]
        size = (0.0, 0.0) if corners is None or spatial is None else _size(corners, spatial[place])
        return with_regions(features[place], corners=corners, size=size)

    return [
        Source(
            path=path,
            ids=ids,
            count=len(rows),
            feature_size=features.shape[-1],
            regions=most,
            read=read_image,
            where=lambda number: f"{path}, row {number}",
            files=(path,),
        )
    ]


def _read_ids(path: Path, given: Given) -> tuple[str, ...]:
    if given.ids_file is not None:
        return read_ids(given.ids_file)
    beside = path.with_name(f"{path.stem}_imgid2idx.json")
    pickled = beside.with_suffix(".pkl")
    if beside.is_file():
        return read_ids(beside)
    if pickled.is_file():
        raise ValueError(f"its ids lie beside it: {refuse_pickle(pickled)}")
    raise ValueError(f"nothing says which images it holds; give --ids FILE, or put {beside.name} beside it")


def _size(corners: np.ndarray, spatial: np.ndarray) -> tuple[float, float]:
    """Width and height of a picture, from the edge of the box that reaches furthest: in pixels, and as a share."""
    sizes = []
    for axis in (0, 1):
        furthest = int(spatial[:, 2 + axis].argmax()) if len(spatial) else 0
        share = float(spatial[furthest, 2 + axis]) if len(spatial) else 0.0
        sizes.append(float(corners[furthest, 2 + axis]) / share if share > 0 else 0.0)
    return sizes[0], sizes[1]

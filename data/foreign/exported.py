"""The .npz that `export-mrnn` writes (mrnn.data.export): importing it makes an equal cache."""

import json
import zipfile
from pathlib import Path

import numpy as np

from mrnn.data.foreign.formats import Given
from mrnn.data.foreign.source import ImageRows, Source
from mrnn.data.picture_files import DIGEST_BYTES
from mrnn.data.regions import REGION_TABLES, Regions

ARRAYS = ("feats", "ids", "provenance", "picture_hash", *REGION_TABLES)


def recognise(path: Path) -> bool:
    """Whether an .npz has all the arrays."""
    if not path.is_file() or not zipfile.is_zipfile(path):
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            return {f"{name}.npy" for name in ARRAYS} <= set(archive.namelist())
    except zipfile.BadZipFile:
        return False


def read(path: Path, given: Given) -> list[Source]:
    """An .npz of ours, which is read into memory. feats is (n, D), or (n, R, D) with regions."""
    with path.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in ARRAYS}
    features = arrays["feats"]
    if features.ndim not in (2, 3) or features.dtype not in (np.float16, np.float32):
        raise ValueError(f"feats is {features.dtype} of shape {features.shape}, not (n, D) or (n, R, D)")
    features = features.reshape(len(features), -1, features.shape[-1])
    count, rows, size = features.shape
    empty = Regions.empty(rows)
    for name in REGION_TABLES:
        expected = (count, *empty.tables()[name].shape)
        if arrays[name].shape != expected or arrays[name].dtype != empty.tables()[name].dtype:
            raise ValueError(f"{name} is {arrays[name].dtype} of shape {arrays[name].shape}, not of {expected}")
    if arrays["picture_hash"].shape != (count, DIGEST_BYTES) or arrays["ids"].shape != (count,):
        raise ValueError("its ids or hashes are not one for each image")
    provenance = json.loads(str(arrays["provenance"]))
    values = provenance.values() if isinstance(provenance, dict) else [None]
    if not all(isinstance(value, str | int | float | bool) for value in values):
        raise ValueError("provenance is not a JSON object of plain values")

    def read_image(number: int) -> ImageRows:
        regions = Regions(*(arrays[name][number] for name in REGION_TABLES))
        return ImageRows(features[number], regions, arrays["picture_hash"][number].astype(np.uint8))

    return [
        Source(
            path=path,
            ids=tuple(map(str, arrays["ids"].tolist())),
            count=count,
            feature_size=size,
            regions=rows - 1,
            read=read_image,
            where=lambda number: f"{path}, row {number}",
            files=(path,),
            provenance={**provenance, "dtype": features.dtype.name},
        )
    ]

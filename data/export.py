"""A feature cache in the formats of others: .npz, .parquet, or a folder of VSE++ and SCAN.

Rows are copied BYTES_AT_ONCE at a time, so a cache may be larger than memory. mrnn.data.foreign reads .npz and VSE
back.
"""

import json
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np

from mrnn.data.cache import FeatureCache
from mrnn.data.errors import CacheError, SettingError
from mrnn.data.files import new_file, write_json, write_whole
from mrnn.data.foreign import exported
from mrnn.data.outputs import is_json_with, refuse_foreign, refuse_foreign_folder
from mrnn.data.regions import rows_of

BYTES_AT_ONCE = 16 << 20
VSE_SPLITS = {"train": "train", "val": "dev", "test": "test"}
VSE_CAPTIONS = 5  # for each row of features; where an image has another number, its row is repeated for each caption
VSE_ORIGIN = "mrnn.json"  # provenance, and the mark by which a later export may replace the folder's files
PARQUET_MARK = b"mrnn-features"
ZIP_DATE = (1980, 1, 1, 0, 0, 0)  # equal contents, equal bytes


def export_cache(
    cache: FeatureCache, output: str | Path, *, split: str | None = None, overwrite: bool = False
) -> tuple[int, int]:
    """Write the images of a cache that have features; returns how many, and how many were left out.

    output : a file that ends in .npz or .parquet, or a folder for the files of VSE++, which has images with captions in
        a split only
    split : the only split to write, None for all
    overwrite : whether to replace an earlier export

    Raises CacheError if there is no such image, SettingError for another ending, for an output that exists (with
    `overwrite`: that is no export of mrnn), and for .parquet without pyarrow.
    """
    output = Path(output)
    images = cache.done(split)
    if output.suffix == ".npz":
        _check_file(output, exported.recognise, overwrite)
        write, written = _write_npz, len(images)
    elif output.suffix == ".parquet":
        _check_file(output, _is_parquet, overwrite)
        write, written = _write_parquet, len(images)
    elif not output.suffix or output.is_dir():
        names = [f"{name}_{part}" for name in VSE_SPLITS.values() for part in ("ims.npy", "caps.txt", "ids.txt")]
        check_folder(output, [*names, VSE_ORIGIN], VSE_ORIGIN, ("format", "provenance"), overwrite)
        images = np.array([n for n in images if cache.images[n].split and cache.images[n].sentences], np.int64)
        write, written = _write_vse, len(images)
    else:
        raise SettingError(f"{output}: a cache is exported to a file .npz or .parquet, or to a folder (VSE++, SCAN)")
    if not written:
        raise CacheError(f"{cache.path} has no image {f'of {split} ' if split else ''}to export")
    write(cache, images, output)
    return written, len(cache.images) - written


def check_folder(folder: Path, names: Iterable[str], mark: str, keys: tuple[str, ...], overwrite: bool) -> None:
    """Raise SettingError if a folder cannot be written: there is an earlier export, or files of others.

    names : of the files to write. mark : the JSON file that an export ends with. keys : which it has.
    """

    def is_ours(folder: Path) -> bool:
        return is_json_with(*keys)(folder / mark)

    refuse_foreign_folder(folder, names, is_ours=is_ours)
    if folder.is_dir() and is_ours(folder) and not overwrite:
        raise SettingError(f"{folder} holds an earlier export; pass --overwrite to replace it")


def _check_file(output: Path, is_ours: Any, overwrite: bool) -> None:
    refuse_foreign(output, is_ours, what="an export")
    if output.exists() and not overwrite:
        raise SettingError(f"{output} exists; pass --overwrite to replace it")


def _is_parquet(path: Path) -> bool:
    with path.open("rb") as stream:
        stream.seek(-min(path.stat().st_size, BYTES_AT_ONCE), 2)  # the schema and our mark stand at the end
        end = stream.read()
    return end.endswith(b"PAR1") and PARQUET_MARK in end


def _parts(cache: FeatureCache, images: np.ndarray) -> Iterator[np.ndarray]:
    """Image numbers, as many at a time as have BYTES_AT_ONCE of features."""
    step = max(1, BYTES_AT_ONCE * len(cache.images) // cache.features.nbytes)
    return (images[begin : begin + step] for begin in range(0, len(images), step))


def _rows(cache: FeatureCache, images: np.ndarray) -> np.ndarray:
    """(n, R, D), zeros where a row is not valid."""
    rows = cache.read(images).reshape(len(images), cache.rows_per_image, -1)
    rows[~_valid(cache, images)] = 0
    return rows


def _valid(cache: FeatureCache, images: np.ndarray) -> np.ndarray:
    return cache.regions.valid[rows_of(images, cache.rows_per_image)].reshape(len(images), -1).astype(bool)


def _write_array(stream: IO[bytes], shape: tuple[int, ...], dtype: np.dtype, parts: Iterable[np.ndarray]) -> None:
    """One array in NumPy's format from its parts along the first axis."""
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(stream, header)
    for part in parts:
        stream.write(np.ascontiguousarray(part, dtype).view(np.uint8).data)


def _write_npz(cache: FeatureCache, images: np.ndarray, output: Path) -> None:
    """feats (n, D), or (n, R, D) with regions, ids, path, split, caption, caption_image; tables; provenance as JSON."""
    chosen = [cache.images[n] for n in images]
    several = cache.rows_per_image > 1
    rows = rows_of(images, cache.rows_per_image)
    captions = [(number, sentence) for number, image in enumerate(chosen) for sentence in image.sentences]
    tables = {name: table.reshape(len(images), cache.rows_per_image, *table.shape[1:])
              for name, table in cache.regions[rows].tables().items()}  # fmt: skip
    small = {
        "ids": np.array([image.id for image in chosen]),
        "path": np.array([image.path for image in chosen]),
        "split": np.array([image.split for image in chosen]),
        "caption": np.array([sentence for _, sentence in captions], dtype=str),
        "caption_image": np.array([number for number, _ in captions], dtype=np.int64),
        "picture_hash": cache.picture_hashes[images],
        **tables,
        "provenance": np.array(json.dumps(cache.provenance)),
    }
    shape = (len(images), *((cache.rows_per_image,) if several else ()), cache.feature_size)
    with new_file(output, replace=True) as draft, zipfile.ZipFile(draft, "w", allowZip64=True) as archive:
        with archive.open(zipfile.ZipInfo("feats.npy", ZIP_DATE), "w", force_zip64=True) as stream:
            _write_array(stream, shape, cache.features.dtype, (_rows(cache, part) for part in _parts(cache, images)))
        for name, array in small.items():
            info = zipfile.ZipInfo(f"{name}.npy", ZIP_DATE)
            info.compress_type = zipfile.ZIP_DEFLATED  # text of fixed width is mostly zeros
            with archive.open(info, "w", force_zip64=True) as stream:
                np.lib.format.write_array(stream, array, allow_pickle=False)


def _write_vse(cache: FeatureCache, images: np.ndarray, output: Path) -> None:
    """SPLIT_ims.npy (n, D), or (n, R - 1, D) of the regions alone, SPLIT_caps.txt and SPLIT_ids.txt for each split."""
    output.mkdir(parents=True, exist_ok=True)
    (output / VSE_ORIGIN).unlink(missing_ok=True)  # until all is written it is no export
    first = 1 if cache.rows_per_image > 1 else 0
    shape = (cache.rows_per_image - 1, cache.feature_size) if first else (cache.feature_size,)
    for split, name in VSE_SPLITS.items():
        numbers = np.array([n for n in images if cache.images[n].split == split], np.int64)
        if not len(numbers):
            continue
        counts = [len(cache.images[n].sentences) for n in numbers]
        if set(counts) != {VSE_CAPTIONS}:
            numbers = np.repeat(numbers, counts)
        parts = (_rows(cache, part)[:, first:].reshape(-1, *shape) for part in _parts(cache, numbers))
        with new_file(output / f"{name}_ims.npy", replace=True) as draft, draft.open("wb") as stream:
            _write_array(stream, (len(numbers), *shape), cache.features.dtype, parts)
        once = list(dict.fromkeys(numbers.tolist()))
        captions = [sentence for n in once for sentence in cache.images[n].sentences]
        write_whole(output / f"{name}_caps.txt", "".join(f"{sentence}\n" for sentence in captions).encode())
        write_whole(output / f"{name}_ids.txt", "".join(f"{cache.images[n].id}\n" for n in numbers).encode())
    write_json(output / VSE_ORIGIN, {"format": "mrnn-vse", "dataset": cache.dataset, "provenance": cache.provenance})


def _write_parquet(cache: FeatureCache, images: np.ndarray, output: Path) -> None:
    """A row for each image: id, path, split, captions, features; with regions a list of rows, and where they are."""
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError:
        raise SettingError(f"{output}: a .parquet file takes pyarrow: pip install 'mrnn[parquet]'") from None
    vector = pa.list_(pa.from_numpy_dtype(cache.features.dtype), cache.feature_size)
    columns = {"id": pa.string(), "path": pa.string(), "split": pa.string(), "captions": pa.list_(pa.string())}
    if cache.rows_per_image > 1:
        rectangles, scores = pa.list_(pa.list_(pa.float32(), 4)), pa.list_(pa.float32())
        columns |= {"features": pa.list_(vector), "rectangles": rectangles, "region_scores": scores}
    else:
        columns |= {"features": vector}
    origin = {PARQUET_MARK: json.dumps({"dataset": cache.dataset, **cache.provenance}).encode()}
    schema = pa.schema(list(columns.items()), metadata=origin)
    with new_file(output, replace=True) as draft, parquet.ParquetWriter(draft, schema) as writer:
        for part in _parts(cache, images):
            chosen = [cache.images[n] for n in part]
            table: dict[str, Any] = {
                "id": [image.id for image in chosen],
                "path": [image.path for image in chosen],
                "split": [image.split for image in chosen],
                "captions": [image.sentences for image in chosen],
            }
            rows, valid = _rows(cache, part), _valid(cache, part)
            if cache.rows_per_image > 1:
                regions = cache.regions[rows_of(part, cache.rows_per_image)]
                for name, values in (("rectangles", regions.rectangles), ("region_scores", regions.scores)):
                    values = values.reshape(*valid.shape, *values.shape[1:])
                    table[name] = [list(of[kept]) for of, kept in zip(values, valid, strict=True)]
                table["features"] = [list(of[kept]) for of, kept in zip(rows, valid, strict=True)]
            else:
                table["features"] = pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), cache.feature_size)
            writer.write_table(pa.table(table, schema=schema))

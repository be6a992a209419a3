"""Rows of foreign features become a cache, joined with the captions of a data set."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from mrnn.data.cache_creation import create_cache
from mrnn.data.cache_writer import CacheWriter
from mrnn.data.captions import Corpus, Problem
from mrnn.data.errors import CacheError
from mrnn.data.files import new_file
from mrnn.data.foreign.formats import UNREADABLE
from mrnn.data.foreign.joining import NOBODY, join
from mrnn.data.foreign.source import ImageRows, Source
from mrnn.data.picture_files import DIGEST_BYTES
from mrnn.data.progress import Progress
from mrnn.data.regions import Regions

BYTES_AT_ONCE = 16 << 20
IMAGES_AT_ONCE = 1024


@dataclass(frozen=True)
class Imported:
    """absent : images without a row. strays : rows without an image. joined_by : what the ids of the rows were."""

    absent: int
    strays: int
    joined_by: str


def import_features(
    output: str | Path,
    corpus: Corpus,
    sources: Sequence[Source],
    *,
    layer: str,
    dtype: str = "float16",
    regions_per_image: int | None = None,
) -> Imported:
    """Write a cache of foreign features joined with a corpus; it appears whole or not at all.

    sources : with the same D. With regions, row 0 of an image is the whole picture.
    layer : recorded as the layer of the network.
    dtype : in which the features are stored; those of mrnn keep theirs.
    regions_per_image : how many regions of each image are kept, the best first; None for all.

    Rows without an image are listed among the problems, images without a row are failed with the reason. Raises
    CacheError if no row belongs to an image, or one cannot be read.
    """
    name = ", ".join(source.path.name for source in sources)
    places, joined_by = join(sources, corpus)
    strays = tuple(
        Problem("features without an image", source.ids[n] if source.ids else source.where(n), source.path.name)
        for source, found in zip(sources, places, strict=True)
        for n in np.flatnonzero(found == NOBODY).tolist()
    )
    most = max(source.regions for source in sources)
    rows = 1 + (most if regions_per_image is None else min(most, regions_per_image))
    provenance = {**_origin(sources, layer=layer, dtype=dtype, rows=rows), "dataset": corpus.name}
    provenance["annotation_sha256"] = corpus.sha256()
    with new_file(output) as draft:
        create_cache(
            draft,
            replace(corpus, problems=(*corpus.problems, *strays)),
            provenance,
            feature_size=sources[0].feature_size,
            dtype=str(provenance["dtype"]),
            rows_per_image=rows,
        )
        with CacheWriter(draft) as writer:
            wanted = [np.flatnonzero(found != NOBODY) for found in places]
            with Progress("import", sum(map(len, wanted)), unit="images") as progress:
                for source, found, numbers in zip(sources, places, wanted, strict=True):
                    step = min(IMAGES_AT_ONCE, max(1, BYTES_AT_ONCE // (4 * rows * source.feature_size)))
                    for begin in range(0, len(numbers), step):
                        part = numbers[begin : begin + step]
                        _write(writer, found[part], [_read(source, int(n)) for n in part], rows=rows)
                        progress.add(len(part))
            absent = writer.pending()
            writer.fail(absent, [f"no features in {name}"] * len(absent))
    return Imported(len(absent), len(strays), joined_by)


def _origin(sources: Sequence[Source], *, layer: str, dtype: str, rows: int) -> dict[str, str | int | float | bool]:
    first = sources[0]
    for source in sources:
        if source.feature_size != first.feature_size or source.provenance != first.provenance:
            raise CacheError(
                f"{first.path} and {source.path} do not hold the same features: {first.feature_size} and "
                f"{source.feature_size} numbers for each image, or another origin; import them into caches of their own"
            )
    if first.provenance is not None:
        return {**first.provenance}
    origin: dict[str, str | int | float | bool] = {
        "backbone": "imported",
        "layer": layer,
        "relu": "unknown",
        "weights": ", ".join(str(source.path) for source in sources),
        "weights_sha256": _digest([file for source in sources for file in source.files]),
        "preprocessing": "unknown",
        "dtype": dtype,
    }
    if rows > 1:
        origin |= {"regions": "imported", "regions_per_image": rows - 1, "region_features": "imported"}
    return origin


def _digest(files: Sequence[Path]) -> str:
    """SHA-256 of a file; of several, over their names and the hashes of each."""
    hashes = []
    for file in files:
        with file.open("rb") as stream:
            hashes.append(hashlib.file_digest(stream, "sha256").hexdigest())
    if len(files) == 1:
        return hashes[0]
    listed = "".join(f"{digest} {file.parent.name}/{file.name}\n" for digest, file in zip(hashes, files, strict=True))
    return hashlib.sha256(listed.encode(errors="surrogateescape")).hexdigest()


def _read(source: Source, number: int) -> ImageRows:
    try:
        found = source.read(number)
        if found.features.dtype.kind not in "fiu" or found.features.shape[1:] != (source.feature_size,):
            raise ValueError(f"rows of shape {found.features.shape}, not of {source.feature_size} numbers each")
    except UNREADABLE as error:
        raise CacheError(f"{source.where(number)}: {error}") from error
    return found


def _write(writer: CacheWriter, places: np.ndarray, images: Sequence[ImageRows], *, rows: int) -> None:
    """Write some images, each padded with rows that are not valid, or cut, to the same number of rows."""
    count = len(images)
    size = images[0].features.shape[1]
    features = np.zeros((count, rows, size), np.result_type(np.float32, *(image.features for image in images)))
    regions = Regions.empty(count * rows)
    hashes = np.zeros((count, DIGEST_BYTES), np.uint8)
    for number, image in enumerate(images):
        kept = min(rows, len(image.features))
        features[number, :kept] = image.features[:kept]
        found = image.regions or Regions.unknown(len(image.features))
        regions.put(number * rows, found, limit=kept)
        if image.picture_hash is not None:
            hashes[number] = image.picture_hash
    writer.write(places, features.reshape(count * rows, size), regions=regions, hashes=hashes)

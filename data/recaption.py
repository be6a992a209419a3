"""The features of a cache of ours with other captions: provenance, regions and hashes stay as they are."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from mrnn.data.cache import FeatureCache
from mrnn.data.cache_creation import create_cache
from mrnn.data.cache_layout import FORMAT, STATE_FAILED, STATE_PENDING
from mrnn.data.cache_writer import CacheWriter
from mrnn.data.captions import Corpus, Problem
from mrnn.data.errors import CacheError
from mrnn.data.files import new_file
from mrnn.data.merge import copy_images, images_at_once


def is_own_cache(path: Path) -> bool:
    """Whether a path is a file that begins as our caches do; it may still be damaged."""
    if path.is_dir():
        return False
    with path.open("rb") as stream:
        return FORMAT.encode() in stream.read(64)


def recaption(output: str | Path, corpus: Corpus, cache: FeatureCache) -> tuple[int, int]:
    """Write a cache with the rows of another, joined with a corpus by id; it appears whole or not at all.

    Images that the cache lacks or has pending are failed. Returns the numbers of images without a row and of rows
    without an image; the latter are listed among the problems. Raises CacheError if no row belongs to an image, or a
    row is damaged.
    """
    output = Path(output)
    theirs = {image.id: n for n, image in enumerate(cache.images) if cache.states[n] != STATE_PENDING}
    known = {image.id for image in corpus.images}
    strays = tuple(
        Problem("features without an image", image_id, cache.path.name) for image_id in theirs if image_id not in known
    )
    if len(strays) == len(theirs):
        raise CacheError(f"{cache.path}: no image that it has is one of {corpus.name}")
    provenance = {**cache.provenance, "dataset": corpus.name, "annotation_sha256": corpus.sha256()}
    with new_file(output) as draft:
        create_cache(
            draft,
            replace(corpus, problems=(*corpus.problems, *strays)),
            provenance,
            feature_size=cache.feature_size,
            dtype=cache.features.dtype.name,
            rows_per_image=cache.rows_per_image,
        )
        with CacheWriter(draft) as writer:
            ours = np.array([n for n, image in enumerate(corpus.images) if image.id in theirs], dtype=np.int64)
            for begin in range(0, len(ours), images_at_once(cache)):
                part = ours[begin : begin + images_at_once(cache)]
                copy_images(cache, np.array([theirs[corpus.images[n].id] for n in part]), writer, part)
            writer.fail(writer.pending(), [f"no features in {cache.path.name}"] * len(writer.pending()))
            absent = int((writer.states == STATE_FAILED).sum())
    return absent, len(strays)

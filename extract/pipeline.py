"""Batches of pictures, read, hashed, decoded and put in place while the network works on the batch before.

Threads decode a bounded number of batches ahead (Pillow gives up the interpreter's lock meanwhile). A detector runs in
the calling thread, one picture at a time, so that it shares no core with the network and its boxes depend on nothing
but the picture; the regions it found are cut out by the threads again, while the network works on the batch before.
"""

from collections import deque
from collections.abc import Generator, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from mrnn.data.cache import FeatureCache
from mrnn.data.cache_layout import DIGEST_BYTES
from mrnn.data.errors import ImageError
from mrnn.data.exhaustion import memory_for
from mrnn.data.picture_files import hash_bytes
from mrnn.data.regions import Regions, rows_of, whole_picture
from mrnn.extract.images import Picture, decode_picture, given_picture, read_bytes
from mrnn.extract.regions import RegionSource
from mrnn.extract.reusing import Reusable
from mrnn.extract.sampling import Sampler

BATCHES_AHEAD = 2
LESS = "lower --workers, or make the image smaller"


@dataclass(frozen=True)
class Wanted:
    """Pictures by number.

    ids : as the sources of regions know them, and messages name them.
    sources : the file of each, its bytes, or its pixels.
    """

    ids: tuple[str, ...]
    sources: tuple[Path | bytes | Image.Image | np.ndarray, ...]

    def name(self, number: int) -> str:
        """What messages call a picture: the path of its file, or its id."""
        source = self.sources[number]
        return str(source) if isinstance(source, Path) else self.ids[number]


@dataclass
class PreparedBatch:
    """Pictures on their way; those of one pass through the network, of which some may be done already.

    numbers : index of each picture. places : of each in the pass, 0 ... images - 1; other places are zero.
    pixels : as the sampler wants them. regions : of all rows of the pass. hashes : (images, 16) uint8.
    errors : why pictures cannot be had. reused : picture -> an older cache and its number there.
    """

    numbers: list[int]
    places: list[int]
    pixels: Tensor
    regions: Regions
    hashes: np.ndarray
    errors: dict[int, ImageError] = field(default_factory=dict)
    reused: dict[int, tuple[FeatureCache, int]] = field(default_factory=dict)

    @property
    def rows_per_image(self) -> int:
        return len(self.regions.valid) // len(self.hashes)

    def computed(self) -> tuple[list[int], list[int]]:
        """Numbers and places of the pictures that go through the network."""
        kept = [(n, p) for n, p in zip(self.numbers, self.places, strict=True) if n not in self.errors | self.reused]
        return [number for number, _ in kept], [place for _, place in kept]

    def done(self) -> tuple[np.ndarray, np.ndarray]:
        """Numbers and places (int64) of the pictures that have rows, computed or reused."""
        numbers, places = np.array(self.numbers, dtype=np.int64), np.array(self.places, dtype=np.int64)
        kept = ~np.isin(numbers, list(self.errors))
        return numbers[kept], places[kept]

    def failed(self) -> tuple[np.ndarray, np.ndarray]:
        """Numbers and places (int64) of the pictures that cannot be had."""
        numbers, places = np.array(self.numbers, dtype=np.int64), np.array(self.places, dtype=np.int64)
        kept = np.isin(numbers, list(self.errors))
        return numbers[kept], places[kept]

    def features(self, sampler: Sampler) -> np.ndarray:
        """All rows of the pass: from the network, which is not asked if nothing needs it, and from older caches."""
        numbers, _ = self.computed()
        if numbers:
            features = sampler.compute(self.pixels, self.regions)
        else:
            features = np.zeros((len(self.regions.valid), sampler.feature_size), np.float32)
        for number, (cache, theirs) in self.reused.items():
            place = self.places[self.numbers.index(number)]
            features[rows_of(np.array([place]), sampler.rows)] = cache.read(np.array([theirs]))
        return features


def prepared_batches(
    parts: Iterable[list[int]],
    wanted: Wanted,
    sampler: Sampler,
    *,
    source: RegionSource | None = None,
    reuse: Reusable | None = None,
    workers: int,
) -> Generator[PreparedBatch, None, None]:
    """Prepare the pictures of each part, whose numbers lie in one pass, while the caller works on the part before.

    source, reuse : as for `mrnn.extract.runner.extract`. workers : threads.
    """
    looks = source is not None and source.looks

    def read(batch: PreparedBatch, number: int, place: int) -> Picture | None:
        """Read a picture and put it in place; a picture comes back if somebody must look at it first."""
        given = wanted.sources[number]
        data = read_bytes(given) if isinstance(given, Path) else given
        if isinstance(data, bytes):
            digest = hash_bytes(data)
            batch.hashes[place] = np.frombuffer(digest, np.uint8)
            if reuse is not None and (old := reuse.find(wanted.ids[number], digest)):
                batch.reused[number] = old
                theirs = rows_of(np.array([old[1]]), sampler.rows)
                batch.regions.put(place * sampler.rows, old[0].regions[theirs], limit=sampler.rows)
                return None
        with memory_for(f"decoding {wanted.name(number)}", remedy="lower --workers, so that fewer are decoded at once"):
            picture = decode_picture(data, least=sampler.least) if isinstance(data, bytes) else given_picture(data)
        if looks:
            return picture
        found = source.find(wanted.ids[number], picture.size, None) if source else Regions.empty(0)
        complete(batch, place, picture, found)
        return None

    def complete(batch: PreparedBatch, place: int, picture: Picture, found: Regions) -> None:
        """Put a picture and its regions in place."""
        first = place * sampler.rows
        batch.regions.put(first, whole_picture(*picture.size), limit=1)
        batch.regions.put(first + 1, found, limit=sampler.rows - 1)
        sampler.fill(batch.pixels.numpy(), place, picture, batch.regions[slice(first, first + sampler.rows)])

    def collect(batch: PreparedBatch, jobs: Mapping[int, Future[Any]]) -> dict[int, Picture]:
        """The pictures that the jobs return; errors of pictures go to the batch, others are raised."""
        pictures = {}
        for number, job in jobs.items():
            try:
                with memory_for(f"decoding {wanted.name(number)}", remedy=LESS):
                    if (picture := job.result()) is not None:
                        pictures[number] = picture
            except ImageError as error:
                batch.errors[number] = error
        return pictures

    with ThreadPoolExecutor(workers, thread_name_prefix="decode") as pool:
        reading: deque[tuple[PreparedBatch, dict[int, Future[Picture | None]]]] = deque()
        cutting: deque[tuple[PreparedBatch, dict[int, Future[None]]]] = deque()
        try:
            remaining = iter(parts)
            while True:
                while len(reading) <= BATCHES_AHEAD and (numbers := next(remaining, None)) is not None:
                    batch = _empty_batch(numbers, sampler)
                    places = zip(numbers, batch.places, strict=True)
                    reading.append((batch, {n: pool.submit(read, batch, n, place) for n, place in places}))
                if reading:
                    batch, jobs = reading.popleft()
                    pictures = collect(batch, jobs)
                    cuts = {}
                    for number, picture in pictures.items():
                        assert source is not None
                        found = source.find(wanted.ids[number], picture.size, picture)
                        place = batch.places[batch.numbers.index(number)]
                        cuts[number] = pool.submit(complete, batch, place, picture, found)
                    cutting.append((batch, cuts))
                if not cutting:
                    return
                if looks and reading and len(cutting) < 2:  # the pictures just located are cut meanwhile
                    continue
                batch, cuts = cutting.popleft()
                collect(batch, cuts)
                yield batch
        finally:
            pool.shutdown(cancel_futures=True)


def _empty_batch(numbers: list[int], sampler: Sampler) -> PreparedBatch:
    return PreparedBatch(
        numbers,
        [number % sampler.images for number in numbers],
        sampler.empty_batch(),
        Regions.empty(sampler.images * sampler.rows),
        np.zeros((sampler.images, DIGEST_BYTES), np.uint8),
    )

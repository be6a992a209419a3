"""Rate of reading random batches from a feature cache, compared with h5py's own indexing and a plain copy.

A cache of IMAGES rows of 4096 float16 (the shape of Flickr30k) is created in a temporary folder. Random batches of
BATCH rows are read by the memory map that mrnn uses, and by h5py with sorted indices, which it requires. For
comparison, the same number of bytes is copied between arrays. The file is in the page cache. Medians of interleaved
rounds are printed.
"""

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np

from mrnn.data.cache import open_cache
from mrnn.data.cache_creation import create_cache
from mrnn.data.cache_writer import CacheWriter
from mrnn.data.captions import Corpus, Image

IMAGES, SIZE, BATCH, BATCHES, ROUNDS = 31_000, 4096, 128, 50, 5


def make_cache(folder: Path) -> Path:
    """A complete cache of random features."""
    path = folder / "feats.h5"
    images = tuple(Image(f"{i}.jpg", f"{i}.jpg", "train", ("a sentence",)) for i in range(IMAGES))
    create_cache(path, Corpus("benchmark", folder, images), {}, feature_size=SIZE)
    generator = np.random.default_rng(0)
    with CacheWriter(path) as writer:
        for begin in range(0, IMAGES, 1000):
            numbers = np.arange(begin, min(begin + 1000, IMAGES))
            writer.write(numbers, generator.random((len(numbers), SIZE), dtype=np.float32))
    return path


def main() -> None:
    """Print gigabytes per second and their ratios."""
    with tempfile.TemporaryDirectory() as folder:
        path = make_cache(Path(folder))
        cache = open_cache(path)
        generator = np.random.default_rng(1)
        batches = [generator.choice(IMAGES, BATCH, replace=False) for _ in range(BATCHES)]
        source = np.ones((BATCH * BATCHES, SIZE), dtype=np.float16)
        target = np.empty_like(source)
        buffer = np.empty((BATCH, SIZE), dtype=np.float16)
        with h5py.File(path, "r", locking=False) as file:
            data = file["features"]
            ways: dict[str, Callable[[], object]] = {
                "memory-mapped": lambda: [cache.read(batch, out=buffer) for batch in batches],
                "h5py, sorted": lambda: [data[np.sort(batch)] for batch in batches],
                "straight copy": lambda: np.copyto(target, source),
            }
            seconds: dict[str, list[float]] = {name: [] for name in ways}
            for way in ways.values():
                way()
            for _ in range(ROUNDS):
                for name, way in ways.items():
                    begin = time.perf_counter()
                    way()
                    seconds[name].append(time.perf_counter() - begin)
    rates = {name: source.nbytes / statistics.median(times) / 1e9 for name, times in seconds.items()}
    for name, rate in rates.items():
        print(f"{name:14} {rate:7.2f} GB/s")
    print(f"memory-mapped / h5py sorted:   {rates['memory-mapped'] / rates['h5py, sorted']:.1f}x")
    print(f"memory-mapped / straight copy: {rates['memory-mapped'] / rates['straight copy']:.2f}")


if __name__ == "__main__":
    main()

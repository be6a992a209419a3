"""How much memory a large region cache takes: creation, writing, merging, verifying and reading row 0 for training.

usage: python benchmarks/region_memory.py [--images 31000] [--folder SCRATCH]

Two shards of half the images each are written, 20 rows of 4,096 float16 an image (31,000 images make 5.1 GB, as
Flickr30k with AlexNet; twice that of disk space is needed), merged and verified; then training's features are opened
with no memory budget and read in batches of 100. Prints the size, the time of each step, and the largest memory of its
own (anonymous, so without the mapped file's pages, which the system takes back at will) that the process had until
then, beyond what it started with.
"""

import argparse
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from mrnn.data.cache import open_cache
from mrnn.data.cache_creation import create_cache
from mrnn.data.cache_writer import CacheWriter
from mrnn.data.captions import Corpus, Image
from mrnn.data.merge import merge_caches
from mrnn.data.regions import Regions
from mrnn.data.verify import verify_cache
from mrnn.train.features import Features

ROWS, SIZE, AT_ONCE, TOTAL_BATCHES = 20, 4096, 32, 200
SENTENCE = "a dog and a child run over the wet grass of a garden"


def own_memory() -> float:
    """Megabytes of anonymous memory of this process."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("RssAnon:")[1].split()[0]) / 1e3


START = own_memory()


def measured(label: str, work: Callable[[], object]) -> None:
    """Run a step; print its time and the process's peak of memory meanwhile, above its start."""
    peak, over = [0.0], threading.Event()

    def watch() -> None:
        while not over.wait(0.02):
            peak[0] = max(peak[0], own_memory())

    watcher = threading.Thread(target=watch)
    watcher.start()
    start = time.perf_counter()
    try:
        work()
    finally:
        over.set()
        watcher.join()
    print(f"{label}: {time.perf_counter() - start:.0f} s, {peak[0] - START:.0f} MB at most", flush=True)


def write_shard(path: Path, *, begin: int, end: int, total: int) -> None:
    images = tuple(Image(f"{n}.jpg", f"{n}.jpg", "train", (SENTENCE,) * 5) for n in range(begin, end))
    create_cache(
        path, Corpus("large", path.parent, images), {}, feature_size=SIZE, rows_per_image=ROWS, first=begin, total=total
    )
    features = np.random.default_rng(begin).random((AT_ONCE * ROWS, SIZE), dtype=np.float32)
    with CacheWriter(path) as writer:
        for first in range(0, end - begin, AT_ONCE):
            numbers = np.arange(first, min(first + AT_ONCE, end - begin))
            rows = len(numbers) * ROWS
            writer.write(numbers, features[:rows], regions=Regions.unknown(rows))


def read_batches(path: Path) -> None:
    cache = open_cache(path)
    features, draw = Features(cache, budget=0), np.random.default_rng(0)
    for _ in range(TOTAL_BATCHES):
        features[draw.integers(0, len(cache.images), 100)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=31_000)
    parser.add_argument("--folder", type=Path)
    arguments = parser.parse_args()
    total, half = arguments.images, arguments.images // 2
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        folder = Path(name)
        shards = [folder / "0.h5", folder / "1.h5"]
        measured("first shard", lambda: write_shard(shards[0], begin=0, end=half, total=total))
        measured("second shard", lambda: write_shard(shards[1], begin=half, end=total, total=total))
        measured("merge", lambda: merge_caches(folder / "whole.h5", shards))
        print(f"size: {(folder / 'whole.h5').stat().st_size / 1e9:.2f} GB, {total} images of {ROWS} rows")
        measured("verify", lambda: verify_cache(folder / "whole.h5"))
        measured(f"{TOTAL_BATCHES} batches of row 0", lambda: read_batches(folder / "whole.h5"))


if __name__ == "__main__":
    main()

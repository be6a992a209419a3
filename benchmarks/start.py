"""Start-up time of the commands on a data set of 30,000 images with 150,000 sentences.

usage: python benchmarks/start.py [--weights FILE or random:SEED]

The script creates a folder of links to a few synthetic images and a captions.csv. Then each command runs in a new
process: extract-features until its first batch has passed the network (goal: under 5 seconds after the imports),
train-mrnn until its first step is done (goal: under 3), and inspect-features and verify-features, which do not import
torch and should answer immediately (verifying reads all 250 MB). The files are in the page cache.
"""

import argparse
import csv
import random
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from mrnn.data.cache_creation import create_cache
from mrnn.data.cache_writer import CacheWriter
from mrnn.data.datasets import read_dataset
from mrnn.data.scenes.reader import read_scenes

IMAGES, SENTENCES, SIZE, WORDS = 30_000, 5, 4096, 8_000

# Arguments: what to time, then the arguments of the command. The process ends where the actual work starts.
TIMED = """
import os, sys, time
begin = time.perf_counter()
def report(*result):
    print(f"{imported - begin:.2f} {time.perf_counter() - imported:.2f}", flush=True)
    os._exit(0)
def ending(function):
    return lambda *args, **kwargs: report(function(*args, **kwargs))
what, *arguments = sys.argv[1:]
if what == "extract":
    import torch, torchvision
    from mrnn.extract import backbones, cli, extraction, runner
    runner.BatchNetwork.__call__ = ending(runner.BatchNetwork.__call__)
elif what == "train":
    import torch._dynamo, torch.utils.tensorboard  # the one torch itself imports with the first optimiser
    from mrnn.train import cli, loop
    loop.train_step = ending(loop.train_step)
else:
    from mrnn.data import cli, verify
imported = time.perf_counter()
command = cli.main if what in ("extract", "train") else getattr(cli, what)
command.main(arguments, standalone_mode=False)
report()
"""


def make_data(root: Path) -> None:
    """Create a `folder` data set: links to the images of a few scenes, and synthetic sentences of 8 to 18 words."""
    pictures = [image.path for image in read_scenes(root / "scenes").images[:40]]
    draw = random.Random(0)
    words = [f"word{number}" for number in range(WORDS)]
    often = [1 / (rank + 5) for rank in range(WORDS)]
    photos = root / "photos"
    photos.mkdir()
    with (photos / "captions.csv").open("w", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(["image", "caption"])
        for number in range(IMAGES):
            (photos / f"{number}.png").symlink_to(root / "scenes" / pictures[number % len(pictures)])
            for _ in range(SENTENCES):
                table.writerow([f"{number}.png", " ".join(draw.choices(words, often, k=draw.randint(8, 18)))])


def make_cache(root: Path) -> None:
    """Create a complete cache of the data set with random features."""
    corpus = read_dataset("folder", root / "photos")
    create_cache(root / "feats.h5", corpus, {"backbone": "noise"}, feature_size=SIZE)
    generator = np.random.default_rng(0)
    with CacheWriter(root / "feats.h5") as writer:
        for begin in range(0, IMAGES, 1000):
            rows = generator.random((min(1000, IMAGES - begin), SIZE), dtype=np.float32)
            writer.write(np.arange(begin, begin + len(rows)), rows)


def measure(what: str, *arguments: object) -> tuple[float, float]:
    """Seconds of the imports, and from then until the work starts or the command ends."""
    command = [sys.executable, "-c", TIMED, what, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    imports, rest = map(float, done.stdout.splitlines()[-1].split())
    return imports, rest


def main() -> None:
    """Print the seconds of each command, with the imports listed separately."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", default="random:0", help="weights of AlexNet")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        make_data(root)
        make_cache(root)
        cache = root / "feats.h5"
        extraction = ("--dataset", "folder", "--root", root / "photos", "--weights", options.weights)
        for label, command in (
            ("extract-features, first batch", ("extract", *extraction, "--output", root / "new.h5")),
            ("train-mrnn, first step", ("train", "--features", cache, "--output", root / "run")),
            ("inspect-features, whole answer", ("inspect", cache)),
            ("verify-features, whole answer", ("verify", cache)),
        ):
            imports, rest = measure(*command)
            print(f"{label:31} {rest:5.2f} s, after {imports:5.2f} s of imports", flush=True)


if __name__ == "__main__":
    main()

"""Kill extraction, merging and training with SIGKILL at random points of their work until enough processes have died.

    python -m tests.soak --kills 300 [--of extraction, regions, training or matching]

A point is a number of function calls, drawn among those of an undisturbed run: neither the speed nor the load of the
machine decides where a process dies. While one thread reaches it, others may be anywhere, in the middle of a write too.

After every round, what the survivors made must equal what a run makes that nobody disturbs: caches byte for byte, of
training all weights, the optimiser's state, the generators and the lines of metrics.jsonl (times apart). The commands
run as forked processes of this one, so that the imports are paid for once; nothing here may start a thread before a
fork. `make soak` runs it with 300 kills of each, the test suite with a few.
"""

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
import torch._dynamo  # paid for once, before the forks; an optimiser would import it
from PIL import Image as Picture

import mrnn.extract.backbones
import mrnn.extract.plan  # noqa: F401  likewise
from mrnn.data.cache_creation import create_cache
from mrnn.data.cache_writer import CacheWriter
from mrnn.data.captions import Corpus, Image
from mrnn.data.cli import merge
from mrnn.extract.cli import main as extract
from mrnn.train.checkpoint import read_checkpoint
from mrnn.train.cli import main as train
from mrnn.train.run_files import BEST, LAST
from tests.kills import count_calls

IMAGES, BATCH, SHARDS = 48, 8, 3
NETWORK = "--backbone torchvision:squeezenet1_1 --weights random:0 --resize 64 --crop 64"
REGIONS = ("--regions", "detector:yolox-nano:random:0", "--regions-per-image", "3", "--region-features", "roi")
SMALL = "--epochs 3 --batch-size 8 --cutoff 2 --ema 0.9"
MRNN = "--embedding1 6 --embedding2 8 --recurrent 8 --multimodal 12"
# From the second epoch on with the hardest false pairs only, and with word vectors of a file.
ALIGNMENT = "--model alignment --embedding 6 --hidden 8 --joint 10 --hardest-from 2"
WORDS = (
    "a dog",
    "two dogs",
    "an old man",
    "the girl",
    "runs",
    "sits",
    "waits",
    "on the grass",
    "by a lake",
    "at night",
)


def run(command: click.Command, arguments: Sequence[str], log: Path, *, die_at: int = 0) -> tuple[int, int]:
    """Run a command in a process of its own; return its exit code, negative if it was killed, and its number of calls.

    die_at : number of the function call before which it dies; 0 for never. Of a killed process the number is 0.
    """
    reader, sender = os.pipe()
    process = os.fork()
    if process == 0:
        code = 1
        try:
            with log.open("a") as stream:
                os.dup2(stream.fileno(), 1)
                os.dup2(stream.fileno(), 2)
            calls = count_calls(die_at=die_at)
            try:
                command.main(list(arguments))
            finally:
                os.write(sender, str(calls()).encode())
        except SystemExit as ending:
            code = ending.code if isinstance(ending.code, int) else 1
        finally:
            os._exit(code)
    os.close(sender)
    with os.fdopen(reader, "rb") as stream:
        number = int(stream.read() or 0)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), number


def run_killed(command: click.Command, arguments: Sequence[str], log: Path, draw: random.Random, calls: int) -> int:
    """Kill a command before one of its first `calls` calls until it ends by itself; return how often it was killed."""
    kills = 0
    while (code := run(command, arguments, log, die_at=draw.randint(1, calls))[0]) == -signal.SIGKILL:
        kills += 1
    if code != 0:
        sys.exit(f"after {kills} kills, {command.name} {' '.join(arguments)} ended with {code}:\n{log.read_text()}")
    return kills


def calls_of(command: click.Command, arguments: Sequence[str], log: Path) -> int:
    """Function calls of an undisturbed run."""
    code, calls = run(command, arguments, log)
    if code != 0:
        sys.exit(log.read_text())
    return calls


def check_folder(folder: Path, *, allowed: set[str]) -> None:
    """End with a message if drafts or other remains lie about."""
    left = {path.name for path in folder.iterdir()} - allowed
    if left:
        sys.exit(f"left behind: {', '.join(sorted(left))}")


def region_rounds(folder: Path, draw: random.Random) -> Callable[[int], int]:
    """Extraction of whole pictures and their regions, found by a detector."""
    return extraction_rounds(folder, draw, REGIONS)


def extraction_rounds(folder: Path, draw: random.Random, more: Sequence[str] = ()) -> Callable[[int], int]:
    """Make undisturbed caches; return a function that does a round of kills and returns their number."""
    log, photos = folder / "log", folder / "photos"
    draw_pictures(photos)
    base = f"--dataset folder --root {photos} {NETWORK} --batch-size {BATCH} --threads 1".split() + list(more)

    def arguments(output: str, *more: str) -> list[str]:
        return [*base, "--output", str(folder / output), *more]

    shards = [f"shard{part}.h5" for part in range(SHARDS)]
    joined = [str(folder / name) for name in ("feats.h5", *shards)]
    calls = calls_of(extract, arguments("whole.h5"), log)
    shard_calls = [calls_of(extract, arguments(s, "--shard", f"{n}/{SHARDS}"), log) for n, s in enumerate(shards)]
    merge_calls = calls_of(merge, joined, log)
    whole = (folder / "whole.h5").read_bytes()
    clear(folder)

    def one_round(number: int) -> int:
        kills = 0
        if number % 2 == 0:
            for part, shard in enumerate(shards):
                more = ("--shard", f"{part}/{SHARDS}")
                kills += run_killed(extract, arguments(shard, *more), log, draw, shard_calls[part])
            kills += run_killed(merge, joined, log, draw, merge_calls)
        else:
            kills += run_killed(extract, arguments("feats.h5"), log, draw, calls)
        if (folder / "feats.h5").read_bytes() != whole:
            sys.exit(f"round {number}: the cache differs from that of an undisturbed run")
        clear(folder)
        check_folder(folder, allowed={"whole.h5", "whole.h5.report.tsv", "photos", "log"})
        return kills

    return one_round


def clear(folder: Path) -> None:
    """Remove all caches but the undisturbed one."""
    for path in folder.glob("*.h5*"):
        if not path.name.startswith("whole"):
            path.unlink()


def draw_pictures(root: Path) -> None:
    """A folder of IMAGES small pictures of noise with a caption each."""
    root.mkdir()
    generator, lines = np.random.default_rng(0), ["image,caption"]
    for number in range(IMAGES):
        Picture.fromarray(generator.integers(0, 256, (70, 90, 3), dtype=np.uint8)).save(root / f"{number:02}.png")
        lines.append(f"{number:02}.png,picture number {number}")
    (root / "captions.csv").write_text("\n".join(lines) + "\n")


def matching_rounds(folder: Path, draw: random.Random) -> Callable[[int], int]:
    """Training of a model that matches regions with words."""
    vectors = folder / "vectors.txt"
    vectors.write_text("dog 1 2 3 4 5 6\ngirl 3 0 3 0 3 0\n")
    return training_rounds(folder, draw, f"{ALIGNMENT} --word-vectors {vectors}", regions=3)


def training_rounds(folder: Path, draw: random.Random, model: str = MRNN, *, regions: int = 1) -> Callable[[int], int]:
    """The same for training, saving every third step. model : its options. regions : rows of each image."""
    log, cache = folder / "log", folder / "feats.h5"
    write_cache(cache, regions)

    def arguments(output: str) -> list[str]:
        fixed = ["--features", str(cache), "--output", str(folder / output), "--device", "cpu", "--threads", "1"]
        return [*fixed, *SMALL.split(), *model.split(), "--log-every", "4", "--save-every", "3", "--no-tensorboard"]

    calls = calls_of(train, arguments("whole"), log)
    whole_tensors, whole_rest = outcome(folder / "whole")
    names = {path.name for path in (folder / "whole").iterdir()}

    def one_round(number: int) -> int:
        kills = run_killed(train, arguments("run"), log, draw, calls)
        tensors, rest = outcome(folder / "run")
        same = len(tensors) == len(whole_tensors) and all(map(torch.equal, tensors, whole_tensors))
        if not same or rest != whole_rest:
            sys.exit(f"round {number}: the run differs from an undisturbed one")
        check_folder(folder / "run", allowed=names)
        shutil.rmtree(folder / "run")
        return kills

    return one_round


def write_cache(path: Path, regions: int) -> None:
    """A cache of 80 images with random features, so many rows each, and invented sentences."""
    draw, splits = random.Random(0), ["train"] * 64 + ["val"] * 16
    images = [
        Image(f"{n}.jpg", f"{n}.jpg", split, tuple(" ".join(draw.choices(WORDS, k=draw.randint(1, 6))) for _ in "abc"))
        for n, split in enumerate(splits)
    ]
    corpus = Corpus("invented", path.parent, tuple(images))
    create_cache(path, corpus, {"backbone": "noise"}, feature_size=16, rows_per_image=regions)
    rows = np.random.default_rng(0).random((len(images) * regions, 16), dtype=np.float32)
    with CacheWriter(path) as writer:
        writer.write(np.arange(len(images)), rows)


def outcome(folder: Path) -> tuple[list[torch.Tensor], list[Any]]:
    """All that a run leaves but for times: tensors, and plain values."""
    tensors: list[torch.Tensor] = []
    rest: list[Any] = []

    def collect(name: str, value: Any) -> None:
        if isinstance(value, torch.Tensor):
            tensors.append(value)
        elif isinstance(value, dict):
            for key, item in value.items():
                collect(str(key), item)
        elif name not in ("seconds", "tokens_per_s", "pairs_per_s", "metrics_bytes"):
            rest.append((name, value))

    for name in (LAST, BEST):
        collect(name, read_checkpoint(folder / name))
    for line in (folder / "metrics.jsonl").read_text().splitlines():
        collect("line", json.loads(line))
    return tensors, rest


ROUNDS: dict[str, Callable[[Path, random.Random], Callable[[int], int]]] = {
    "extraction": extraction_rounds,
    "regions": region_rounds,
    "training": training_rounds,
    "matching": matching_rounds,
}


def main() -> None:
    """Kill and compare until --kills processes of each kind have died."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--of", choices=list(ROUNDS), help="only these")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    for kind in [options.of] if options.of else list(ROUNDS):
        with tempfile.TemporaryDirectory() as name:
            one_round = ROUNDS[kind](Path(name), random.Random(options.seed))
            kills = rounds = 0
            while kills < options.kills or rounds < 2:  # an odd and an even one at least
                kills += one_round(rounds)
                rounds += 1
                print(f"{kind}, round {rounds}: {kills} kills, everything equal", flush=True)
        print(f"{kind}: {kills} processes killed in {rounds} rounds; everything equals an undisturbed run")


if __name__ == "__main__":
    main()

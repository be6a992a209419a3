"""Time and memory of an epoch of training on a data set of Flickr30k's size.

    python benchmarks/epoch.py [--device cuda] [--batch-size 100 --batch-size 1000] [--minutes 0.5]
    python benchmarks/epoch.py --images 113287 --words 14307 --batch-size 100        (the size of COCO)

The cache is synthetic: 29,000 training images with 4,096 feature values and five sentences each, 1.9 million words to
predict, and a vocabulary of 7,415 words. train-mrnn runs unchanged in its own process. On a GPU, each batch size runs
in float32 and in bfloat16, with and without CUDA graphs, for three epochs. The fastest epoch counts, since the first
one also records nearly all graphs. On a CPU there is one variant, which runs for half a minute by default; the time of
an epoch is computed from its words per second. Validation and saving are not included. `bits` is the cost per word of
the last logged step, to compare what was learned. `GB` is the peak resident size of the process, `GPU GB` the memory
that it reserved on the GPU.
Goal: under 5 seconds per epoch on an H200.
"""

import itertools
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

import click
import numpy as np
import torch

from mrnn.data.cache_creation import create_cache
from mrnn.data.cache_writer import CacheWriter
from mrnn.data.captions import Corpus, Image
from mrnn.data.stopping import EXIT_STOPPED
from mrnn.train.graphs import NO_MORE

SIZE, EPOCHS = 4096, 3


def invent_cache(path: Path, images: int, words: int) -> int:
    """Write a cache of noise for training and 1,000 dev images; returns the number of training words to predict.

    path : file to write.
    images : number of training images.
    words : number of different words.
    """
    draw = np.random.default_rng(0)
    splits = ["train"] * images + ["val"] * 1000
    lengths = np.maximum(2, draw.normal(12.1, 5, (len(splits), 5)).round()).astype(int)
    text = [f"w{word}" for word in draw.integers(0, words, lengths.sum())]
    ends = lengths.ravel().cumsum().reshape(lengths.shape)
    pictures = tuple(
        Image(
            f"{number}.jpg",
            f"{number}.jpg",
            split,
            tuple(
                " ".join(text[end - length : end]) for end, length in zip(ends[number], lengths[number], strict=True)
            ),
        )
        for number, split in enumerate(splits)
    )
    create_cache(path, Corpus("invented", path.parent, pictures), {"backbone": "noise"}, feature_size=SIZE)
    with CacheWriter(path) as writer:
        for begin in range(0, len(splits), 1000):
            rows = draw.random((min(1000, len(splits) - begin), SIZE), dtype=np.float32)
            writer.write(np.arange(begin, begin + len(rows)), rows)
    return int(lengths[:images].sum()) + lengths[:images].size


# Runs train-mrnn and prints how many GB it reserved on the GPU.
COMMAND = """
import torch
from mrnn.train.cli import main
try:
    main()
finally:
    if torch.cuda.is_available():
        print("reserved", torch.cuda.max_memory_reserved() / 1e9)
"""


def train(cache: Path, folder: Path, options: dict[str, Any]) -> tuple[list[dict[str, Any]], float, str]:
    """Run train-mrnn; returns the lines of metrics.jsonl, the peak resident size in GB, and the printed text.

    cache : feature cache.
    folder : run folder.
    options : options of train-mrnn by name; None as the value of a flag.
    """
    command = [sys.executable, "-c", COMMAND]
    command += [f"--features={cache}", f"--output={folder}", "--no-tensorboard", "--patience=0", "--cutoff=1"]
    command += ["--log-every=5"]
    command += [f"--{name}={value}" if value is not None else f"--{name}" for name, value in options.items()]
    with tempfile.TemporaryFile("w+") as printed:
        process = subprocess.Popen(command, stdout=printed, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
        printed.seek(0)
        text = printed.read()
    if os.waitstatus_to_exitcode(status) not in (0, EXIT_STOPPED):
        return [], 0.0, text
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return lines, usage.ru_maxrss / 1e6, text


@click.command()
@click.option("--device", default="cuda" if torch.cuda.is_available() else "cpu", show_default=True)
@click.option("--images", default=29_000, show_default=True, help="Number of training images.")
@click.option("--words", default=7413, show_default=True, help="Number of different words, without the two signs.")
@click.option("--batch-size", multiple=True, default=(100, 1000), show_default=True)
@click.option("--minutes", type=float, help="Stop each run after this many minutes.  [default: 0.5 on a CPU]")
def main(device: str, images: int, words: int, batch_size: tuple[int, ...], minutes: float | None) -> None:
    """Print one line per variant of training."""
    on_gpu = device.startswith("cuda")
    minutes = minutes or (None if on_gpu else 0.5)
    ways = list(itertools.product(("fp32", "bf16"), ("graphs", "no-graphs"))) if on_gpu else [("fp32", "no-graphs")]
    with tempfile.TemporaryDirectory() as name:
        total = invent_cache(Path(name) / "feats.h5", images, words)
        what = torch.cuda.get_device_name(device) if on_gpu else f"CPU, {torch.get_num_threads()} threads"
        click.echo(f"{what}; {images} training images, {total} words to predict, V {words + 2}")
        columns = f"{'batch':>6} {'precision':>9} {'graphs':>7} {'s/epoch':>9} {'words/s':>9} {'bits':>7} {'GB':>6}"
        click.echo(f"{columns} {'GPU GB':>7}")
        for size, (precision, graphs) in itertools.product(batch_size, ways):
            options = {"device": device, "epochs": EPOCHS, "batch-size": size, "precision": precision, graphs: None}
            options |= {"time-limit": minutes} if minutes else {}
            lines, memory, text = train(Path(name) / "feats.h5", Path(name) / f"{size}-{precision}-{graphs}", options)
            steps = [line for line in lines if line["kind"] == "step"]
            if not steps:
                click.echo(f"{size:>6} {precision:>9} {graphs}: failed, or no step was logged\n{text}")
                continue
            epochs = [line["seconds"] for line in lines if line["kind"] == "epoch"]
            seconds = min(epochs) if epochs else total / median(line["tokens_per_s"] for line in steps)
            yes = "no" if graphs == "no-graphs" else "part" if NO_MORE in text else "yes"
            on_device = float(text.rsplit("reserved", 1)[1].split()[0]) if on_gpu else 0.0
            click.echo(
                f"{size:>6} {precision:>9} {yes:>7} {seconds:>9.2f} {total / seconds:>9.0f} "
                f"{steps[-1]['bits']:>7.3f} {memory:>6.2f} {on_device:>7.2f}"
            )


if __name__ == "__main__":
    main()

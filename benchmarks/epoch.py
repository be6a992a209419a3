"""How long an epoch of training takes on a data set of Flickr30k's size, on a GPU by the ways it can go.

    python benchmarks/epoch.py [--device cuda] [--images 29000] [--batch-size 100 --batch-size 1000]

The cache is invented: 29,000 training pictures of 4,096 numbers, five sentences each, 1.9 million words to predict, of
a vocabulary of 7,415. On a GPU every batch size is trained in float32 and in bfloat16, with CUDA graphs and without, on
a CPU in the one way there is, by default on a fiftieth of the pictures. Of three epochs the fastest counts: the first
also records the graphs. `bits` is the training cost a word of the last epoch, for comparing what was learnt.
Goal: under 5 seconds an epoch on an H200.
"""

import itertools
import json
import tempfile
from dataclasses import replace
from pathlib import Path

import click
import numpy as np
import torch

from mrnn.data.cache import FeatureCache, create_cache, open_cache
from mrnn.data.cache_writer import CacheWriter
from mrnn.data.captions import Corpus, Image
from mrnn.data.command import suit_process
from mrnn.train.loop import train
from mrnn.train.settings import RunOptions, TrainSettings

WORDS, SIZE, EPOCHS = 7413, 4096, 3  # the boundary and unknown signs make it 7,415


def invent_cache(path: Path, images: int) -> FeatureCache:
    """A complete cache of noise with that many training pictures and a hundredth of it for dev."""
    draw = np.random.default_rng(0)
    splits = ["train"] * images + ["val"] * max(1, images // 100)

    def sentence() -> str:
        length = max(2, round(draw.normal(12.1, 5)))
        return " ".join(f"w{word}" for word in draw.integers(0, WORDS, length))

    pictures = tuple(
        Image(f"{number}.jpg", f"{number}.jpg", split, tuple(sentence() for _ in range(5)))
        for number, split in enumerate(splits)
    )
    create_cache(path, Corpus("invented", path.parent, pictures), {"backbone": "noise"}, feature_size=SIZE)
    with CacheWriter(path) as writer:
        for begin in range(0, len(splits), 1000):
            rows = draw.random((min(1000, len(splits) - begin), SIZE), dtype=np.float32)
            writer.write(np.arange(begin, begin + len(rows)), rows)
    return open_cache(path)


def measure(cache: FeatureCache, folder: Path, settings: TrainSettings, options: RunOptions) -> None:
    """Train, and print a line of the table."""
    train(cache, folder, settings, options=options, report=lambda line: None)
    config = json.loads((folder / "config.json").read_text())
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    epochs = [line for line in lines if line["kind"] == "epoch"]
    seconds = min(line["seconds"] for line in epochs)
    steps = epochs[-1]["step"] / len(epochs)
    click.echo(
        f"{settings.batch_size:>6} {settings.precision:>9} {'yes' if options.graphs else 'no':>7} {seconds:>9.2f} "
        f"{1000 * seconds / steps:>8.2f} {epochs[-1]['train_bits']:>8.3f} {config['vocabulary_size']:>11}"
    )


@click.command()
@click.option("--device", default="cuda" if torch.cuda.is_available() else "cpu", show_default=True)
@click.option("--images", type=int, help="Training pictures.  [default: 29,000 on a GPU, 580 on a CPU]")
@click.option("--batch-size", multiple=True, type=int, default=(100, 1000), show_default=True)
def main(device: str, images: int | None, batch_size: tuple[int, ...]) -> None:
    """Print a line for every way of training."""
    suit_process()
    on_gpu = device.startswith("cuda")
    ways = list(itertools.product(("fp32", "bf16"), (True, False))) if on_gpu else [("fp32", False)]
    with tempfile.TemporaryDirectory() as name:
        cache = invent_cache(Path(name) / "feats.h5", images or (29_000 if on_gpu else 580))
        what = torch.cuda.get_device_name(device) if on_gpu else f"CPU, {torch.get_num_threads()} threads"
        click.echo(f"{what}; {len(cache.done('train'))} training pictures; fastest of {EPOCHS} epochs")
        click.echo(f"{'batch':>6} {'precision':>9} {'graphs':>7} {'seconds':>9} {'ms/step':>8} {'bits':>8} {'V':>11}")
        settings = TrainSettings(epochs=EPOCHS, patience=0, cutoff=1)
        options = RunOptions(device=device, tensorboard=False)
        for size, (precision, graphs) in itertools.product(batch_size, ways):
            folder = Path(name) / f"{size}-{precision}-{graphs}"
            chosen = replace(settings, batch_size=size, precision=precision)
            measure(cache, folder, chosen, replace(options, graphs=graphs))


if __name__ == "__main__":
    main()

"""All pairs of many images and sentences by two towers: tiled, one pair after another, and the product alone.

    python benchmarks/two_towers.py --images 1000 --sentences 5000 --regions 20 --width 512

Prints seconds, GFLOP/s and the ratios, all measured in one run; the loop is timed on some of the pairs.
"""

from time import perf_counter

import click
import numpy as np
import torch

from mrnn.train import pair_scores
from mrnn.train.pair_scores import WordVectors
from mrnn.train.products import product

LOOPED = 400  # pairs by which the loop is timed


def product_alone(words: torch.Tensor, regions: torch.Tensor) -> None:
    """The same products in the same tiles, without maximum and sum."""
    for start in range(0, len(words), pair_scores.WORDS):
        for left in range(0, regions.shape[1], pair_scores.IMAGES):
            for region in regions[:, left : left + pair_scores.IMAGES]:
                product(words[start : start + pair_scores.WORDS], region)


def loop(words: WordVectors, regions: torch.Tensor, pairs: np.ndarray) -> None:
    """One pair after another."""
    for sentence, image in pairs:
        rows = words.vectors[words.starts[sentence] : words.starts[sentence + 1]]
        (rows @ regions[:, image].T).amax(1).sum()


@click.command()
@click.option("--images", default=1000, show_default=True)
@click.option("--sentences", default=5000, show_default=True)
@click.option("--regions", default=20, show_default=True)
@click.option("--width", default=512, show_default=True, help="Width of the shared space.")
@click.option("--threads", default=1, show_default=True)
def main(images: int, sentences: int, regions: int, width: int, threads: int) -> None:
    """Time the three ways."""
    torch.set_num_threads(threads)
    draw = np.random.default_rng(0)
    starts = np.concatenate([[0], np.cumsum(np.clip(draw.normal(10.8, 3.8, sentences).round(), 1, None))]).astype(int)
    words = WordVectors(torch.randn(int(starts[-1]), width), starts)
    vectors = torch.randn(regions, images, width)
    pairs = np.stack([draw.integers(0, sentences, LOOPED), draw.integers(0, images, LOOPED)], axis=1)
    flops = 2 * int(starts[-1]) * images * regions * width
    seconds = {}
    for name, work, share in (
        ("product alone", lambda: product_alone(words.vectors, vectors), 1.0),
        ("tiled scores", lambda: pair_scores.pair_scores(words, vectors, score="max"), 1.0),
        ("loop over pairs", lambda: loop(words, vectors, pairs), LOOPED / (images * sentences)),
    ):
        start = perf_counter()
        work()
        seconds[name] = (perf_counter() - start) / share
        click.echo(f"{name:16} {seconds[name]:9.1f} s  {flops / seconds[name] / 1e9:7.1f} GFLOP/s")
    tiled = seconds["tiled scores"]
    click.echo(
        f"{flops / 1e12:.2f} TFLOP; tiled scores at {seconds['product alone'] / tiled:.0%} of the product's rate, "
        f"{seconds['loop over pairs'] / tiled:.1f} times as fast as the loop"
    )


if __name__ == "__main__":
    main()

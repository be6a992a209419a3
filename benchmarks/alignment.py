"""Time of a training step of the alignment model, compared with its matrix products, measured in one run.

    python benchmarks/alignment.py [--features 1280] [--joint 512 --joint 1000] [--rounds 9] [--cpu-time]

Batches have 100 pairs, 20 regions of each image, and sentences of max(2, round(N(10.8, 3.8))) words; the recurrent
network is 300 wide; dropout is 0.2. The gradient that Eq. 9 sends back to the scores is drawn: all, one in 5, or one in
20 of the false pairs violate the margin. All times are medians in milliseconds per step; each round takes all four ways
in turn on one batch:

    ours      mrnn.train: packing the batch, forward, backward, clipping, fused Adam
    plain     the same, but the best region by amax and autograd: two products with a matrix that is mostly zeros
    products  only the matrix products of `plain`, forward and backward, by the same library
    needed    `products` without those two, for which ours has sums over the few rows that count
"""

import time
from collections.abc import Callable
from statistics import median
from typing import Any
from unittest.mock import patch

import click
import numpy as np
import torch
from torch import Tensor

from mrnn.data.memory import suit_process
from mrnn.train.models import AlignmentConfig, two_towers
from mrnn.train.models.alignment import Alignment
from mrnn.train.models.best_region import all_products
from mrnn.train.models.layers import recur_packed
from mrnn.train.optim import build_optimiser
from mrnn.train.pairs import MatchingBatch, epoch_pairs, pack_pairs
from mrnn.train.products import product, weight_gradient
from mrnn.train.sentences import Sentences

PAIRS, REGIONS, VOCABULARY, IMAGES, HIDDEN = 100, 20, 2538, 400, 300
SHARES = (1.0, 0.2, 0.05)  # of the false pairs, those that violate the margin


class Noise:
    """Replaces mrnn.train.features.Features: rows in memory."""

    def __init__(self, size: int) -> None:
        self.rows = torch.randn(IMAGES, REGIONS, size)

    def regions(self, images: np.ndarray) -> tuple[Tensor, Tensor]:
        return self.rows[torch.from_numpy(images)], torch.ones(len(images), REGIONS, dtype=torch.bool)


def invent() -> Sentences:
    """Five sentences of random words for each image."""
    draw = np.random.default_rng(0)
    lengths = np.maximum(2, draw.normal(10.8, 3.8, 5 * IMAGES).round()).astype(np.int64)
    starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
    return Sentences(draw.integers(1, VOCABULARY, starts[-1]).astype(np.int32), starts, np.arange(5 * IMAGES) // 5)


def amax_products(words: Tensor, regions: Tensor) -> Tensor:
    return all_products(words, regions).amax(1)


def gradient_of_scores(share: float, draw: np.random.Generator) -> Tensor:
    """What Eq. 9 sends back to the scores if this share of the false pairs violates the margin: (B, B)."""
    costs = torch.from_numpy((draw.random((PAIRS, PAIRS)) < share).astype(np.float32)).fill_diagonal_(0)
    return (costs - torch.diag(costs.sum(0) + costs.sum(1))) / PAIRS


def products(model: Alignment, batch: MatchingBatch, of_pairs: bool) -> None:
    """The matrix products of a step. of_pairs : with the two of the backward pass through v_i . s_t."""
    rows, joint = len(batch.tokens), model.config.joint
    with torch.no_grad():
        words, hidden = torch.ones(rows, joint), torch.ones(rows, HIDDEN)
        triple(torch.ones(rows, model.config.embedding), model.word_to_hidden.weight, hidden)
        triple(hidden, model.hidden_to_joint.weight, words)
        inputs, regions = batch.features.flatten(0, 1), torch.ones(REGIONS * PAIRS, joint)
        product(inputs, model.region.weight)
        weight_gradient(regions, inputs)
        of_products = product(words, regions)
        if of_pairs:
            product(of_products, regions.t())
            product(of_products.t(), words.t())
    for recurrence in (model.forwards, model.backwards):
        states = recur_packed(hidden.requires_grad_(), recurrence.weight, batch.sizes)
        torch.autograd.grad(states, (hidden, recurrence.weight), torch.ones_like(states))


def triple(inputs: Tensor, weight: Tensor, outputs: Tensor) -> None:
    """The three products of a layer: forward, gradient of its inputs, gradient of its weight."""
    product(inputs, weight)
    product(outputs, weight.t())
    weight_gradient(outputs, inputs)


def compare(features: int, joint: int, rounds: int, clock: Callable[[], float]) -> None:
    """Measure one width of the shared space and print a line for each of SHARES."""
    torch.manual_seed(0)
    noise, sentences, draw = Noise(features), invent(), np.random.default_rng(1)
    model = Alignment(AlignmentConfig(VOCABULARY, features, joint=joint, hidden=HIDDEN))
    model.initialise(torch.Generator().manual_seed(0))
    optimiser = build_optimiser("adam", model.parameters(), lr=1e-3, l2=0.0)
    batches = epoch_pairs(sentences, PAIRS, seed=0, epoch=0)

    def step(numbers: np.ndarray, gradient: Tensor) -> None:
        batch = pack_pairs(sentences, numbers, noise)  # type: ignore[arg-type]
        optimiser.zero_grad(set_to_none=True)
        model(batch).backward(gradient)
        torch.nn.utils.clip_grad_value_(model.parameters(), 0.05)
        optimiser.step()

    def plain(numbers: np.ndarray, gradient: Tensor) -> None:
        with patch.object(two_towers, "best_region_products", amax_products):
            step(numbers, gradient)

    for share in SHARES:
        times: dict[str, list[float]] = {name: [] for name in ("ours", "plain", "products", "needed")}
        for number in range(rounds + 2):
            numbers, gradient = batches[number % len(batches)], gradient_of_scores(share, draw)
            batch = pack_pairs(sentences, numbers, noise)  # type: ignore[arg-type]
            measured = {
                "ours": seconds(clock, step, numbers, gradient),
                "plain": seconds(clock, plain, numbers, gradient),
                "products": seconds(clock, products, model, batch, True),
                "needed": seconds(clock, products, model, batch, False),
            }
            if number >= 2:  # the first two are warm-up
                for name, value in measured.items():
                    times[name].append(value)
        middle = {name: 1000 * median(values) for name, values in times.items()}
        columns = "".join(f"{middle[name]:>10.1f}" for name in times)
        shares = "".join(f"{middle[name] / middle['ours']:>15.0%}" for name in ("products", "needed"))
        click.echo(f"{joint:>6}{share:>8.0%}{columns}{middle['plain'] / middle['ours']:>12.2f}{shares}")


def seconds(clock: Callable[[], float], work: Callable[..., None], *arguments: Any) -> float:
    work(*arguments)  # untimed: afterwards caches and freed memory belong to this work, as in a long run
    started = clock()
    work(*arguments)
    return clock() - started


@click.command()
@click.option("--features", default=1280, show_default=True, help="Length of a feature vector.")
@click.option("--joint", multiple=True, type=int, default=(512, 1000), show_default=True)
@click.option("--rounds", default=9, show_default=True)
@click.option("--cpu-time", is_flag=True, help="Measure processor time, for a machine that does other work.")
def main(features: int, joint: tuple[int, ...], rounds: int, cpu_time: bool) -> None:
    """Print the comparison, with one thread."""
    suit_process()
    torch.set_num_threads(1)
    click.echo(f"batches of {PAIRS} pairs, {REGIONS} regions of {features} numbers; milliseconds, medians of {rounds}")
    names = "".join(f"{name:>10}" for name in ("ours", "plain", "products", "needed"))
    click.echo(f" joint   pairs{names}{'plain/ours':>12}{'products/ours':>15}{'needed/ours':>15}")
    for width in joint:
        compare(features, width, rounds, time.process_time if cpu_time else time.perf_counter)


if __name__ == "__main__":
    main()

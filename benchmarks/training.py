"""Time of a training step, compared with a naive implementation and with its limit, measured in one run.

    MRNN_DATA=... python benchmarks/training.py [--threads 1 --threads 2] [--vocabulary 7415 --vocabulary 2538]

This takes three minutes. Sentence lengths are those of Flickr8k's training sentences if MRNN_DATA has them, else drawn
from max(2, round(N(10.8, 3.8))). Words are random; features are noise with 4,096 values; batches have 128 sentences;
layers have the paper's sizes; dropout is 0.5. All times are medians in milliseconds per 1,000 words to predict:

    naive     padded batches in random order; in each step the embedding, the recurrence, V_I I again, and the logits of
              all positions; cross_entropy with ignore_index; backward; clipping; Adam parameter by parameter
    ours      mrnn.train: packing the batch, forward, loss, backward, clipping, fused Adam
    products  only the three matrix products of the output layer on our batch, by the library that `ours` uses
    torch     the same three products by torch.mm (MKL)
    all       products, plus those of all other layers on our batch: the limit for a step with these products

The script then compares the gated recurrent layers as a loop over steps (`loop`), by torch's nn.GRU and nn.LSTM on
packed (`packed`) and on padded sentences (`padded`), and as they are trained (`ours`), in CPU time; fused Adam with
Adam parameter by parameter; and the padding of two kinds of batches.
"""

import itertools
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import click
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence, pad_sequence

from mrnn.data.datasets import read_dataset
from mrnn.data.memory import suit_process
from mrnn.data.tokenize import tokenize
from mrnn.train.batches import CaptionBatch, epoch_order, pack
from mrnn.train.models import MRNNConfig
from mrnn.train.models.layers import ScaledTanh, recur_packed
from mrnn.train.models.mrnn import MRNN
from mrnn.train.models.recurrences import GRU, LSTM, Gated
from mrnn.train.optim import build_optimiser, gradient_norm
from mrnn.train.products import product, weight_gradient
from mrnn.train.sentences import Sentences
from mrnn.train.tasks.captioning import batch_bits

BATCH, FEATURES, IMAGES = 128, 4096, 2000


@dataclass
class Noise:
    """Replaces mrnn.train.features.Features: rows in memory."""

    rows: Tensor

    def __getitem__(self, images: np.ndarray) -> Tensor:
        return self.rows[torch.from_numpy(images)]


class Naive(nn.Module):
    """A straightforward m-RNN of torch's own layers."""

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.embedding1, self.embedding2 = nn.Embedding(vocabulary, 128), nn.Linear(128, 256, bias=False)
        self.recurrence = nn.Linear(256, 256, bias=False)
        self.word, self.recurrent = nn.Linear(256, 512, bias=False), nn.Linear(256, 512, bias=False)
        self.image, self.output = nn.Linear(FEATURES, 512, bias=False), nn.Linear(512, vocabulary)
        self.dropout = nn.Dropout(0.5)
        nn.init.eye_(self.recurrence.weight)

    def forward(self, tokens: Tensor, features: Tensor) -> Tensor:
        """Logits (B, T, V) of padded words (B, T)."""
        state, logits = torch.zeros(len(tokens), 256), []
        for step in range(tokens.shape[1]):
            word = self.dropout(self.embedding2(self.embedding1(tokens[:, step])))
            state = torch.relu(self.recurrence(state) + word)
            multimodal = ScaledTanh()(self.word(word) + self.recurrent(self.dropout(state)) + self.image(features))
            logits.append(self.output(self.dropout(multimodal)))
        return torch.stack(logits, dim=1)


def caption_lengths() -> tuple[np.ndarray, str]:
    """Number of words of each sentence, and the source of these numbers."""
    root = Path(os.environ.get("MRNN_DATA", "datasets")) / "flickr8k"
    if root.is_dir():
        images = read_dataset("flickr8k", root).images
        lengths = [len(tokenize(text)) for image in images if image.split == "train" for text in image.sentences]
        return np.array([length for length in lengths if length]), f"{len(lengths)} training sentences of Flickr8k"
    drawn = np.random.default_rng(0).normal(10.8, 3.8, 30000)
    return np.maximum(2, drawn.round()).astype(np.int64), "drawn from max(2, round(N(10.8, 3.8)))"


def invent(lengths: np.ndarray, vocabulary: int) -> Sentences:
    """Sentences of these lengths from random words, five per image."""
    generator = np.random.default_rng(1)
    return Sentences(
        tokens=generator.integers(1, vocabulary, lengths.sum()).astype(np.int32),
        starts=np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(lengths)]),
        image=np.arange(len(lengths)) // 5 % IMAGES,
    )


def milliseconds(work: Callable[..., None], *arguments: Any, clock: Callable[[], float] = time.perf_counter) -> float:
    work(*arguments)  # untimed: afterwards caches and freed memory belong to this work, as in a long run
    started = clock()
    work(*arguments)
    return (clock() - started) * 1000


def naive_step(
    model: Naive, optimiser: torch.optim.Optimizer, sentences: Sentences, numbers: np.ndarray, noise: Noise
) -> None:
    words = [torch.from_numpy(sentences.tokens[sentences.starts[n] : sentences.starts[n + 1]]).long() for n in numbers]
    start = torch.zeros(1, dtype=torch.int64)
    inputs = pad_sequence([torch.cat([start, w]) for w in words], batch_first=True)
    targets = pad_sequence([torch.cat([w, start]) for w in words], batch_first=True, padding_value=-1)
    optimiser.zero_grad()
    logits = model(inputs, noise[sentences.image[numbers]])
    functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=-1).backward()
    nn.utils.clip_grad_norm_(model.parameters(), 5.0)
    optimiser.step()


def our_step(
    model: MRNN, optimiser: torch.optim.Optimizer, sentences: Sentences, numbers: np.ndarray, noise: Noise
) -> None:
    batch = pack(sentences, numbers, noise)  # type: ignore[arg-type]
    optimiser.zero_grad(set_to_none=True)
    (batch_bits(model, batch) / batch.count).backward()
    norm = gradient_norm(model)
    if norm > 5.0:
        nn.utils.clip_grads_with_norm_(model.parameters(), 5.0, norm)
    optimiser.step()


@torch.no_grad()
def triple(inputs: Tensor, weight: Tensor, outputs: Tensor, *, of_inputs: bool = True) -> None:
    """The three products of a layer: forward, gradient of its inputs, gradient of its weight."""
    product(inputs, weight)
    if of_inputs:
        product(outputs, weight.t())
    weight_gradient(outputs, inputs)


@torch.no_grad()
def torch_triple(inputs: Tensor, weight: Tensor, outputs: Tensor) -> None:
    torch.mm(inputs, weight.t())
    torch.mm(outputs, weight)
    torch.mm(outputs.t(), inputs)


def other_products(model: MRNN, batch: CaptionBatch) -> None:
    """The products of all layers except the output layer, and the steps of the recurrence."""
    tokens, narrow = batch.count, torch.ones(batch.count, 128)
    words, multimodal = torch.ones(tokens, 256), torch.ones(tokens, 512)
    triple(narrow, model.get_parameter("embedding2.weight"), words)
    triple(words, model.word_to_multimodal.weight, multimodal)
    triple(words, model.recurrent_to_multimodal.weight, multimodal)
    triple(batch.features, model.image_to_multimodal.weight, torch.ones(len(batch.features), 512), of_inputs=False)
    with torch.enable_grad():
        states = recur_packed(words.requires_grad_(), model.recurrence.weight, batch.sizes)
    torch.autograd.grad(states, (words, model.recurrence.weight), torch.ones_like(states))


def compare(sentences: Sentences, vocabulary: int, threads: int, repeats: int) -> None:
    """Measure one vocabulary size with one number of threads and print its line.

    sentences : synthetic sentences of this vocabulary.
    vocabulary : number of words, V.
    threads : number of CPU threads.
    repeats : number of measurements, of which the medians are printed.
    """
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    noise = Noise(torch.rand(IMAGES, FEATURES))
    naive, ours = Naive(vocabulary), MRNN(MRNNConfig(vocabulary, FEATURES, dropout=0.5, image_dropout=0.0))
    ours.initialise(torch.Generator().manual_seed(0))
    naive_adam = torch.optim.Adam(naive.parameters(), lr=1e-3, foreach=False)
    our_adam = build_optimiser("adam", ours.parameters(), lr=1e-3, l2=0.0)
    shuffled = np.random.default_rng(2).permutation(len(sentences))
    order = epoch_order(sentences.lengths, BATCH, seed=0, epoch=0)
    times: dict[str, list[float]] = {name: [] for name in ("ours", "products", "torch", "all", "naive")}
    for repeat in range(repeats + 2):
        random, alike = shuffled[repeat * BATCH :][:BATCH], order[repeat]
        batch = pack(sentences, alike, noise)  # type: ignore[arg-type]
        operands = torch.rand(batch.count, 512), ours.output.weight.detach(), torch.rand(batch.count, vocabulary)
        words = int(sentences.lengths[random].sum()) + len(random)
        measured = {
            "ours": milliseconds(our_step, ours, our_adam, sentences, alike, noise) / batch.count,
            "products": milliseconds(triple, *operands) / batch.count,
            "torch": milliseconds(torch_triple, *operands) / batch.count,
            "all": milliseconds(other_products, ours, batch) / batch.count,
            "naive": milliseconds(naive_step, naive, naive_adam, sentences, random, noise) / words,
        }
        measured["all"] += measured["products"]
        if repeat >= 2:  # the first two are warm-up
            for name, value in measured.items():
                times[name].append(1000 * value)
    middle = {name: median(values) for name, values in times.items()}
    rates = [6 * 512 * vocabulary / middle[name] / 1e3 for name in ("products", "torch")]
    shares = [middle[name] / middle["ours"] for name in ("products", "torch", "all")]
    columns = "".join(f"{middle[name]:>9.1f}" for name in times) + "".join(f"{rate:>7.0f}" for rate in rates)
    ratios = f"{middle['naive'] / middle['ours']:>12.2f}" + "".join(f"{share:>15.0%}" for share in shares)
    click.echo(f"{vocabulary:>5} {threads:>7} {columns} {ratios}")


def compare_gated(lengths: np.ndarray, threads: int) -> None:
    """Print the time of both passes of the gated layers, our loop and torch's layers, on nine batches of an epoch."""
    layers = {"GRU": (GRU(256, 256), nn.GRU(256, 256)), "LSTM": (LSTM(256, 256), nn.LSTM(256, 256))}
    order = epoch_order(lengths, BATCH, seed=0, epoch=0)[:9]
    for name, (ours, theirs) in layers.items():
        times: dict[str, list[float]] = {"loop": [], "packed": [], "padded": [], "ours": []}
        for numbers in order:
            sizes = (lengths[numbers][:, None] >= np.arange(lengths[numbers].max() + 1)).sum(0).tolist()
            words = torch.rand(sum(sizes), 256, requires_grad=True)
            passes = {
                "loop": partial(Gated.packed, ours, words, sizes),
                "packed": partial(packed_pass, theirs, words, sizes),
                "padded": partial(padded_pass, theirs, words, sizes),
                "ours": partial(ours.packed, words, sizes),
            }
            for label, forward in passes.items():
                times[label].append(milliseconds(both_passes, forward, clock=time.process_time) / len(words))
        middle = {label: 1000 * median(values) for label, values in times.items()}
        columns = ", ".join(f"{label} {value:.1f}" for label, value in middle.items())
        ratio = middle["loop"] / middle["ours"]
        click.echo(f"{name}, {threads} threads, ms of CPU time per 1,000 words: {columns}; loop/ours {ratio:.2f}")


def both_passes(forward: Callable[[], Tensor]) -> None:
    forward().sum().backward()


def packed_pass(layer: nn.Module, words: Tensor, sizes: list[int]) -> Tensor:
    """r(t) by torch's layer of packed sentences."""
    states: Tensor = layer(PackedSequence(words, torch.tensor(sizes)))[0].data
    return states


def padded_pass(layer: nn.Module, words: Tensor, sizes: list[int]) -> Tensor:
    """r(t) by torch's layer of the sentences padded to the longest."""
    table, lengths = pad_packed_sequence(PackedSequence(words, torch.tensor(sizes)))
    return pack_padded_sequence(layer(table)[0], lengths).data


def compare_adam(vocabulary: int) -> None:
    """Print the speed-up of fused Adam over Adam parameter by parameter."""
    model = MRNN(MRNNConfig(vocabulary, FEATURES, dropout=0.5, image_dropout=0.0))
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    loop = torch.optim.Adam(model.parameters(), lr=1e-3, foreach=False)
    fused = build_optimiser("adam", model.parameters(), lr=1e-3, l2=0.0)
    times = [(milliseconds(loop.step), milliseconds(fused.step)) for _ in range(9)]
    one, other = (median(column) for column in zip(*times, strict=True))
    click.echo(
        f"Adam, V {vocabulary}, {torch.get_num_threads()} threads: {one:.1f} ms parameter by parameter,", nl=False
    )
    click.echo(f" {other:.1f} ms fused: {one / other:.1f}x")


def padding(lengths: np.ndarray, batches: list[np.ndarray]) -> float:
    """Number of padding rows divided by the number of words, if batches were padded to their longest sentence."""
    cells = sum(int(lengths[batch].max() + 1) * len(batch) for batch in batches)
    return cells / float((lengths + 1).sum()) - 1


@click.command()
@click.option("--threads", multiple=True, type=int, default=(1, 2), show_default=True)
@click.option("--vocabulary", multiple=True, type=int, default=(7415, 2538), show_default=True)
@click.option("--repeats", default=9, show_default=True)
def main(threads: tuple[int, ...], vocabulary: tuple[int, ...], repeats: int) -> None:
    """Print the comparison."""
    suit_process()
    lengths, origin = caption_lengths()
    click.echo(f"lengths: {origin}; mean {lengths.mean():.1f} words; medians of {repeats}")
    click.echo(f"{'milliseconds per 1,000 words':>50}{'GFLOP/s':>21}{'ratios':>20}")
    names = "".join(f"{name:>9}" for name in ("ours", "products", "torch", "all", "naive"))
    ratios = "".join(f"{name:>15}" for name in ("products/ours", "torch/ours", "all/ours"))
    click.echo(f"    V threads {names}{'ours':>7}{'torch':>7} {'naive/ours':>12}{ratios}")
    for words, count in itertools.product(vocabulary, threads):
        compare(invent(lengths, words), words, count, repeats)
    for count in threads:
        torch.set_num_threads(count)
        compare_gated(lengths, count)
    for words, count in itertools.product(vocabulary, threads):
        torch.set_num_threads(count)
        compare_adam(words)
    shuffled = np.random.default_rng(0).permutation(len(lengths))
    for size in (100, BATCH, 1000):
        random = padding(lengths, [shuffled[start : start + size] for start in range(0, len(lengths), size)])
        order = epoch_order(lengths, size, seed=0, epoch=0)
        shapes = len({(int(lengths[batch].max()), len(batch)) for batch in order})
        alike = padding(lengths, order)
        click.echo(
            f"padding, batches of {size}: {random:.0%} if random, {alike:.1%} in sorted windows, {shapes} shapes"
        )


if __name__ == "__main__":
    main()

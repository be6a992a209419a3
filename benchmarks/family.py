"""Speed of training, and number of parameters, of every model that writes captions, measured side by side in one run.

    MRNN_DATA=... python benchmarks/family.py [--threads 1] [--rounds 9] [--features 1280] [--vocabulary 2539]

Settings are each model's defaults, and those of the switches in the table of docs/results.md. Sentence lengths are
those of benchmarks/training.py, words are random, features are noise, batches have 100 sentences. A step is packing,
cost, backward, clipping and Adam. Rounds are interleaved: in each, every model takes one step on the same sentences.
The columns are

    words/s     words to predict, END among them, per second of CPU time of the process: the median of the rounds
    of m-RNN    this speed divided by that of the first row
    parameters  number of trained values, in millions
"""

import time
from statistics import median
from typing import Any, cast

import click
import numpy as np
import torch
from training import IMAGES, Noise, caption_lengths, invent

from mrnn.data.memory import suit_process
from mrnn.train.batches import epoch_order, pack
from mrnn.train.models.captioner import Captioner
from mrnn.train.models.kinds import KINDS
from mrnn.train.optim import build_optimiser, gradient_norm
from mrnn.train.tasks.captioning import batch_bits

BATCH = 100
ROWS: dict[str, tuple[str, dict[str, Any]]] = {
    "m-RNN": ("mrnn", {}),
    "rnn-base": ("rnn-base", {}),
    "LBL": ("lbl", {}),
    "MLBL-B": ("mlbl-b", {}),
    "MLBL-F": ("mlbl-f", {}),
    "GRU": ("mrnn", {"recurrence": "gru"}),
    "LSTM": ("mrnn", {"recurrence": "lstm"}),
    "shared word vectors": ("mrnn", {"share_words": True}),
    "Transformer": ("transformer", {}),
    "one embedding": ("mrnn", {"embedding1": 0}),
    "no word path": ("mrnn", {"word_path": False}),
    "image into the recurrence": ("mrnn-image-recurrent", {"image_into": "recurrent"}),
    "image into both": ("mrnn-image-recurrent", {"image_into": "both"}),
    "image into both, shared": ("mrnn-image-recurrent", {"image_into": "both-shared"}),
    "generator": ("generator", {}),
}


class Trained:
    """A model with its optimiser, and the speeds measured so far."""

    def __init__(self, kind: str, changes: dict[str, Any], vocabulary: int, features: int) -> None:
        torch.manual_seed(0)
        self.model = cast(Captioner, KINDS[kind].build(KINDS[kind].config(vocabulary, features, **changes)))
        self.model.initialise(torch.Generator().manual_seed(0))
        self.optimiser = build_optimiser("adam", self.model.parameters(), lr=1e-3, l2=0.0)
        self.speeds: list[float] = []
        self.parameters = sum(parameter.numel() for parameter in self.model.parameters())

    def step(self, sentences: Any, numbers: np.ndarray, noise: Noise) -> None:
        """Train on these sentences and note the words per second of CPU time."""
        started = time.process_time()
        batch = pack(sentences, numbers, noise)  # type: ignore[arg-type]
        self.optimiser.zero_grad(set_to_none=True)
        (batch_bits(self.model, batch) / batch.count).backward()
        norm = gradient_norm(self.model)
        if norm > 5.0:
            torch.nn.utils.clip_grads_with_norm_(self.model.parameters(), 5.0, norm)
        self.optimiser.step()
        self.speeds.append(batch.count / (time.process_time() - started))


@click.command()
@click.option("--threads", default=1, show_default=True)
@click.option("--rounds", default=9, show_default=True)
@click.option("--features", default=1280, show_default=True)
@click.option("--vocabulary", default=2539, show_default=True)
def main(threads: int, rounds: int, features: int, vocabulary: int) -> None:
    """Print a line for each model."""
    suit_process()
    torch.set_num_threads(threads)
    lengths, origin = caption_lengths()
    sentences, noise = invent(lengths, vocabulary), Noise(torch.rand(IMAGES, features))
    order = epoch_order(sentences.lengths, BATCH, seed=0, epoch=0)
    models = {name: Trained(kind, changes, vocabulary, features) for name, (kind, changes) in ROWS.items()}
    for numbers in order[: rounds + 2]:
        for trained in models.values():
            trained.step(sentences, numbers, noise)
    click.echo(f"lengths: {origin}; V {vocabulary}, D {features}, {threads} threads, medians of {rounds}")
    click.echo(f"{'':<28}{'words/s':>9}{'of m-RNN':>10}{'parameters':>12}")
    first = 0.0
    for name, trained in models.items():
        speed = median(trained.speeds[2:])  # the first two are warm-up
        first = first or speed
        click.echo(f"{name:<28}{speed:>9.0f}{speed / first:>10.2f}{trained.parameters / 1e6:>10.2f} M")


if __name__ == "__main__":
    main()

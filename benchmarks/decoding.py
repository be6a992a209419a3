"""Captions a second: batched beam search beside the same one image at a time, in one run.

    python benchmarks/decoding.py [--beam 5]

An untrained model of the paper's sizes (V = 2,538), float64 as evaluate-mrnn decodes and float32; about half a minute.
Untrained models seldom end a caption, so every caption takes all --max-steps steps: the worst case.
"""

import time

import click
import torch

from mrnn.evaluate.decode import DecodingConfig, generate
from mrnn.train.models.mrnn import MRNN, MRNNConfig

VOCABULARY, FEATURES = 2538, 4096


@click.command()
@click.option("--beam", default=5, show_default=True)
@click.option("--max-steps", default=20, show_default=True)
@click.option("--threads", default=1, show_default=True)
def main(beam: int, max_steps: int, threads: int) -> None:
    """Print captions a second and ratios."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    model = MRNN(MRNNConfig(VOCABULARY, FEATURES)).eval()
    features = torch.rand(64, FEATURES)
    config = DecodingConfig(beam=beam, max_steps=max_steps)
    for name in ("float32", "float64"):
        network = model.double() if name == "float64" else model
        rates = []
        for size, count in ((1, 8), (32, 64)):
            start = time.perf_counter()
            for first in range(0, count, size):
                generate(network, features[first : first + size], config)
            rates.append(count / (time.perf_counter() - start))
        one, many = rates
        print(f"{name}: {one:.1f} captions/s one at a time, {many:.1f} in batches of 32: {many / one:.1f} x")


if __name__ == "__main__":
    main()

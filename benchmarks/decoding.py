"""Captions per second in batches and in loops over single images, measured in one run; the captions must be equal.

    python benchmarks/decoding.py [--images 128]

Two loops are measured: the plain loop of NeuralTalk and most tutorials (one image and one hypothesis at a time, Python
lists), and ours with one image at a time. The model has the paper's sizes (V = 2,538) and is untrained, with END made
probable enough that most captions end. Ours decodes as evaluate-mrnn does; the plain loop uses float32. Rounds are
interleaved; medians of the ratios are printed.
"""

import statistics
import sys
import time
from collections.abc import Callable

import click
import torch
from torch import Tensor

from mrnn.data.vocabulary import BOUNDARY_ID, UNKNOWN_ID
from mrnn.evaluate.generation.decode import Decoder, DecodingConfig
from mrnn.evaluate.generation.stage import DECODE_IMAGES
from mrnn.train.models.captioner_configs import MRNNConfig
from mrnn.train.models.mrnn import MRNN

VOCABULARY, FEATURES, MAX_STEPS, END_BIAS = 2538, 4096, 30, 4.6
Words = list[tuple[int, ...]]


@torch.inference_mode()
def plain_loop(model: MRNN, feature: Tensor, beam: int) -> tuple[int, ...]:
    """The best caption of one image by beam search, with one forward step per hypothesis."""
    image = model.image(feature)
    beams: list[tuple[float, list[int], Tensor]] = [(0.0, [], torch.zeros(model.config.recurrent).to(image))]
    for _ in range(MAX_STEPS):
        candidates = [found for found in beams if BOUNDARY_ID in found[1]]
        if len(candidates) == beam:
            break
        for score, words, before in beams:
            if BOUNDARY_ID in words:
                continue
            word = model.words(torch.tensor(words[-1] if words else BOUNDARY_ID))
            state = model.recur(word, before)
            log_probs = model.output(model.fuse(model.combine(word, state), image)).log_softmax(-1)
            log_probs[UNKNOWN_ID] = -torch.inf
            best = log_probs.topk(beam)
            for value, number in zip(best.values.tolist(), best.indices.tolist(), strict=True):
                candidates.append((score + value, [*words, number], state))
        beams = sorted(candidates, key=lambda found: -found[0])[:beam]
    _, words, _ = max(beams, key=lambda found: (BOUNDARY_ID in found[1], found[0]))
    return tuple(word for word in words if word != BOUNDARY_ID)


@click.command()
@click.option("--images", default=128, show_default=True)
@click.option("--rounds", default=3, show_default=True)
@click.option("--threads", default=0, help="CPU threads; 0 uses all cores.")
def main(images: int, rounds: int, threads: int) -> None:
    """Print captions per second and ratios; the exit code is 1 if captions differ."""
    if threads:
        torch.set_num_threads(threads)
    torch.manual_seed(0)
    model = MRNN(MRNNConfig(VOCABULARY, FEATURES)).eval().requires_grad_(False)
    for parameter in model.parameters():
        parameter.normal_(std=0.06)
    model.output.bias[BOUNDARY_ID] = END_BIAS
    features, decoder = torch.rand(images, FEATURES), Decoder(model)
    for name, beam in (("greedy", 1), ("beam 5", 5)):
        config = DecodingConfig(beam=beam, max_steps=MAX_STEPS)

        def batches(size: int, config: DecodingConfig = config) -> Words:
            parts = (decoder(features[i : i + size], config) for i in range(0, images, size))
            return [best.words for part in parts for best, *_ in part]

        ways: dict[str, Callable[[], Words]] = {
            "plain loop": lambda beam=beam: [plain_loop(model, feature, beam) for feature in features],  # type: ignore[misc]
            "ours, one at a time": lambda: batches(1),
            "batches": lambda: batches(DECODE_IMAGES),
        }
        seconds: dict[str, list[float]] = {way: [] for way in ways}
        captions: dict[str, Words] = {}
        for _ in range(rounds):
            for way, write in ways.items():
                start = time.perf_counter()
                captions[way] = write()
                seconds[way].append(time.perf_counter() - start)
        if any(found != captions["batches"] for found in captions.values()):
            sys.exit(f"{name}: the captions differ")
        words = sum(map(len, captions["batches"])) / images
        print(f"{name}: {images} captions, identical in all three ways, {words:.1f} words on average")
        for way, times in seconds.items():
            rate = f"  {way:<20}{images / statistics.median(times):8.1f} captions/s"
            if way == "batches":
                print(f"{rate}, {DECODE_IMAGES} images at a time")
                continue
            ratios = [slow / fast for slow, fast in zip(times, seconds["batches"], strict=True)]
            print(f"{rate}: batches are {statistics.median(ratios):.1f}x as fast")


if __name__ == "__main__":
    main()

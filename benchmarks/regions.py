"""What regions cost: whole pictures, roi and crop side by side, the detector, the hash of a file, and what reuse saves.

usage: python benchmarks/regions.py [--pictures N] [--rounds R] [--weights YOLOX] [--cpu-time]

In every round, for each network: (whole) extraction of whole pictures; (roi) and (crop) of 19 regions and the whole on
a grid; (network) the network alone over the rows of crop, in memory already. Each from files into a cache, on the CPU.
Then (detector) YOLOX-nano a picture, batch of one; (hash) BLAKE2b-128 of a file's bytes beside decoding it; (reuse)
whole pictures again with all rows taken from the cache before. Medians over the rounds, ratios within a round. Goals:
crop >= 0.90 of network; roi >= 3 x crop with AlexNet, and 8 x with EfficientNet-Lite0. Flickr8k's true-shape
photographs where MRNN_DATA names the data sets, else noise of 500 x 375 pixels.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image as Picture

from mrnn.data.captions import Corpus, Image
from mrnn.data.picture_files import hash_bytes
from mrnn.extract.backbones import build_backbone
from mrnn.extract.config import ExtractionConfig, available_cpus
from mrnn.extract.detectors import build_detector
from mrnn.extract.extraction import extract_dataset
from mrnn.extract.images import decode_picture
from mrnn.extract.network import BatchNetwork, repeatable

BACKBONES = ("alexnet", "timm:tf_efficientnet_lite0")
THREADS = available_cpus()
CPU = torch.device("cpu")
clock = time.perf_counter


def seconds(work: Callable[[], object]) -> float:
    start = clock()
    work()
    return clock() - start


def pictures(scratch: Path, *, count: int) -> Corpus:
    """The data set: real photographs where there are some."""
    folder = Path(os.environ.get("MRNN_DATA", "nowhere")) / "flickr8k" / "Flicker8k_original_aspect"
    if not folder.is_dir():
        folder = scratch
        draw = np.random.default_rng(0)
        for n in range(count):
            small = Picture.fromarray(draw.integers(0, 256, (90, 90, 3), dtype=np.uint8))
            small.resize((500, 375), Picture.Resampling.BICUBIC).save(folder / f"{n}.jpg", quality=90)
    names = sorted(path.name for path in folder.glob("*.jpg"))[:count]
    return Corpus("benchmark", folder, tuple(Image(name, name, "train", ("a picture",)) for name in names))


def compare(name: str, corpus: Corpus, scratch: Path, *, rounds: int) -> str:
    """One line of results for a network."""
    batch_size = min(ExtractionConfig().batch_size, len(corpus.images))  # so that no pass is mostly empty
    whole = ExtractionConfig(backbone=name, weights="random:0", threads=THREADS, device="cpu", batch_size=batch_size)
    configs = {
        "whole": whole,
        "roi": replace(whole, batch_size=64, regions="grid", region_features="roi"),
        "crop": replace(whole, batch_size=64, regions="grid", region_features="crop"),
    }
    rows = configs["crop"].images_per_pass * configs["crop"].rows_per_image
    network = BatchNetwork(build_backbone(name, weights="random:0"), batch_size=rows, device=CPU, precision="float32")
    batch = torch.randint(0, 256, network.empty_batch().shape, dtype=torch.uint8)
    passes = -(-len(corpus.images) // configs["crop"].images_per_pass)

    def network_only() -> None:
        with repeatable(threads=THREADS):
            for _ in range(passes):
                network(batch)

    rates: dict[str, list[float]] = defaultdict(list)
    network_only()
    for _ in range(rounds):
        built = seconds(partial(build_backbone, name, weights="random:0"))  # which extraction does as well
        for kind, config in configs.items():
            path = scratch / f"{kind}.h5"
            path.unlink(missing_ok=True)
            taken = seconds(partial(extract_dataset, corpus, path, config=config)) - built
            rates[kind].append(len(corpus.images) / taken)
        rates["network"].append(passes * configs["crop"].images_per_pass / seconds(network_only))
        again = seconds(
            lambda: extract_dataset(
                corpus, scratch / "whole.h5", config=whole, overwrite=True, reuse=[scratch / "whole.h5"]
            )
        )
        rates["reuse"].append(len(corpus.images) / max(again - built, 1e-3))

    def ratio(one: str, other: str) -> float:
        return statistics.median(a / b for a, b in zip(rates[one], rates[other], strict=True))

    return (
        ", ".join(f"{kind} {statistics.median(values):.2f}/s" for kind, values in rates.items())
        + f"; crop = {ratio('crop', 'network'):.2f} of network, roi = {ratio('roi', 'crop'):.1f} x crop = "
        f"{ratio('roi', 'whole'):.2f} of whole, reuse = {ratio('reuse', 'whole'):.0f} x whole"
    )


def detector_time(corpus: Corpus, weights: str) -> float:
    """Milliseconds of YOLOX-nano a picture."""
    detector = build_detector("yolox-nano", weights=weights, device=CPU)
    decoded = [decode_picture((corpus.root / image.path).read_bytes(), least=None) for image in corpus.images[:16]]
    with repeatable(threads=THREADS):
        detector.find(decoded[0].pixels, count=19)
        return 1000 * statistics.median(
            seconds(partial(detector.find, picture.pixels, count=19)) for picture in decoded
        )


def hash_share(corpus: Corpus) -> tuple[float, float]:
    """Microseconds of hashing a file, and its ratio to decoding it."""
    files = [(corpus.root / image.path).read_bytes() for image in corpus.images]
    hashing = min(seconds(lambda: [hash_bytes(data) for data in files]) for _ in range(5))
    decoding = min(seconds(lambda: [decode_picture(data, least=512) for data in files]) for _ in range(3))
    return 1e6 * hashing / len(files), hashing / decoding


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=48, help="a multiple of 16 and of 3 leaves no pass half empty")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--weights", default="random:0", help="of YOLOX-nano; they do not change its speed")
    parser.add_argument("--cpu-time", action="store_true", help="one thread, and its CPU time: on a busy machine")
    arguments = parser.parse_args()
    global clock, THREADS
    if arguments.cpu_time:
        clock, THREADS = time.process_time, 1
    torch.set_num_threads(THREADS)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        corpus = pictures(folder, count=arguments.pictures)
        print(f"regions: {THREADS} threads, {len(corpus.images)} pictures, 20 rows each", flush=True)
        for name in BACKBONES:
            print(f"{name}: {compare(name, corpus, folder, rounds=arguments.rounds)}", flush=True)
        micro, share = hash_share(corpus)
        print(f"detector: {detector_time(corpus, arguments.weights):.0f} ms a picture")
        print(f"hash: {micro:.0f} us a file, {share:.3f} of decoding")


if __name__ == "__main__":
    main()

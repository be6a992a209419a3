"""Rate of extraction, compared with that of the network alone and with that of a plain loop.

usage: python benchmarks/extraction.py [--pictures N] [--rounds R]

Each round measures: (eager) the network alone on batches in memory, as torch runs it by default; (network) the network
as mrnn runs it, channels last and with memory kept; (ours) extract() from files into a cache; (loop) one image at a
time, with Pillow and torchvision's usual transform. Medians over the rounds are printed.

On a CPU, images are decoded on the same cores as the network runs on. So ours cannot reach the network's rate, but only
the limit that is printed: network / (network + decode), both in core time. The machine's rates of matrix products and
copies are printed too, to compare machines. Goals: ours >= 0.88 of eager, and >= 1.5 times loop. Flickr8k's photographs
are used as well if MRNN_DATA names the data sets.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from copy import deepcopy
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from PIL import Image as Picture
from torchvision import transforms

from mrnn.data.cache_creation import create_cache
from mrnn.data.cache_writer import CacheWriter
from mrnn.data.captions import Corpus, Image
from mrnn.extract.backbones import Backbone, build_backbone
from mrnn.extract.config import ExtractionConfig, available_cpus
from mrnn.extract.images import Preprocessing, load_image
from mrnn.extract.network import BatchNetwork, repeatable
from mrnn.extract.runner import extract
from mrnn.extract.sampling import WholePictures

BACKBONES = ("alexnet", "timm:tf_efficientnet_lite0")
LOOP_PICTURES = 32
THREADS = available_cpus()
CPU = torch.device("cpu")


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def machine_rates() -> str:
    """Rates of float32 matrix products and of copies, the best of a few measurements."""
    matrix, memory = torch.randn(1536, 1536), torch.zeros(64 << 20, dtype=torch.uint8)
    product = min(seconds(lambda: matrix @ matrix) for _ in range(8))
    copy = min(seconds(memory.clone) for _ in range(8))
    return f"{2 * 1536**3 / product / 1e9:.0f} GFLOP/s, copies {len(memory) / copy / 1e9:.1f} GB/s"


def write_pictures(folder: Path, *, count: int) -> None:
    """Write JPEGs of a common size, 500 x 375, with as much detail as photographs (about 60 kB)."""
    generator = np.random.default_rng(0)
    for number in range(count):
        pixels = np.zeros((375, 500, 3))
        for grid, weight in ((5, 120), (20, 70), (90, 40), (250, 25)):
            layer = Picture.fromarray(generator.integers(0, 256, (grid, grid, 3), dtype=np.uint8))
            pixels += (np.asarray(layer.resize((500, 375), Picture.Resampling.BICUBIC)) / 255 - 0.5) * weight
        stream = BytesIO()
        Picture.fromarray(np.clip(pixels + 128, 0, 255).astype(np.uint8)).save(stream, "JPEG", quality=90)
        (folder / f"{number}.jpg").write_bytes(stream.getvalue())


def picture_sets(scratch: Path, *, count: int) -> Iterator[tuple[str, Path]]:
    generated = scratch / "generated"
    generated.mkdir()
    write_pictures(generated, count=count)
    yield "generated 500x375", generated
    if data := os.environ.get("MRNN_DATA"):
        folder = Path(data) / "flickr8k" / "Flicker8k_original_aspect"
        if folder.is_dir():
            yield folder.name, folder


def classic_transform(preprocessing: Preprocessing) -> Callable[[Picture.Image], torch.Tensor]:
    mode = transforms.InterpolationMode(preprocessing.interpolation)
    return transforms.Compose(
        [
            transforms.Resize(preprocessing.resize, interpolation=mode),
            transforms.CenterCrop(preprocessing.crop),
            transforms.ToTensor(),
            transforms.Normalize(preprocessing.mean, preprocessing.std),
        ]
    )


def compare(backbone: Backbone, folder: Path, scratch: Path, *, count: int, rounds: int) -> str:
    """One line of results for a network and a folder of images.

    backbone : the network.
    folder : folder of JPEGs.
    scratch : folder for caches.
    count : largest number of images to use.
    rounds : number of rounds.
    """
    config = ExtractionConfig()
    names = sorted(path.name for path in folder.glob("*.jpg"))[:count]
    corpus = Corpus("benchmark", folder, tuple(Image(name, name, "train", ("a picture",)) for name in names))
    plain = deepcopy(backbone.network)
    network = BatchNetwork(backbone, batch_size=config.batch_size, device=CPU, precision="float32")
    sampler = WholePictures(backbone, batch_size=config.batch_size, device=CPU, precision="float32")
    transform = classic_transform(backbone.preprocessing)
    passes = -(-len(names) // config.batch_size)
    batch = torch.randint(0, 256, network.empty_batch().shape, dtype=torch.uint8)

    def network_only() -> None:
        with repeatable(threads=THREADS):
            for _ in range(passes):
                network(batch)

    floats = torch.rand(config.batch_size, 3, *batch.shape[1:3])

    def eager() -> None:
        with torch.inference_mode():
            for _ in range(passes):
                plain(floats)

    def decode() -> None:
        for name in names:
            load_image(folder / name, backbone.preprocessing)

    def ours() -> None:
        path = scratch / "feats.h5"
        path.unlink(missing_ok=True)
        create_cache(path, corpus, {}, feature_size=backbone.feature_size)
        with CacheWriter(path) as writer:
            extract(
                writer,
                sampler,
                folder,
                threads=THREADS,
                workers=THREADS,
            )

    def loop() -> None:
        with torch.inference_mode():
            for name in names[:LOOP_PICTURES]:
                with Picture.open(folder / name) as picture:
                    backbone.network(transform(picture.convert("RGB"))[None])

    network_only()
    rates: dict[str, list[float]] = {"eager": [], "network": [], "ours": [], "loop": [], "decode": []}
    for _ in range(rounds):
        rates["eager"].append(passes * config.batch_size / seconds(eager))
        rates["network"].append(passes * config.batch_size / seconds(network_only))
        rates["decode"].append(len(names) / seconds(decode))
        rates["ours"].append(len(names) / seconds(ours))
        rates["loop"].append(min(LOOP_PICTURES, len(names)) / seconds(loop))
    median = {name: statistics.median(values) for name, values in rates.items()}

    def ours_to(name: str) -> float:
        return statistics.median(a / b for a, b in zip(rates["ours"], rates[name], strict=True))

    limit = 1 / (1 + median["network"] / (THREADS * median["decode"]))
    return (
        "".join(f"{name} {median[name]:.0f}/s, " for name in ("eager", "network", "ours", "loop"))
        + f"decode {1000 / median['decode']:.2f} ms; ours = {ours_to('eager'):.2f} of eager, "
        f"{ours_to('network'):.2f} of network (limit {limit:.2f}), {ours_to('loop'):.2f} x loop"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=256, help="images per set; nothing overlaps the first batch")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of measurement")
    arguments = parser.parse_args()
    config = ExtractionConfig()
    torch.set_num_threads(THREADS)
    print(f"extraction: {THREADS} threads, batches of {config.batch_size}; {machine_rates()}")
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        sets = list(picture_sets(scratch, count=arguments.pictures))
        for backbone_name in BACKBONES:
            backbone = build_backbone(backbone_name, weights="random:0")
            for label, folder in sets:
                line = compare(backbone, folder, scratch, count=arguments.pictures, rounds=arguments.rounds)
                print(f"{backbone_name}, {label}: {line}", flush=True)


if __name__ == "__main__":
    main()

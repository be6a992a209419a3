"""Latency of the page: how long its answers take over HTTP once the server is warm, and the same searches without it.

    python benchmarks/serve.py --checkpoint runs/feats-mrnn --features feats.h5 --images photos
    python benchmarks/serve.py --checkpoint runs/feats-mrnn --features feats.h5 --images photos --pictures 100000

Without a run, as in `make bench`, the script extracts and trains on a few drawn scenes; the figures then only show that
it runs. With `--pictures` the gallery is simulated: a cache of so many images, each with the feature of a random image
of the split plus normal noise of half the standard deviation of each number, and with that image's sentences and file.
There are then more pictures to find, but no more different sentences. Images of other splits stay as they are.

The search by picture needs an index of the sentences, which is made first and takes longest; `--only pictures` and
`--only captions` do without.

The server runs in this process as serve-mrnn runs it, with one client. The columns are

    median, 90 %   milliseconds from the request to the whole answer
    CPU            median of the CPU time of the process, all threads, in milliseconds
    library        the median over that of the same search or caption called in Python, without a server
    products       the median over that of the matrix products of such a search alone, with random numbers

Each question is asked once, since answers leave something behind, and the three ways take turns with questions of
their own. Sentences are evenly spaced among those of the gallery; pictures are files, which are decoded and described.
"""

import http.client
import json
import resource
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from urllib.parse import urlencode

import click
import numpy as np
import torch

from mrnn.data.cache import FeatureCache, open_cache
from mrnn.data.cache_creation import create_cache
from mrnn.data.cache_writer import CacheWriter
from mrnn.data.captions import Corpus, Image
from mrnn.data.scenes.reader import read_scenes
from mrnn.data.stopping import StopRequest
from mrnn.evaluate import open_run
from mrnn.evaluate.report.pictures import Pictures
from mrnn.evaluate.run import RunGallery
from mrnn.evaluate.search.gallery import IMAGE_ANCHORS
from mrnn.evaluate.search.numbers import shortlist_size
from mrnn.evaluate.web.answers import Answers
from mrnn.evaluate.web.app import make_app
from mrnn.evaluate.web.guard import hosts_of
from mrnn.evaluate.web.server import Server, listen
from mrnn.evaluate.web.work import Worker
from mrnn.extract.config import ExtractionConfig
from mrnn.extract.extraction import extract_dataset
from mrnn.train.loop import train
from mrnn.train.models.captioner import LateFusion
from mrnn.train.products import product
from mrnn.train.settings import TrainSettings

SCENES, SHOWN, ROWS, WRITTEN = 200, 12, 256, 4096  # ROWS of a product, images WRITTEN at a time
LABELS = {
    "pictures": "sentence -> pictures",
    "sentences": "picture -> sentences",
    "captions": "picture -> caption",
}
KINDS = tuple(LABELS)
Way = Callable[[int], object]  # does its work for question number n


class Stop(StopRequest):
    """Asks the server to stop when the measurements are done."""

    asked = False

    @property
    def reason(self) -> str:
        """Why to stop; '' for not yet."""
        return "done" if self.asked else ""


def make_small_world(folder: Path) -> tuple[Path, Path, Path]:
    """A run, a cache and the folder of its pictures, made of a few scenes by a network with random weights."""
    config = ExtractionConfig("torchvision:shufflenet_v2_x0_5", "random:0", resize=64, crop=64)
    extract_dataset(read_scenes(folder / "scenes", count=SCENES), folder / "feats.h5", config=config)
    train(open_cache(folder / "feats.h5"), folder / "run", TrainSettings(epochs=1))
    return folder / "run", folder / "feats.h5", folder / "scenes"


def simulate(cache: FeatureCache, path: Path, count: int, split: str | None) -> FeatureCache:
    """A cache with `count` images around those of a split of another; see the module's docstring."""
    draw = np.random.default_rng(0)
    real = cache.done(split)
    chosen = np.concatenate([draw.choice(real, count), np.setdiff1d(cache.done(), real)])
    images = [
        Image(f"{number}-{image.id}", image.path, image.split, tuple(image.sentences))
        for number, image in enumerate(cache.images[i] for i in chosen.tolist())
    ]
    spread = cache.features[real * cache.rows_per_image].astype(np.float32).std(axis=0) / 2
    corpus = Corpus(cache.dataset, cache.root, tuple(images))
    create_cache(path, corpus, cache.provenance, feature_size=cache.feature_size)
    with CacheWriter(path) as writer:
        for start in range(0, len(images), WRITTEN):
            numbers = np.arange(start, min(start + WRITTEN, len(images)))
            part = cache.features[chosen[numbers] * cache.rows_per_image].astype(np.float32)
            noise = draw.standard_normal(part.shape, dtype=np.float32) * spread
            writer.write(numbers, part + noise * (numbers < count)[:, None])
    return open_cache(path)


@contextmanager
def serving(answers: Answers) -> Iterator[int]:
    """A running server; yields its port."""
    worker, stop = Worker(), Stop()
    with listen("127.0.0.1", 0) as listening:
        port = listening.getsockname()[1]
        server = Server(make_app(answers, worker, hosts=hosts_of("127.0.0.1", port)), stop)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield port
        finally:
            stop.asked = True
            thread.join()
            worker.stop()


def ask(port: int, path: str, body: bytes | None = None) -> None:
    """Ask the server, and read the whole answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.request("GET" if body is None else "POST", path, body)
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    if answer.status != 200:
        raise click.ClickException(f"{path}: {json.loads(content)['error']}")


def products_of(gallery: RunGallery, sentences: Sequence[str], percent: float | None) -> Way | None:
    """The matrix products of a search by sentence with a late-fusion model, on random numbers; None for other models.

    percent : of the pictures that are scored exactly; None for all.
    """
    model = gallery.gallery.trained.model
    if not isinstance(model, LateFusion):
        return None
    output, count = model.output.weight.detach(), len(gallery.gallery.images)
    vectors = torch.randn(count, output.shape[1])
    states, back = torch.randn(ROWS, output.shape[1]), torch.randn(ROWS, len(output))

    def work(number: int) -> None:
        words = len(sentences[number].split()) + 1
        scored = count if percent is None else shortlist_size(count, percent=percent, top=SHOWN)
        for _ in range(0, scored * words, ROWS):
            product(states, output)
        if percent is not None:  # at all anchors, forward and back, and first-order scores of all pictures
            for _ in range(0, IMAGE_ANCHORS * words, ROWS):
                product(states, output)
                product(back, output.t())
            product(states[:1], vectors)

    return work


def measure(label: str, ways: Sequence[Way | None], rounds: int) -> None:
    """Print a row. ways : over HTTP, in the library, the products alone."""
    seconds: list[list[float]] = [[] for _ in ways]
    cpu = []
    for number in range(3 * rounds):
        way = ways[number % 3]
        if way is not None:
            clock, process = time.perf_counter(), time.process_time()
            way(number)
            seconds[number % 3].append(1000 * (time.perf_counter() - clock))
            if number % 3 == 0:
                cpu.append(1000 * (time.process_time() - process))
    whole = median(seconds[0])
    ratios = [f"{whole / median(other):.2f}x" if other else "" for other in seconds[1:]]
    print(
        f"{label:<26}{whole:>9.0f}{np.quantile(seconds[0], 0.9):>9.0f}{median(cpu):>9.0f}"
        + "".join(f"{ratio:>10}" for ratio in ratios),
        flush=True,
    )


@click.command()
@click.option("--checkpoint", type=click.Path(path_type=Path), help="Run of a model that searches.")
@click.option("--features", type=click.Path(path_type=Path))
@click.option("--images", type=click.Path(path_type=Path), help="Folder of the data set.  [default: as recorded]")
@click.option("--weights", help="As for serve-mrnn.")
@click.option("--split", help="Images and sentences to search.  [default: all]")
@click.option("--pictures", default=0, help="Number of images of a simulated gallery.  [default: the real one]")
@click.option("--only", "kinds", multiple=True, type=click.Choice(KINDS), help="Answers to measure.  [default: all]")
@click.option("--rounds", default=20, show_default=True, help="Questions of each kind for each way.")
@click.option("--normaliser-images", default=100, show_default=True, help="As for serve-mrnn.")
@click.option("--threads", default=2, show_default=True)
def main(
    checkpoint: Path | None,
    features: Path | None,
    images: Path | None,
    weights: str | None,
    split: str | None,
    pictures: int,
    kinds: tuple[str, ...],
    rounds: int,
    normaliser_images: int,
    threads: int,
) -> None:
    """Print a row for each kind of answer."""
    torch.set_num_threads(threads)
    kinds = kinds or KINDS
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if checkpoint is None or features is None:
            checkpoint, features, images = make_small_world(folder)
        cache = open_cache(features)
        if pictures:
            cache = simulate(cache, folder / "simulated.h5", pictures, split)
        began = time.perf_counter()
        run = open_run(checkpoint, device="cpu", weights=weights)
        gallery = run.gallery(cache, split=split, index=folder / "index", normaliser_images=normaliser_images, seed=0)
        answers = Answers(gallery, describing=run, aligning=None, pictures=Pictures(images or cache.root))
        sentences = gallery.gallery.sentences()
        places = np.linspace(0, len(sentences.texts) - 1, 3 * rounds).astype(int)
        asked = [sentences.texts[place] for place in places]
        contents = []
        for place in places:
            file = answers.file_of(cache.images[sentences.images[place]].id)
            if file is None:
                raise click.ClickException("pictures are not where the cache says; name their folder by --images")
            contents.append(file.read_bytes())
        if "sentences" in kinds:
            answers.prepare()
            if not answers.preparation.ready:
                raise click.ClickException(answers.preparation.error)
        else:  # the first part of the preparation, and what reads the weights of the network
            gallery.find_pictures(asked[0], percent=answers.percent)
            run.caption([contents[0]])
        print(
            f"{len(gallery.gallery.images):,} pictures, {len(sentences.texts):,} different sentences, {threads} "
            f"threads; ready after {time.perf_counter() - began:.0f} s"
        )
        print(f"{'ms':<26}{'median':>9}{'90 %':>9}{'CPU':>9}{'library':>10}{'products':>10}")
        with serving(answers) as port:
            ways: dict[str, tuple[Way | None, ...]] = {
                "pictures": (
                    lambda n: ask(port, "/api/pictures?" + urlencode({"sentence": asked[n], "top": SHOWN})),
                    lambda n: gallery.find_pictures(asked[n], top=SHOWN, percent=answers.percent),
                    products_of(gallery, asked, answers.percent),
                ),
                "sentences": (
                    lambda n: ask(port, "/api/sentences", contents[n]),
                    lambda n: gallery.find_sentences(contents[n]),
                    None,
                ),
                "captions": (
                    lambda n: ask(port, "/api/captions", contents[n]),
                    lambda n: run.caption([contents[n]]),
                    None,
                ),
            }
            for kind in kinds:
                measure(LABELS[kind], ways[kind], rounds)
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.1f} GB")


if __name__ == "__main__":
    main()

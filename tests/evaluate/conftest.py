"""A small world for the evaluation tests: invented sentences, random features, an untrained model."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as Picture

from mrnn.data.cache import FeatureCache, open_cache
from mrnn.data.cache_creation import create_cache
from mrnn.data.cache_writer import CacheWriter
from mrnn.data.captions import Box, Corpus, Image
from mrnn.data.regions import NO_CLASS, Regions, found_regions
from mrnn.data.stopping import StopRequest
from mrnn.data.tokenize import tokenize
from mrnn.data.vocabulary import build_vocabulary
from mrnn.evaluate.fit import cache_digest, features_for, sha256_of
from mrnn.evaluate.parts import Parts
from mrnn.evaluate.retrieval.combination_file import FILE as COMBINATION
from mrnn.evaluate.retrieval.combination_file import Member, Recipe
from mrnn.evaluate.stages import Evaluation
from mrnn.extract.config import ExtractionConfig
from mrnn.extract.extraction import extract_dataset
from mrnn.train.checkpoint import load_trained, write_checkpoint
from mrnn.train.features import Features
from mrnn.train.models import KINDS
from mrnn.train.models.captioner import Captioner

Build = Callable[..., Any]
SIZE = 12
MRNN = {"embedding1": 8, "embedding2": 16, "recurrent": 16, "multimodal": 24}
SMALL: dict[str, dict[str, int]] = {
    "mrnn": MRNN,
    "rnn-base": MRNN,
    "mrnn-image-recurrent": MRNN,
    "generator": {"embedding": 8, "hidden": 24},
    "transformer": {"layers": 2, "heads": 2, "width": 16, "context": 6, "multimodal": 24},
    "lbl": {"embedding": 24, "context": 3},
    "mlbl-b": {"embedding": 24, "context": 3, "hidden": 16},
    "mlbl-f": {"embedding": 24, "context": 3, "hidden": 16, "factors": 20},
    "alignment": {"embedding": 8, "hidden": 10, "joint": 12},
    "defrag": {"embedding": 8, "hidden": 10, "joint": 12},
    "devise": {"embedding": 8, "joint": 12},
}


@pytest.fixture
def build_model() -> Build:
    """Make a small model with weights large enough that its predictions depend on image and words."""
    return small_model


def small_model(
    *,
    kind: str = "mrnn",
    vocabulary: int = 40,
    features: int = SIZE,
    spread: float = 0.4,
    seed: int = 0,
    double: bool = False,
    **settings: Any,
) -> Any:
    torch.manual_seed(seed)
    model = KINDS[kind].build(KINDS[kind].config(vocabulary, features, **{**SMALL[kind], **settings}))
    model.eval().requires_grad_(False)
    for parameter in model.parameters():
        parameter.normal_(std=spread)
    return model.double() if double else model


def invented_corpus(root: Path, *, train: int = 20, val: int = 4, test: int = 10, integer_ids: bool = False) -> Corpus:
    """Images with 1 to 5 sentences of invented words, some shared; one test image has a sentence without a word."""
    generator = np.random.default_rng(7)
    nouns, verbs, places = ("cat", "dog", "boat", "girl"), ("runs", "sleeps", "waits"), ("at home", "in snow", "")
    images = []
    for number, split in enumerate(["train"] * train + ["val"] * val + ["test"] * test):
        sentences = [
            f"A {generator.choice(nouns)} {generator.choice(verbs)} {generator.choice(places)} ."
            for _ in range(generator.integers(1, 6))
        ]
        if number == train + val:
            sentences.append("!")
        name = str(1000 + number) if integer_ids else f"picture <{number}> & co.png"
        images.append(Image(name, f"pictures/{number}.png", split, tuple(sentences)))
    return Corpus("invented", root, tuple(images), integer_ids=integer_ids)


def with_boxes(corpus: Corpus, seeds: dict[str, int]) -> Corpus:
    """The corpus with a box or two for the first two words of each sentence; seeds : of the boxes of each split."""
    draws = {split: np.random.default_rng(seed) for split, seed in seeds.items()}

    def boxes(image: Image) -> tuple[Box, ...]:
        draw = draws[image.split]
        return tuple(
            Box(*draw.uniform(0, 60, 2), *draw.uniform(10, 40, 2), "A thing", n, (0, 2), ("animals", "people")[n % 2])
            for n, text in enumerate(image.sentences)
            for _ in range(int(draw.integers(1, 3)) if tokenize(text) else 0)
        )

    images = (replace(image, boxes=boxes(image)) if image.split in seeds else image for image in corpus.images)
    return replace(corpus, images=tuple(images))


def invented_regions(images: int, rows: int) -> Regions:
    """Regions of pictures of 100 x 80: the whole one, and others that a detector scored; some lack the last."""
    draw = np.random.default_rng(11)
    places = np.concatenate([draw.uniform(0, 60, (images, rows, 2)), draw.uniform(10, 40, (images, rows, 2))], axis=2)
    places[:, 0] = (0, 0, 100, 80)
    scores = draw.uniform(0.01, 0.9, (images, rows))
    scores[:, 0] = 1
    found = found_regions(places.reshape(-1, 4), scores.ravel(), np.full(images * rows, NO_CLASS))
    found.valid.reshape(images, rows)[::3, -1] = 0
    return found


@pytest.fixture
def make_world(tmp_path: Path) -> Callable[..., tuple[Path, Path]]:
    """Make a cache and a run folder that fit together: (run, cache file)."""

    def make(
        *,
        provenance: dict[str, Any] | None = None,
        size: int = SIZE,
        name: str = "feats.h5",
        end: float = 1.5,
        kind: str = "mrnn",
        regions: int = 1,
        settings: dict[str, Any] | None = None,
        boxes: dict[str, int] | None = None,
        **corpus: Any,
    ) -> tuple[Path, Path]:
        provenance = provenance or {"backbone": "noise", "layer": "fc7", "weights": "random:0", "dtype": "float16"}
        captions = invented_corpus(tmp_path, **corpus)
        if boxes is not None:
            captions = with_boxes(captions, boxes)
        cache = tmp_path / name
        create_cache(cache, captions, provenance, feature_size=size, rows_per_image=regions)
        with CacheWriter(cache) as writer:
            rows = np.random.default_rng(3).standard_normal((len(captions.images) * regions, size))
            places = invented_regions(len(captions.images), regions) if boxes is not None else None
            writer.write(np.arange(len(captions.images)), rows.astype(np.float32), regions=places)
        run = tmp_path / ("run" if kind == "mrnn" else kind)
        write_run(run, captions, kind=kind, size=size, provenance=provenance, end=end, settings=settings or {})
        return run, cache

    return make


def write_run(
    run: Path,
    corpus: Corpus,
    *,
    kind: str,
    size: int,
    provenance: dict[str, Any],
    settings: dict[str, Any],
    end: float = 1.5,
    cache: FeatureCache | None = None,
) -> None:
    """A run folder with an untrained model that knows the words of a corpus, and the mean of a cache's features."""
    words = [tokenize(s) for image in corpus.images if image.split == "train" for s in image.sentences]
    vocabulary = build_vocabulary(words, cutoff=1)
    model = small_model(kind=kind, vocabulary=len(vocabulary), features=size, spread=0.3, **settings)
    if isinstance(model, Captioner):
        model.output.bias[0] = end
    if cache is not None:
        moments = Features(cache, rows=cache.rows_per_image).moments(np.arange(len(cache.images)))
        model.take_moments(*moments, scale=model.config.image_scale)
    run.mkdir(exist_ok=True)
    content = {
        "model": kind,
        "config": asdict(model.config),
        "vocabulary": list(vocabulary.words),
        "weights": model.state_dict(),
        "features": provenance,
        "settings": {"epochs": 3},
        "progress": {"epoch": 2, "step": 40},
    }
    write_checkpoint(run / "checkpoint_best.pt", content)


@pytest.fixture
def make_pictured(tmp_path: Path) -> Callable[..., tuple[Path, Path]]:
    """Make a world whose features were extracted from pictures, with regions: (run, cache file)."""

    def make(
        *,
        source: str,
        kind: str = "alignment",
        features: str = "crop",
        said: tuple[str, ...] = ("A dog runs in snow .", "A cat sleeps at home ."),
        end: float = 1.5,
        **settings: Any,
    ) -> tuple[Path, Path]:
        draw = np.random.default_rng(0)
        images = []
        for number in range(8):
            coarse = Picture.fromarray(draw.integers(0, 256, (6, 6, 3), dtype=np.uint8))
            size = (90 + 10 * number, 150 - 10 * number)
            coarse.resize(size, Picture.Resampling.BICUBIC).save(tmp_path / f"{number}.png")
            boxes = (Box(10, 20, 30, 40, "a dog"), Box(50, 5, 30, 20, "snow"))
            images.append(Image(f"{number}.png", f"{number}.png", ("train", "test")[number % 2], said, boxes))
        corpus = Corpus("drawn", tmp_path, tuple(images))
        config = ExtractionConfig(
            backbone="torchvision:squeezenet1_1",
            weights="random:0",
            resize=64,
            crop=64,
            threads=1,
            device="cpu",
            regions=source,
            regions_per_image=3,
            region_features=features,
        )
        cache = extract_dataset(corpus, tmp_path / "regions.h5", config=config).cache
        run, about = tmp_path / kind, dict(cache.provenance)
        size = cache.feature_size
        write_run(run, corpus, kind=kind, size=size, provenance=about, settings=settings, end=end, cache=cache)
        return run, cache.path

    return make


@pytest.fixture
def write_combination(tmp_path: Path) -> Callable[..., Path]:
    """Write combination.json of some worlds with equal weights."""

    def write(*worlds: tuple[Path, Path], normaliser_images: int = 3) -> Path:
        members = []
        for run, file in worlds:
            trained = load_trained(run)
            digests = sha256_of(trained.file), cache_digest(open_cache(file))
            members.append(Member(run, trained.name, digests[0], file, digests[1], weight=1.0, scale=2.0))
        output = tmp_path / COMBINATION
        output.write_text(Recipe(tuple(members), normaliser_images, seed=0, local_scaling=False).to_json(tmp_path))
        return output

    return write


def evaluate_world(world: tuple[Path, Path], output: Path, *, stop: StopRequest | None = None) -> Evaluation:
    run, file = world
    cache = open_cache(file)
    parts = Parts(output, {"cache": "as it is"})
    trained = load_trained(run)
    features = features_for(trained, cache)
    return Evaluation(trained, cache, "test", cache.done("test"), features, parts, stop or StopRequest())


class StopAfter(StopRequest):
    """Asks to stop when it has been looked at a number of times."""

    def __init__(self, looks: int) -> None:
        super().__init__()
        self.looks = looks

    @property
    def reason(self) -> str:
        self.looks -= 1
        return "" if self.looks >= 0 else "SIGTERM"


@pytest.fixture
def evaluation() -> Callable[..., Evaluation]:
    """Make the Evaluation of a world: (world, output folder, stop=...)."""
    return evaluate_world


@pytest.fixture
def stop_after() -> Callable[[int], StopRequest]:
    """Make a stop request that comes when it has been looked at a number of times."""
    return StopAfter


@pytest.fixture
def quietly(capfd: pytest.CaptureFixture[str]) -> Iterator[Callable[..., Any]]:
    """Call a function in a thread of its own, where no signal handler can be set; at the end nothing may be printed."""
    with ThreadPoolExecutor(1) as pool:
        yield lambda function, *arguments, **options: pool.submit(function, *arguments, **options).result()
    printed = capfd.readouterr()
    assert (printed.out, printed.err) == ("", "")

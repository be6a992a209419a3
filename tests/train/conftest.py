"""A small cache with invented sentences and random features, and settings to match."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mrnn.data.cache import FeatureCache, open_cache
from mrnn.data.cache_creation import create_cache
from mrnn.data.cache_writer import CacheWriter
from mrnn.data.captions import Corpus, Image
from mrnn.train.models import KINDS
from mrnn.train.settings import TrainSettings
from tests.variants import VARIANTS

SUBJECTS = ("a dog", "a small dog", "two dogs", "a girl", "the man in a red coat", "an old man")
VERBS = ("runs", "sits", "jumps", "waits", "plays")
PLACES = ("on the grass", "in the snow", "by a lake", "under a tree", "", "at night near the old station")


def make_cache(
    path: Path,
    *,
    train: int = 60,
    val: int = 12,
    size: int = 16,
    seed: int = 0,
    failed: int = 0,
    dtype: str = "float16",
    regions: int = 1,
    layer_sizes: str | None = None,
) -> FeatureCache:
    """A cache whose sentences depend on the features: subject, verb and place stand for one of their values each.

    With several regions an image, the features that count are those of its last one.
    """
    generator = np.random.default_rng(seed)
    splits = ["train"] * train + ["val"] * val + ["test"] * 3
    images, rows = [], np.abs(generator.normal(size=(len(splits), size))) * 3
    for i, split in enumerate(splits):
        subject = SUBJECTS[int(rows[i, 0] * 3) % len(SUBJECTS)]
        sentences = [
            f"{subject} {VERBS[int(generator.integers(len(VERBS)))]} {place}.".capitalize()
            for place in generator.choice(PLACES, size=3, replace=False)
        ]
        images.append(Image(f"picture{i:03}.jpg", f"picture{i:03}.jpg", split, tuple(sentences)))
    corpus = Corpus("invented", path.parent, tuple(images))
    all_rows = np.abs(generator.normal(size=(len(splits), regions, size))) * 3
    all_rows[:, -1] = rows
    create_cache(
        path,
        corpus,
        {"dataset": "invented", "backbone": "noise"} | ({"layer_sizes": layer_sizes} if layer_sizes else {}),
        feature_size=size,
        dtype=dtype,
        rows_per_image=regions,
    )
    with CacheWriter(path) as writer:
        good = np.arange(failed, len(splits))
        writer.write(good, all_rows[good].reshape(-1, size).astype(np.float32))
        writer.fail(np.arange(failed), ["not a picture"] * failed)
    return open_cache(path)


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    """Matrices this small are slower on several threads, and much slower on a machine that is busy."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session", name="make_cache")
def make_cache_fixture() -> Callable[..., FeatureCache]:
    return make_cache


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> FeatureCache:
    return make_cache(tmp_path_factory.mktemp("cache") / "feats.h5")


@pytest.fixture(scope="session")
def region_cache(tmp_path_factory: pytest.TempPathFactory) -> FeatureCache:
    """The same with three regions an image."""
    return make_cache(tmp_path_factory.mktemp("regions") / "regions.h5", regions=3)


@pytest.fixture(scope="session")
def tiny() -> TrainSettings:
    """An m-RNN of a few thousand weights that trains in about a second."""
    return TrainSettings.of(
        epochs=3, batch_size=8, lr=0.01, cutoff=2, embedding1=6, embedding2=8, recurrent=8, multimodal=12, warmup=5
    )


@pytest.fixture(scope="session")
def tiny_kinds(tiny: TrainSettings) -> dict[str, TrainSettings]:
    """The same of every kind of model, and of every variant of m-RNN."""
    own = {
        "generator": {"embedding": 6, "hidden": 8},
        "transformer": {"layers": 1, "heads": 2, "width": 8, "context": 6, "multimodal": 12},
        "lbl": {"embedding": 8, "context": 3},
        "mlbl-b": {"embedding": 8, "context": 3, "hidden": 8},
        "mlbl-f": {"embedding": 8, "context": 3, "hidden": 8, "factors": 8},
        "alignment": {"embedding": 6, "hidden": 8, "joint": 10},
        "defrag": {"embedding": 6, "hidden": 8, "joint": 10},
        "devise": {"embedding": 6, "joint": 10},
    }
    kinds = {name: replace(tiny, model=name, network=own.get(name, tiny.network)) for name in KINDS}
    return kinds | {name: kinds[name.split(" ")[0]].but(**changes) for name, changes in VARIANTS.items()}

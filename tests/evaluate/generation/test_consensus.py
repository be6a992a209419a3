"""Consensus: an example by hand, ties, neighbours that depend on nothing else, and what it cannot do."""

from collections.abc import Callable, Sequence
from math import exp, sqrt
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mrnn.data.cache import FeatureCache, open_cache
from mrnn.data.cache_creation import create_cache
from mrnn.data.cache_writer import CacheWriter
from mrnn.data.captions import Corpus, Image
from mrnn.data.errors import EvaluationError, SettingError
from mrnn.data.vocabulary import Vocabulary, build_vocabulary
from mrnn.evaluate.fit import features_for
from mrnn.evaluate.generation.consensus import Consensus, by_consensus, nearest
from mrnn.evaluate.generation.decode import Caption
from mrnn.evaluate.settings import ConsensusConfig, DecodingConfig, check_beam
from mrnn.train.checkpoint import TrainedModel
from mrnn.train.models import MRNNConfig
from mrnn.train.models.mrnn import RNNBase

Build = Callable[..., Any]
TRAINING = {(0, 0): ["Dog.", "dog runs", "!"], (1, 0): ["dog runs"], (0, 3): ["cat"], (9, 9): ["cat"]}
SHORTER = 2.5 / sqrt(2) * exp(-1 / 72)  # "dog" and "dog runs", see test_cider.py


@pytest.fixture
def trained(build_model: Build) -> TrainedModel:
    """A generator, which compares images by their centred features; here these are the stored ones."""
    vocabulary = build_vocabulary([["dog", "runs", "cat"]], cutoff=1)
    model = build_model(kind="generator", vocabulary=len(vocabulary), features=2)
    return TrainedModel(model, "generator", vocabulary, {}, {}, Path("run"), Path("run/best.pt"), {})


@pytest.fixture
def cache(tmp_path: Path) -> FeatureCache:
    images = [Image(str(n), f"{n}.png", "train", tuple(said)) for n, said in enumerate(TRAINING.values())]
    corpus = Corpus("tiny", tmp_path, (*images, Image("t", "t.png", "test", ("cat",))))
    create_cache(tmp_path / "tiny.h5", corpus, {}, feature_size=2)
    with CacheWriter(tmp_path / "tiny.h5") as writer:
        writer.write(np.arange(5), np.array([*TRAINING, (0.4, 0)], dtype=np.float32))
    return open_cache(tmp_path / "tiny.h5")


def beam(vocabulary: Vocabulary, *texts: str, log_prob: Sequence[float] = (-2.0, -2.0, -2.0)) -> list[Caption]:
    """Complete captions; log_prob : of each word and END."""
    return [
        Caption(tuple(words), (each,) * (len(words) + 1), complete=True)
        for words, each in zip((vocabulary.encode(text.split()) for text in texts), log_prob, strict=False)
    ]


def scores(
    trained: TrainedModel, cache: FeatureCache, feature: Sequence[float], *, own: int | None = None, **settings: Any
) -> list[float]:
    config = ConsensusConfig(**{f"consensus_{name}": value for name, value in settings.items()})
    consensus = Consensus(trained, cache, features_for(trained, cache), config)
    captions = [beam(trained.vocabulary, "cat", "dog", "dog runs", log_prob=(-1, -2, -3))]
    images = None if own is None else np.array([own])
    return consensus.scores(torch.tensor([feature]), captions, images=images)[0]


def test_by_hand(trained: TrainedModel, cache: FeatureCache) -> None:
    """The neighbours of (0.4, 0) say "dog", "dog runs" and "dog runs"."""
    near: dict[str, Any] = {"images": 2, "distance": "euclidean"}
    found = scores(trained, cache, (0.4, 0), captions=1, log_prob=0.0, **near)
    assert found == pytest.approx([0, 2.5, 5])
    found = scores(trained, cache, (0.4, 0), captions=2, log_prob=0.0, **near)
    assert found == pytest.approx([0, (2.5 + SHORTER) / 2, 5])
    found = scores(trained, cache, (0.4, 0), captions=50, log_prob=0.1, **near)
    assert found == pytest.approx([-0.1, (2.5 + 2 * SHORTER) / 3 - 0.2, (10 + SHORTER) / 3 - 0.3])
    found = scores(trained, cache, (0.0, 2.9), captions=2, log_prob=0.0, images=1, distance="euclidean")
    assert found == pytest.approx([2.5, 0, 0])


def test_the_distance_decides_which_pictures_are_near(trained: TrainedModel, cache: FeatureCache) -> None:
    """Of (2, 0), the two nearest by angle are (1, 0) and (9, 9), by distance (1, 0) and (0, 0)."""
    for distance, cat in (("cosine", 2.5 / 2), ("euclidean", 0)):
        found = scores(trained, cache, (2.0, 0), images=2, captions=2, log_prob=0.0, distance=distance)
        assert found[0] == pytest.approx(cat)


def test_an_image_is_not_its_own_neighbour(trained: TrainedModel, cache: FeatureCache) -> None:
    near: dict[str, Any] = {"images": 1, "captions": 1, "log_prob": 0.0, "distance": "euclidean"}
    assert scores(trained, cache, (0, 3), **near) == pytest.approx([2.5, 0, 0])
    assert scores(trained, cache, (0, 3), own=2, **near) == pytest.approx([0, 2.5, 5])


def test_neighbours_do_not_depend_on_the_images_beside(build_model: Build, cache: FeatureCache) -> None:
    vocabulary = build_vocabulary([["dog", "runs", "cat"]], cutoff=1)
    model = build_model(vocabulary=len(vocabulary), features=2)
    trained = TrainedModel(model, "mrnn", vocabulary, {}, {}, Path("run"), Path("run/best.pt"), {})
    consensus = Consensus(trained, cache, features_for(trained, cache), ConsensusConfig(consensus_images=1))
    features = torch.randn(40, 2, generator=torch.Generator().manual_seed(0))
    captions = [beam(vocabulary, "cat", "dog", "dog runs")] * 40
    together = consensus.scores(features, captions)
    assert [consensus.scores(features[[n]], captions[:1])[0] for n in range(40)] == together
    assert len(set(map(tuple, together))) > 1
    vectors = (model.image(torch.cat([features[:1], torch.tensor(list(TRAINING)).float()]))).double()
    nearest_by_hand = int(torch.cosine_similarity(vectors[:1], vectors[1:]).argmax())
    found = consensus.scores(features[:1], captions[:1])[0]
    said = [text.lower().strip(".") for text in list(TRAINING.values())[nearest_by_hand] if text != "!"]
    assert np.argmax(found) == ["cat", "dog", "dog runs"].index(said[-1])


def test_equal_distances_and_equal_scores_keep_their_order() -> None:
    distances = np.array([3.0, 1, 2, 1, np.inf, 1, 0])
    assert nearest(distances, 3).tolist() == [6, 1, 3]
    assert nearest(distances, 99).tolist() == [6, 1, 3, 5, 2, 0]
    assert nearest(np.array([np.inf]), 1).tolist() == []
    one, two, three = (Caption((n,), (-1.0, -1.0), complete=True) for n in (5, 6, 7))
    cut = Caption((8,), (-0.1,), complete=False)
    ranked = by_consensus([one, cut, two, three], [1.0, 9.0, 1.0, 2.0])
    assert [caption.words for caption in ranked] == [(7,), (5,), (6,), (8,)]
    assert [caption.consensus for caption in ranked] == [2, 1, 1, 9]


def test_refusals(trained: TrainedModel, cache: FeatureCache, tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="use --beam 10, not 1"):
        check_beam(DecodingConfig(beam=1))
    with pytest.raises(SettingError, match="leave out --sample"):
        check_beam(DecodingConfig(beam=1, sample=True))
    corpus = Corpus("tiny", tmp_path, (Image("a", "a.png", "train", ("!",)), Image("b", "b.png", "test", ("cat",))))
    create_cache(tmp_path / "wordless.h5", corpus, {}, feature_size=2)
    with CacheWriter(tmp_path / "wordless.h5") as writer:
        writer.write(np.arange(2), np.zeros((2, 2), dtype=np.float32))
    with pytest.raises(EvaluationError, match=r"wordless.h5 has no captions of training images to compare with"):
        Consensus.open(trained, tmp_path / "wordless.h5", ConsensusConfig())
    blind = RNNBase(MRNNConfig(5, 2)).eval()
    base = TrainedModel(blind, "rnn-base", trained.vocabulary, {}, {}, Path("run"), Path("best.pt"), {})
    with pytest.raises(EvaluationError, match=r"an rnn-base, which does not look at images"):
        Consensus(base, cache, features_for(base, cache), ConsensusConfig())

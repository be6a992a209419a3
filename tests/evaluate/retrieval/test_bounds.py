"""No score lies above its bound, whatever the model; and the bounds are close where they can be."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mrnn.evaluate.retrieval.bounds import BoundScorer, blocks
from mrnn.evaluate.retrieval.late_fusion import LateFusionScorer, Tiles
from mrnn.evaluate.retrieval.prefix_tree import build_prefix_tree
from mrnn.train.models.mrnn import MRNN
from tests.variants import FUSED

Build = Callable[..., MRNN]
SHARED = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def scores_and_bounds(
    model: MRNN, features: torch.Tensor, sentences: list[list[int]], *, words: int
) -> tuple[np.ndarray, np.ndarray]:
    """Both (N, S)."""
    scorer = LateFusionScorer(model, build_prefix_tree(sentences), tiles=Tiles(8, 16))
    bounder = BoundScorer(scorer, torch.stack([scorer.image(feature) for feature in features]), words=words)
    bounds = [bounder.bounds(block) for block in (np.arange(2), np.arange(2, len(sentences)))]
    return np.array([scorer.score(feature) for feature in features]), np.concatenate(bounds).T


@SHARED
@given(
    seed=st.integers(0, 10**6),
    words=st.integers(1, 50),
    spread=st.sampled_from([0.01, 0.3, 1.0, 4.0]),
    size=st.sampled_from([0.0, 1.0, 30.0]),
    shift=st.sampled_from([0.0, -200.0, 200.0]),
    variant=st.sampled_from(FUSED),
)
def test_no_score_is_above_its_bound(
    build_model: Build,
    seed: int,
    words: int,
    spread: float,
    size: float,
    shift: float,
    variant: tuple[str, dict[str, Any]],
) -> None:
    """Also with weights so large that sums overflow, and with more target words at a node than words in the bounds."""
    generator = np.random.default_rng(seed)
    kind, changes = variant
    model = build_model(kind=kind, seed=seed, spread=spread, **changes)
    model.output.bias.add_(shift)
    sentences = sorted({tuple(generator.integers(1, 40, generator.integers(0, 9)).tolist()) for _ in range(40)})
    features = torch.from_numpy(size * generator.standard_normal((5, 12)).astype(np.float32))
    scores, bounds = scores_and_bounds(model, features, list(map(list, sentences)), words=words)
    assert np.isfinite(bounds).all()
    assert (scores.astype(np.float32) <= bounds).all()


def test_bounds_are_the_scores_at_the_reference_image_and_with_all_words(build_model: Build) -> None:
    """Where the tangent touches, and where nothing is left for it to stand for."""
    sentences = [[a, b] for a in range(1, 8) for b in range(1, 30, 3)]
    features = torch.from_numpy(np.random.default_rng(0).standard_normal((6, 12)).astype(np.float32))
    for some, words in ((features[:1], 3), (features, 40)):
        scores, bounds = scores_and_bounds(build_model(double=True), some, sentences, words=words)
        np.testing.assert_allclose(bounds, scores, atol=2e-4)


def test_more_words_are_closer_and_one_word_stands_for_the_rest(build_model: Build) -> None:
    """Dropping three quarters of nearly equal words would cost log 4 = 1.4 a word; what stands for them is as good."""
    sentences = [[a, b] for a in range(1, 8) for b in range(1, 30, 3)]
    features = torch.from_numpy(np.random.default_rng(0).standard_normal((6, 12)).astype(np.float32))
    gaps = []
    for words, spread in ((10, 0.4), (20, 0.4), (30, 0.4), (10, 0.1)):
        scores, bounds = scores_and_bounds(build_model(spread=spread), features, sentences, words=words)
        gaps.append((bounds - scores).mean() / 3)
    assert gaps[0] > gaps[1] > gaps[2]
    assert gaps[3] < 0.05


def test_blocks_hold_all_sentences_once_and_a_bounded_number_of_pairs() -> None:
    parts = blocks(1000, 1200)
    assert np.concatenate(parts).tolist() == list(range(1000))
    assert max(map(len, parts)) * 1200 <= 200_000
    assert [len(part) for part in blocks(3, 10**9)] == [1, 1, 1]


def test_a_check_ends_the_work(build_model: Build) -> None:
    class Enough(Exception):
        pass

    calls = []

    def check() -> None:
        calls.append(1)
        if len(calls) > 3:
            raise Enough

    scorer = LateFusionScorer(build_model(), build_prefix_tree([[a, b] for a in (1, 2, 3) for b in (4, 5)]))
    bounder = BoundScorer(scorer, torch.zeros(1, 24), words=5)
    with pytest.raises(Enough):
        bounder.bounds(np.arange(6), check=check)
    assert len(calls) == 4, "asked for every node"

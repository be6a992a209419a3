"""The chain against all assignments, and at its two ends."""

from itertools import pairwise, product

import numpy as np
import pytest

from mrnn.evaluate.grounding.segments import best_regions, segments


def value(scores: np.ndarray, regions: tuple[int, ...], beta: float) -> float:
    chosen = float(sum(scores[word, region] for word, region in enumerate(regions)))
    return chosen + beta * sum(a == b for a, b in pairwise(regions))


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("beta", [0.0, 0.3, 1.0, 4.0])
def test_against_all_assignments(seed: int, beta: float) -> None:
    draw = np.random.default_rng(seed)
    scores = draw.normal(size=(draw.integers(1, 7), draw.integers(1, 5)))
    best = max(product(range(scores.shape[1]), repeat=len(scores)), key=lambda each: value(scores, each, beta))
    assert best_regions(scores, beta=beta).tolist() == list(best)


def test_beta_0_is_the_best_region_of_each_word_and_a_large_one_gives_one_region() -> None:
    scores = np.random.default_rng(0).normal(size=(30, 20))
    assert best_regions(scores, beta=0).tolist() == scores.argmax(1).tolist()
    assert best_regions(scores, beta=1000).tolist() == [int(scores.sum(0).argmax())] * 30
    counts = [len(segments(scores, beta=beta)) for beta in (0, 0.5, 1, 2, 4, 1000)]
    assert counts == sorted(counts, reverse=True)
    assert counts[-1] == 1


def test_segments_tile_the_sentence_and_carry_their_scores() -> None:
    scores = np.random.default_rng(1).normal(size=(12, 4))
    found = segments(scores, beta=0.5)
    assert [segment.first for segment in found] == [0, *(segment.end for segment in found[:-1])]
    assert found[-1].end == 12
    assert all(a.region != b.region for a, b in pairwise(found))
    for segment in found:
        assert segment.score == pytest.approx(scores[segment.first : segment.end, segment.region].sum())


def test_a_region_that_does_not_exist_is_never_chosen() -> None:
    scores = np.random.default_rng(2).normal(size=(9, 5))
    scores[:, 3:] = -np.inf
    for beta in (0, 0.5, 100):
        assert best_regions(scores, beta=beta).max() < 3


@pytest.mark.parametrize(("shape", "beta"), [((0, 3), 0.0), ((3, 0), 0.0), ((2, 2), -1.0)])
def test_nothing_to_align_is_an_error(shape: tuple[int, int], beta: float) -> None:
    with pytest.raises(ValueError, match="segments need words"):
        best_regions(np.zeros(shape), beta=beta)

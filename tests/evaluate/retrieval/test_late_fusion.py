"""The fast scores equal brute force with the whole model, whatever the tiles, the threads and the sizes of logits."""

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import numpy as np
import pytest
import torch

from mrnn.evaluate.retrieval.late_fusion import LateFusionScorer, Tiles
from mrnn.evaluate.retrieval.pair_scorer import in_order, log_normaliser
from mrnn.evaluate.retrieval.prefix_tree import build_prefix_tree
from mrnn.train.models.mrnn import MRNN, RNNBase
from tests.variants import LATE_FUSION

Build = Callable[..., MRNN]


def invented_sentences(count: int, vocabulary: int, *, longest: int = 14) -> list[list[int]]:
    """Sentences that share beginnings, with an empty one and a repeated one among them."""
    generator = np.random.default_rng(1)
    sentences: list[list[int]] = [[], [2, 3], [2, 3]]
    while len(sentences) < count:
        begin = sentences[generator.integers(len(sentences))][: generator.integers(4)]
        sentences.append([*begin, *generator.integers(1, vocabulary, generator.integers(1, longest)).tolist()])
    return sentences


def brute_force(model: MRNN, features: np.ndarray, sentences: list[list[int]]) -> np.ndarray:
    """One sentence under one image at a time through the whole model, in float64: (N, S)."""
    model = deepcopy(model).double()
    return np.array([[one_score(model, feature, sentence) for sentence in sentences] for feature in features])


def one_score(model: MRNN, feature: np.ndarray, sentence: list[int]) -> float:
    image = model.image(torch.from_numpy(feature).double()).double()
    state = torch.zeros(1, model.memory_size, dtype=torch.double)
    total = 0.0
    for word, target in zip([0, *sentence], [*sentence, 0], strict=True):
        words = model.words(torch.tensor([word]))
        state = model.recur(words, state)
        logits = model.output(model.fuse(model.combine(words, state), image))
        total += logits.log_softmax(-1)[0, target].item()
    return total


def fast(model: MRNN, features: np.ndarray, sentences: list[list[int]], **options: object) -> np.ndarray:
    scorer = LateFusionScorer(model, build_prefix_tree(sentences), tiles=options.pop("tiles", None))
    return np.array(list(in_order(scorer.score, map(torch.from_numpy, features), device=scorer.device, **options)))


@pytest.fixture
def features() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((4, 12)).astype(np.float32)


def test_equals_brute_force(build_model: Build, features: np.ndarray) -> None:
    model, sentences = build_model(), invented_sentences(60, 40)
    expected = brute_force(model, features, sentences)
    assert expected.min() < -60, "scores of the size the tolerance is stated for"
    np.testing.assert_allclose(fast(model, features, sentences), expected, atol=1e-3, rtol=0)


@pytest.mark.parametrize("variant", [{}, *LATE_FUSION.values()], ids=["2014", *LATE_FUSION])
def test_equals_brute_force_closely_in_float64(
    variant: dict[str, Any], build_model: Build, features: np.ndarray
) -> None:
    model, sentences = build_model(double=True, **variant), invented_sentences(30, 40)
    np.testing.assert_allclose(
        fast(model, features, sentences), brute_force(model, features, sentences), atol=1e-9, rtol=0
    )


@pytest.mark.parametrize("tiles", [(2, 5), (7, 13), (64, 40), (1000, 39), (3, 1000)])
def test_does_not_depend_on_tiles(build_model: Build, features: np.ndarray, tiles: tuple[int, int]) -> None:
    model, sentences = build_model(), invented_sentences(60, 40)
    np.testing.assert_allclose(
        fast(model, features, sentences, tiles=Tiles(*tiles)), fast(model, features, sentences), atol=1e-4, rtol=0
    )


def test_does_not_depend_on_threads_at_all(build_model: Build, features: np.ndarray) -> None:
    model, sentences = build_model(), invented_sentences(60, 40)
    threads = torch.get_num_threads()
    one, three = (fast(model, features, sentences, threads=n) for n in (1, 3))
    assert one.tobytes() == three.tobytes()
    assert torch.get_num_threads() == threads, "torch's own setting is put back"


@pytest.mark.parametrize("kind", ["mrnn", "transformer"])
@pytest.mark.parametrize("size", [1.0, 30.0])
def test_some_sentences_get_the_bits_that_they_get_among_all(build_model: Build, kind: str, size: float) -> None:
    """What makes pruned and full ranks the same; at 30 times the weights also by the safe way of summing."""
    model, sentences = build_model(kind=kind, vocabulary=100), sorted(map(tuple, invented_sentences(300, 100)))
    model.output.weight.mul_(size)
    feature = torch.ones(12)
    generator = np.random.default_rng(0)
    for tiles in (Tiles(64, 48), Tiles(8, 13), Tiles()):
        scorer = LateFusionScorer(model, build_prefix_tree(sentences), tiles=tiles)
        assert scorer.is_stable()
        every = scorer.score(feature)
        for count in (1, 2, 17, 150):
            some = generator.permutation(len(sentences))[:count]
            scores = scorer.score(feature, some)
            assert scores[some].tobytes() == every[some].tobytes()
            assert np.isnan(np.delete(scores, some)).sum() >= 300 - count - 5, "others are not worked on"


@pytest.mark.parametrize("size", [60.0, -60.0])
def test_logits_beyond_the_range_of_exp(build_model: Build, features: np.ndarray, size: float) -> None:
    """Large weights send some sums to infinity, very negative biases send others to zero."""
    model, sentences = build_model(), invented_sentences(30, 40)
    model.output.weight.mul_(20)
    model.output.bias.fill_(size * 3)
    scores = fast(model, features, sentences)
    expected = brute_force(model, features, sentences)
    assert np.isfinite(scores).all()
    np.testing.assert_allclose(scores, expected, rtol=2e-5, atol=2e-2)


def test_a_constant_added_to_all_logits_changes_nothing(build_model: Build, features: np.ndarray) -> None:
    model, sentences = build_model(), invented_sentences(30, 40)
    before = fast(model, features, sentences)
    for shift in (-100.0, 100.0):  # exp of these is out of range, so the safe path does all the work
        shifted = deepcopy(model)
        shifted.output.bias.add_(shift)
        np.testing.assert_allclose(fast(shifted, features, sentences), before, atol=1e-3, rtol=0)


def test_probabilities_of_all_short_sentences_stay_below_one(build_model: Build) -> None:
    """And reach it nearly where END is likely: the scores are those of a distribution over sentences."""
    model = build_model(vocabulary=6, double=True)
    model.output.bias[0] = 6.0
    words = range(1, 6)
    sentences = [[], *([a] for a in words), *([a, b] for a in words for b in words)]
    scores = LateFusionScorer(model, build_prefix_tree(sentences)).score(torch.ones(12))
    assert 0.95 < np.exp(scores).sum() < 1


def test_rnn_base_gives_every_image_the_same(build_model: Build, features: np.ndarray) -> None:
    torch.manual_seed(0)
    model = RNNBase(build_model().config).eval().requires_grad_(False)
    scores = fast(model, features, invented_sentences(20, 40))
    assert (scores == scores[0]).all()
    np.testing.assert_allclose(scores, brute_force(model, features, invented_sentences(20, 40)), atol=1e-3)


def test_dropping_training_mode_is_not_forgotten(build_model: Build) -> None:
    with pytest.raises(ValueError, match="eval mode"):
        LateFusionScorer(build_model().train(), build_prefix_tree([[2]]))


def test_normaliser_is_the_mean_probability() -> None:
    probabilities = np.array([[0.1, 0.5, 1e-30], [0.3, 0.1, 3e-30]])
    np.testing.assert_allclose(np.exp(log_normaliser(np.log(probabilities))), [0.2, 0.3, 2e-30], rtol=1e-12)
    far_down = np.log(probabilities) - 5000  # exp of which is 0
    np.testing.assert_allclose(log_normaliser(far_down) + 5000, np.log([0.2, 0.3, 2e-30]), rtol=1e-9)


def test_normaliser_takes_generic_sentences_down(build_model: Build, features: np.ndarray) -> None:
    """With the images themselves as the prior, the corrected scores of a sentence average to 1 as ratios."""
    scores = fast(build_model(), features, invented_sentences(30, 40))
    ratios = np.exp(scores - log_normaliser(scores))
    np.testing.assert_allclose(ratios.mean(axis=0), 1.0, rtol=1e-9)

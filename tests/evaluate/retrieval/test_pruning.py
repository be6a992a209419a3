"""Pruned ranks and lists are those of all scores, and little more is scored than what they need."""

from functools import partial

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from mrnn.evaluate.retrieval.joint import joint_criteria
from mrnn.evaluate.retrieval.pair_scorer import log_normaliser
from mrnn.evaluate.retrieval.pruning import wanted
from mrnn.evaluate.retrieval.ranking import image_ranks, largest, sentence_ranks
from mrnn.evaluate.retrieval.scores import Criterion, Ranking, Scores, bracket, probability_values
from tests.evaluate.retrieval.plain_ranks import image_to_sentence_ranks, sentence_to_image_ranks


def invented_pool(seed: int, *, tied: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, int]:
    """True scores (N + J, C), sentences and owners (S,), lengths (C,), N. Some sentences occur several times."""
    generator = np.random.default_rng(seed)
    images, prior, different = generator.integers(1, 12), generator.integers(0, 9), generator.integers(1, 14)
    more = generator.integers(0, images, generator.integers(0, 20))
    owners = np.sort(np.concatenate([np.arange(images), more]))
    used, sentences = np.unique(generator.integers(0, different, len(owners)), return_inverse=True)
    shape = (images + prior, len(used))
    scores = -3 - 1.5 * generator.integers(0, 5, shape) if tied else -20 + 6 * generator.standard_normal(shape)
    return scores.astype(np.float32), sentences, owners, generator.integers(1, 9, len(used)), int(images)


def prune(scores: Scores, truth: np.ndarray) -> int:
    """Score what is wanted until nothing is; returns the number of rounds."""
    rounds = 0
    while (pairs := wanted(scores)).any():
        assert not (pairs & scores.known).any(), "nothing is scored twice"
        scores.upper[pairs], scores.known[pairs] = truth[pairs], True
        rounds += 1
    return rounds


@settings(max_examples=300, deadline=None)
@given(
    seed=st.integers(0, 10**9),
    tied=st.booleans(),
    looseness=st.sampled_from([0.0, 0.01, 1.0, 5.0, 50.0]),
    top=st.integers(1, 6),
    per_word=st.booleans(),
)
def test_ranks_and_lists_equal_those_of_all_scores(
    seed: int, tied: bool, looseness: float, top: int, per_word: bool
) -> None:
    truth, sentences, owners, lengths, images = invented_pool(seed, tied=tied)
    bounds = truth + np.float32(looseness) * np.random.default_rng(seed).random(truth.shape, dtype=np.float32)
    scores = Scores(
        bounds, np.zeros(truth.shape, dtype=bool), sentences, owners, lengths, images, top=top, per_word=per_word
    )
    prune(scores, truth)

    matrices = {"image_to_sentence": truth[:images], "image_to_sentence_raw": truth[:images]}
    if len(truth) > images:
        normaliser = log_normaliser(truth[images:])
        matrices["image_to_sentence"] = (truth[:images] - normaliser).astype(np.float32)
    if per_word:
        matrices["image_to_sentence_per_word"] = (truth[:images] / lengths).astype(np.float32)
    found = scores.criteria()
    assert found.keys() == matrices.keys()
    for name, matrix in matrices.items():
        expected = [image_to_sentence_ranks(matrix[:, sentences], owners, ties=ties) for ties in ("worst", "best")]
        np.testing.assert_array_equal(image_ranks(scores, found[name]), expected, err_msg=name)
    expected = [sentence_to_image_ranks(truth[:images, sentences], owners, ties=ties) for ties in ("worst", "best")]
    np.testing.assert_array_equal(sentence_ranks(scores)["sentence_to_image"], expected)

    upper = found["image_to_sentence"].brackets(scores.upper[:images], scores.known[:images])[1]
    for row, matrix in zip(upper, matrices["image_to_sentence"], strict=True):
        in_order = np.argsort(-matrix[sentences], kind="stable")[:top]
        assert largest(row[sentences], top).tolist() == in_order.tolist()
    for sentence in sentences:
        in_order = np.argsort(-truth[:images, sentence], kind="stable")[:top]
        assert largest(scores.upper[:images, sentence], top).tolist() == in_order.tolist()


def test_captioners_each_have_a_p_of_w() -> None:
    """Two captioners, T = T' + 0.5 log P_1 + 2 log P_2: each sentence takes away a mean of either."""
    generator = np.random.default_rng(0)
    owners = np.repeat(np.arange(20), 2)
    truth = (-40 + 6 * generator.standard_normal((20 + 2 * 15, 40))).astype(np.float32)
    ranking = Ranking(partial(joint_criteria, factors=[0.5, 2]), probability_values)
    known = np.zeros(truth.shape, dtype=bool)
    scores = Scores(truth + 1, known, np.arange(40), owners, np.ones(40), 20, top=3, ranking=ranking, captioners=2)
    assert scores.priors == [slice(20, 35), slice(35, 50)]
    prune(scores, truth)
    assert known[:20].mean() < 0.9
    values = truth[:20] - 0.5 * log_normaliser(truth[20:35]) - 2 * log_normaliser(truth[35:])
    found = image_ranks(scores, scores.criteria()["image_to_sentence"])[0]
    assert found.tolist() == image_to_sentence_ranks(values.astype(np.float32), owners).tolist()
    alone = Scores(truth[:20], known[:20], np.arange(40), owners, np.ones(40), 20, top=3, ranking=ranking, captioners=2)
    assert alone.priors == []
    assert not alone.criteria()["image_to_sentence"].high.any()


def test_with_close_bounds_only_what_matters_is_scored() -> None:
    """300 images x 600 sentences; right pairs stand out by about as much as in a trained model."""
    generator = np.random.default_rng(0)
    owners = np.repeat(np.arange(300), 2)
    truth = (-40 + 6 * generator.standard_normal((400, 600))).astype(np.float32)
    truth[owners, np.arange(600)] += 12
    scores = Scores(truth + 0.5, np.zeros(truth.shape, dtype=bool), np.arange(600), owners, np.ones(600), 300, top=5)
    rounds = prune(scores, truth)
    assert scores.known[:300].mean() < 0.12
    assert scores.known[300:].mean() < 0.6
    assert rounds < 12


def test_the_bracket_of_the_normaliser_by_hand() -> None:
    """Of three images one is known: P(w) lies between its share and the sum of the bounds."""
    bounds = np.log(np.array([[0.3, 0.2], [0.06, 0.2], [0.03, 0.2]], dtype=np.float32))
    known = np.array([[True, True], [False, True], [False, True]])
    low, high = bracket(bounds, known)
    np.testing.assert_allclose(np.exp(low), [0.3 / 3, 0.2], rtol=1e-6)
    np.testing.assert_allclose(np.exp(high), [0.39 / 3, 0.2], rtol=1e-6)
    assert low[1] == high[1] == log_normaliser(bounds)[1]
    assert [values.tolist() for values in bracket(bounds[:0], known[:0])] == [[0, 0], [0, 0]]


def test_images_of_the_prior_are_scored_largest_first_and_no_further_than_needed() -> None:
    """One image, two sentences far apart: a rough P(w) settles it."""
    truth = np.full((101, 2), -30, dtype=np.float32)
    truth[0] = [-10, -25]
    truth[1:4] = -12
    known = np.zeros(truth.shape, dtype=bool)
    scores = Scores(truth + 0.1, known, np.array([0, 1]), np.array([0, 0]), np.ones(2), 1, top=1)
    prune(scores, truth)
    assert known[1:].sum() == 6
    assert known[1:4].all()


def test_another_kind_of_model_brings_its_criteria() -> None:
    """Scores standardised per sentence, as an alignment model has them: (score - mean) / deviation."""
    truth = np.random.default_rng(0).standard_normal((6, 9)).astype(np.float32)
    mean, deviation = truth.mean(axis=0), truth.std(axis=0)

    def criteria(scores: Scores) -> dict[str, Criterion]:
        zero, one = np.zeros(9), np.ones(9)
        return {"standardised": Criterion(mean, mean, deviation), "raw": Criterion(zero, zero, one)}

    owners = np.repeat(np.arange(6), 2)[:9]
    scores = Scores(
        truth[:5] + 1,
        np.zeros((5, 9), dtype=bool),
        np.arange(9),
        owners,
        np.ones(9),
        5,
        top=3,
        ranking=Ranking(criteria, probability_values),
    )
    prune(scores, truth[:5])
    assert list(scores.unsettled) == ["standardised", "raw", "sentence_to_image"]
    for name, matrix in (("standardised", (truth[:5] - mean) / deviation), ("raw", truth[:5])):
        expected = image_to_sentence_ranks(matrix.astype(np.float32), owners)
        assert image_ranks(scores, scores.criteria()[name])[0].tolist() == expected.tolist()

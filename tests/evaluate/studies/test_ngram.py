"""The n-gram model against its definition: a hand-worked corpus, sums to one, brute force."""

import math
from collections import Counter
from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mrnn.evaluate.studies.ngram import (
    FALLBACK_DISCOUNTS,
    NGramModel,
    discounts_of,
    likeliest_sentence,
    ngram_perplexity,
)

SIZE = 7
SENTENCES = st.lists(st.lists(st.integers(1, SIZE - 1), min_size=1, max_size=6), min_size=1, max_size=30)


@settings(deadline=None, max_examples=60)
@given(SENTENCES, st.integers(1, 4), st.lists(st.integers(1, SIZE - 1), max_size=5))
def test_probabilities_sum_to_one_after_any_words(sentences: list[list[int]], order: int, history: list[int]) -> None:
    """Histories that were seen, that were not, shorter and longer than the order."""
    model = NGramModel(sentences, vocabulary=SIZE, order=order)
    after = model.distribution([0, *history])
    assert after.sum() == pytest.approx(1, abs=1e-12)
    assert after.min() > 0
    np.testing.assert_allclose(after, [model.probability(word, [0, *history]) for word in range(SIZE)], rtol=1e-12)


def test_sums_to_one_with_estimated_discounts() -> None:
    """A corpus large enough that the discounts come from it."""
    generator = np.random.default_rng(0)
    sentences = [(generator.geometric(0.15, size=8).clip(max=58) + 1).tolist() for _ in range(400)]
    pairs = Counter(pair for sentence in sentences for pair in pairwise((0, *sentence, 0)))
    assert discounts_of(pairs.values()) != FALLBACK_DISCOUNTS
    model = NGramModel(sentences, vocabulary=60, order=2)
    for history in (*sentences[:20], [59, 59], []):
        assert model.distribution([0, *history]).sum() == pytest.approx(1, abs=1e-12)


def test_hand_worked_bigrams() -> None:
    """Sentences 2 3, 2 4, 2 3 of a vocabulary of 5; too few counts, so the discounts are 1/2, 1 and 3/2.

    Different words before: one before 2, 3 and 4, two before END. So the unigrams are (1 - 1/2) / 5 + 1/2 / 5 = 0.2
    each, END (2 - 1) / 5 + 0.1 = 0.3, and <unk> 0.1.
    """
    model = NGramModel([[2, 3], [2, 4], [2, 3]], vocabulary=5, order=2)
    np.testing.assert_allclose(model.distribution([0]), [0.15, 0.05, 0.6, 0.1, 0.1])  # 2 three times: (3 - 3/2) / 3
    np.testing.assert_allclose(model.distribution([0, 2]), [0.15, 0.05, 0.1, 1 / 3 + 0.1, 1 / 6 + 0.1])
    np.testing.assert_allclose(model.distribution([0, 1]), [0.3, 0.1, 0.2, 0.2, 0.2])  # never seen: the unigrams
    found = ngram_perplexity(model, [[2, 3], [1]])
    known = [0.6, 1 / 3 + 0.1, 0.5 + 0.5 * 0.3, 0.3]
    assert found.tokens == 5
    assert found.unknown == 1
    assert found.bits == pytest.approx(-sum(map(math.log2, [*known, 0.05])) / 5)
    assert found.perplexity == pytest.approx(2**found.bits)
    assert found.perplexity_known == pytest.approx(math.prod(known) ** (-1 / 4))


def test_first_words_are_counted_by_sentences() -> None:
    """Every first word has the same one thing before it, START; counting that would make them all alike."""
    model = NGramModel([[2, n] for n in (3, 4, 5, 6)] * 3 + [[3, 2]], vocabulary=SIZE, order=3)
    assert model.probability(2, [0]) > 5 * model.probability(3, [0])


def test_discounts() -> None:
    counts = [1] * 4 + [2] * 2 + [3] + [4]  # Y = 4 / (4 + 4)
    assert discounts_of(counts) == pytest.approx((1 - 2 * 0.5 * 2 / 4, 2 - 3 * 0.5 * 1 / 2, 3 - 4 * 0.5 * 1 / 1))
    for few in ([5, 5], [1, 2, 3], [1] * 10 + [2] + [3] * 5 + [4]):
        assert discounts_of(few) == FALLBACK_DISCOUNTS


def test_likeliest_sentence_equals_brute_force() -> None:
    """With a beam that keeps everything, over all sentences of up to three words but <unk>."""
    model = NGramModel([[2, 3, 2], [2, 3, 4], [3, 2], [2, 1, 4], [2, 3, 2], [2, 3, 2]], vocabulary=5)

    def probability(words: tuple[int, ...]) -> float:
        whole = (0, *words, 0)
        return math.prod(model.probability(whole[i], whole[:i]) for i in range(1, len(whole)))

    every = [words for length in range(4) for words in product((2, 3, 4), repeat=length)]
    assert likeliest_sentence(model, beam=200, max_steps=4) == list(max(every, key=probability))
    assert likeliest_sentence(model, beam=2) == [2, 3, 2]
    assert likeliest_sentence(model, beam=3, max_steps=2) != [1]
    assert len(likeliest_sentence(NGramModel([[2] * 50], vocabulary=3), beam=1, max_steps=9)) == 9


def test_refusals() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        NGramModel([[2]], vocabulary=3, order=0)
    with pytest.raises(ValueError, match="at least one sentence"):
        NGramModel([], vocabulary=3)
    with pytest.raises(ValueError, match="no sentences"):
        ngram_perplexity(NGramModel([[2]], vocabulary=3), [])

"""CIDEr-D of sentence pairs and of captions, by hand; test_parity.py holds it against pycocoevalcap."""

from math import exp, log, sqrt

import numpy as np
import pytest

from mrnn.data.cider import DocumentFrequencies, SentenceVectors, cider_d


def test_by_hand() -> None:
    """Every n-gram below is in two of four images, so all weigh log 2 and cancel."""
    sentences = [["dog"], ["dog", "runs"], ["dog", "runs"], ["cat"], ["cat"]]
    vectors = SentenceVectors.of_images(sentences, np.array([0, 0, 1, 2, 3]))
    found = vectors.similarities([["dog"], ["dog", "runs"], ["cat"], ["dog", "bird"]], np.array([0, 1, 3]))
    shorter = 2.5 / sqrt(2) * exp(-1 / 72)  # one of two unigrams, no bigram, one bigram of difference
    # "bird" is in no image and weighs log 4, twice as much as "dog"
    bird = 2.5 * log(2) / sqrt(log(2) ** 2 + log(4) ** 2)
    expected = [[2.5, shorter, 0], [shorter, 5, 0], [0, 0, 2.5], [bird * exp(-1 / 72), bird / sqrt(2), 0]]
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_a_single_image_says_nothing() -> None:
    vectors = SentenceVectors.of_images([["dog"], ["a", "dog"]], np.zeros(2, dtype=np.int64))
    assert not vectors.similarities([["dog"], []], np.arange(2)).any()


def test_a_caption_gets_the_mean_over_its_references() -> None:
    """Both n-grams of each image are in one of two images, so all weigh log 2 and cancel."""
    found = cider_d([["dog", "runs"], ["cat"]], [[["dog", "runs"], ["dog"]], [["cat"]]])
    assert found == pytest.approx([(5 + 2.5 / sqrt(2) * exp(-1 / 72)) / 2, 2.5])


def test_document_frequencies_of_other_sentences() -> None:
    """One image can be scored, and the words of few images count for more."""
    known = DocumentFrequencies.count([[["dog"], ["dog", "runs"]], [["dog"]], [["cat"]], [["cat"]]])
    assert known.images == 4
    said, references = [["dog", "runs"]], [[["runs"]]]
    assert not cider_d(said, references).any()
    dog, runs = log(4 / 2), log(4 / 1)
    alone = 2.5 * runs / sqrt(dog**2 + runs**2) * exp(-1 / 72)
    assert cider_d(said, references, known) == pytest.approx([alone])
    # words that neither the frequencies nor each other's images have weigh log 4, and are told apart
    assert cider_d([["bird"]], [[["bird"], ["fish"]]], known) == pytest.approx([2.5 / 2])
    assert cider_d([["bird", "fish"]], [[["fish", "bird"]]], known) == pytest.approx([2.5])

"""Similarities of sentence pairs: pycocoevalcap's scorer with one reference, and an example by hand."""

from collections.abc import Sequence
from math import exp, log, sqrt

import numpy as np
from pycocoevalcap.cider.cider_scorer import CiderScorer

from mrnn.data.pair_cider import SentenceVectors


class OnePair(CiderScorer):
    """CIDEr-D of one sentence with one reference, its document frequencies those of some images' sentences."""

    def __init__(self, images: Sequence[Sequence[str]]) -> None:
        super().__init__()
        for sentences in images:
            self += ("", list(sentences))
        self.compute_doc_freq()
        self.images = len(images)

    def similarity(self, one: str, other: str) -> float:
        self.ctest: list[object] = []
        self.crefs: list[object] = []
        self += (one, [other])
        self.crefs = Padded(self.crefs, self.images)
        return float(self.compute_cider()[0])


class Padded(list[object]):
    """A list that claims another length: the scorer takes the number of images from it."""

    def __init__(self, content: Sequence[object], length: int) -> None:
        super().__init__(content)
        self.length = length

    def __len__(self) -> int:
        return self.length


def test_equals_the_scorer_of_coco_caption_with_one_reference() -> None:
    draw = np.random.default_rng(4)
    words = [f"w{n}" for n in range(12)]
    images = [
        [" ".join(draw.choice(words, draw.integers(1, 14))) for _ in range(draw.integers(1, 4))] for _ in range(15)
    ]
    owners = np.repeat(np.arange(15) * 3, [len(sentences) for sentences in images])
    sentences = [sentence for each in images for sentence in each]
    vectors = SentenceVectors([sentence.split() for sentence in sentences], owners)
    candidates = [*sentences[:5], "w1 new w2 w3 new w1 new", "", "new", "w1", "w3 w3 w3 w3 w3 w3"]
    chosen = draw.permutation(len(sentences))[:20]
    found = vectors.similarities([candidate.split() for candidate in candidates], chosen)
    scorer = OnePair(images)
    expected = [[scorer.similarity(candidate, sentences[n]) for n in chosen] for candidate in candidates]
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)
    assert found.max() > 9
    assert 0 < np.median(found) < 1
    for row, candidate in enumerate(candidates):  # whatever is asked with it
        alone = vectors.similarities([candidate.split()], chosen[3:4])
        assert alone[0, 0] == found[row, 3]


def test_by_hand() -> None:
    """Every n-gram below is in two of four images, so all weigh log 2 and cancel."""
    sentences = [["dog"], ["dog", "runs"], ["dog", "runs"], ["cat"], ["cat"]]
    vectors = SentenceVectors(sentences, np.array([0, 0, 1, 2, 3]))
    found = vectors.similarities([["dog"], ["dog", "runs"], ["cat"], ["dog", "bird"]], np.array([0, 1, 3]))
    shorter = 2.5 / sqrt(2) * exp(-1 / 72)  # one of two unigrams, no bigram, one bigram of difference
    # "bird" is in no image and weighs log 4, twice as much as "dog"
    bird = 2.5 * log(2) / sqrt(log(2) ** 2 + log(4) ** 2)
    expected = [[2.5, shorter, 0], [shorter, 5, 0], [0, 0, 2.5], [bird * exp(-1 / 72), bird / sqrt(2), 0]]
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_a_single_image_says_nothing() -> None:
    vectors = SentenceVectors([["dog"], ["a", "dog"]], np.zeros(2, dtype=np.int64))
    assert not vectors.similarities([["dog"], []], np.arange(2)).any()

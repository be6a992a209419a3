"""The phrases of sentences whose true box is known, and what an alignment model says of them and each region.

A phrase is a stretch of words of a sentence (mrnn.data.captions.Box.words); several boxes of one phrase are joined into
their hull. Its score with a region is the part of Eq. 8 of DVSA (arXiv 1412.2306) that its words contribute: the sum of
v_i . s_t over them, where s_t was computed from the whole sentence.
"""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from mrnn.data.cache import FeatureCache
from mrnn.data.captions import Box, Image
from mrnn.data.regions import Regions, rows_of
from mrnn.data.tokenize import tokenize
from mrnn.data.vocabulary import Vocabulary
from mrnn.evaluate.grounding.boxes import RIGHT, WORTH, hull
from mrnn.train.features import Features
from mrnn.train.models.alignment import Alignment
from mrnn.train.pair_scores import region_vectors, word_vectors
from mrnn.train.sentences import encode_sentences, tokenized_sentences

IMAGES = 256  # whose words and regions are compared at a time
LEAST_SCORE = 1e-3  # lower scores of a detector count as this one, so that their logarithm stays finite


@dataclass(frozen=True)
class Phrase:
    """A phrase with its true box.

    sentence : which of the image's sentences it is in
    first, end : its first token there and the one past its last, tokens as the models see them
    kind : what the annotators call it, '' where they do not; several kinds are separated by '/'
    truth : left, top, width, height in pixels
    """

    sentence: int
    first: int
    end: int
    kind: str
    truth: tuple[float, float, float, float]


def phrases_of(image: Image) -> list[Phrase]:
    """The phrases of an image whose place in a sentence is known, in the order of their boxes; none without a token."""
    boxes: dict[tuple[int, tuple[int, int]], list[Box]] = defaultdict(list)
    for box in image.boxes:
        if box.sentence >= 0 and box.words[0] >= 0:
            boxes[box.sentence, box.words].append(box)
    found = []
    for (sentence, (first, end)), group in boxes.items():
        # A word between blanks becomes one token, or none if it consists of signs.
        before = np.cumsum([0, *(len(tokenize(word)) for word in image.sentences[sentence].split())])
        if end < len(before) and before[first] < before[end]:
            found.append(Phrase(sentence, int(before[first]), int(before[end]), group[0].kind, hull(group)))
    return found


@dataclass(frozen=True)
class Candidates:
    """The R regions of each of N images, among which a phrase chooses.

    rectangles : (N, R, 4) float64, left, top, width, height in pixels
    valid : (N, R) bool, which exist; row 0, the whole picture, always does
    detected : (N, R) bool, which have a score of a detector
    scores : (N, R), what the detector said of those, in (0, 1)
    """

    rectangles: np.ndarray
    valid: np.ndarray
    detected: np.ndarray
    scores: np.ndarray

    def log_areas(self) -> np.ndarray:
        """Natural log of the share of its picture that a region covers: (N, R)."""
        areas = self.rectangles[..., 2] * self.rectangles[..., 3]
        return np.log(np.divide(areas, areas[:, :1], where=areas > 0, out=np.ones(areas.shape)))

    def log_scores(self) -> np.ndarray:
        """Natural log of the detector's scores: (N, R); regions without one have the mean of their picture's others."""
        logs = np.log(self.scores.clip(LEAST_SCORE), where=self.detected, out=np.zeros(self.scores.shape))
        means = logs.sum(axis=1) / self.detected.sum(axis=1).clip(1)
        return np.where(self.detected, logs, means[:, None])


def candidates(cache: FeatureCache, images: np.ndarray, rows: int) -> Candidates:
    """The first `rows` regions of some images of a cache."""
    chosen = rows_of(images, cache.rows_per_image).reshape(len(images), -1)[:, :rows]
    return candidates_of(cache.regions[chosen.ravel()], len(images))


def candidates_of(regions: Regions, images: int) -> Candidates:
    """The regions of so many images. A score of 0 or 1 is none: no detector found that region."""
    scores = regions.scores.reshape(images, -1).astype(np.float64)
    valid = regions.valid.reshape(images, -1) > 0
    return Candidates(
        regions.rectangles.reshape(images, -1, 4).astype(np.float64),
        valid,
        valid & (scores > 0) & (scores < 1),
        scores,
    )


@dataclass(frozen=True)
class Phrases:
    """P phrases of N images, in the order of the images.

    image : (P,) int64, row of each phrase's image
    words : (P,) int64, its number of tokens
    kinds : of each phrase
    scores : (P, R) float64, the sum of v_i . s_t over its words
    response : (N, R) float64, v_i . s of each region with the mean word s
    right : measure -> (P, R) bool, whether choosing a region is right
    candidates : the images' regions
    """

    image: np.ndarray
    words: np.ndarray
    kinds: tuple[str, ...]
    scores: np.ndarray
    response: np.ndarray
    right: dict[str, np.ndarray]
    candidates: Candidates

    def wordless(self) -> "Phrases":
        """The same phrases with scores that say nothing: what can be known from the regions alone."""
        return replace(self, scores=np.zeros_like(self.scores), response=np.zeros_like(self.response))

    @cached_property
    def worth(self) -> dict[str, np.ndarray]:
        """Measure -> (N, R, R), what choosing region i is worth if region j is the true box."""
        rectangles = self.candidates.rectangles
        return {name: worth(rectangles[:, :, None], rectangles[:, None]) for name, worth in WORTH.items()}

    @cached_property
    def starts(self) -> np.ndarray:
        """(N + 1,) int64, where the phrases of each image begin."""
        return np.searchsorted(self.image, np.arange(len(self.response) + 1))


def mean_word(model: Alignment, cache: FeatureCache, images: np.ndarray, vocabulary: Vocabulary) -> Tensor:
    """The mean of s_t over all words of the sentences of some images: (h,)."""
    sentences = encode_sentences(*tokenized_sentences(cache, images), vocabulary)
    return word_vectors(model, sentences).vectors.mean(dim=0)


def score_phrases(
    model: Alignment,
    cache: FeatureCache,
    features: Features,
    images: np.ndarray,
    vocabulary: Vocabulary,
    *,
    mean: Tensor,
    after_batch: Callable[[int], None] = lambda images: None,
) -> Phrases:
    """What a model says of all phrases of some images that have features, at least one with a phrase.

    features : with the regions that the model looks at
    mean : the mean word, (h,)
    after_batch : called with the number of images done since the last call
    """
    regions = candidates(cache, images, features.rows)
    found = [phrases_of(cache.images[image]) for image in images]
    scores, response = [], []
    for start in range(0, len(images), IMAGES):
        chosen = images[start : start + IMAGES]
        vectors = region_vectors(model, features, chosen).transpose(0, 1)  # (n, R, h)
        response.append((vectors @ mean).cpu().numpy())
        for of_image, said in zip(
            vectors, phrase_vectors(model, cache, chosen, found[start : start + IMAGES], vocabulary), strict=True
        ):
            scores.append((said @ of_image.T).cpu().numpy())
        after_batch(len(chosen))
    image = np.repeat(np.arange(len(images)), [len(each) for each in found])
    phrases = [phrase for each in found for phrase in each]
    truth = np.array([phrase.truth for phrase in phrases])[:, None]
    return Phrases(
        image=image,
        words=np.array([phrase.end - phrase.first for phrase in phrases]),
        kinds=tuple(phrase.kind for phrase in phrases),
        scores=np.concatenate(scores).astype(np.float64),
        response=np.concatenate(response).astype(np.float64),
        right={name: right(regions.rectangles[image], truth) for name, right in RIGHT.items()},
        candidates=regions,
    )


def phrase_vectors(
    model: Alignment, cache: FeatureCache, images: np.ndarray, phrases: list[list[Phrase]], vocabulary: Vocabulary
) -> list[Tensor]:
    """The sum of s_t over the words of each phrase: for each of some images (its phrases, h)."""
    # A sentence without a word has no vector and no phrase; to `starts` its length is 0.
    words, owners = tokenized_sentences(cache, images)
    starts = np.cumsum([0, *map(len, words)])
    first = np.cumsum([0, *(len(cache.images[image].sentences) for image in images)])
    vectors = word_vectors(model, encode_sentences(words, owners, vocabulary)).vectors
    empty = vectors.new_zeros(0, vectors.shape[1])
    found = []
    for row, each in enumerate(phrases):
        begins = [starts[first[row] + phrase.sentence] for phrase in each]
        sums = [
            vectors[begin + phrase.first : begin + phrase.end].sum(dim=0)
            for begin, phrase in zip(begins, each, strict=True)
        ]
        found.append(torch.stack(sums) if sums else empty)
    return found

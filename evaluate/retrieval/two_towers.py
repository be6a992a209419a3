"""Retrieval by a model of two towers: scores of all pairs, image block after image block, and how they rank sentences.

The scores are DVSA's, Eq. 8 or 7 of arXiv 1412.2306 (mrnn.train.models.two_towers). They are not comparable between
sentences: some sentences score high with every picture. So images rank sentences by the standardised score, (S - mean)
/ deviation over training images, the counterpart of log P(w | I) - log P(w); the score alone is given, too. The order
of images for a sentence is the same by both.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from mrnn.evaluate.retrieval.late_fusion import Tiles
from mrnn.evaluate.retrieval.pair_scorer import PairScorer, captioner_pairs
from mrnn.evaluate.retrieval.scores import PROBABILITY, Criterion, Ranking, Scores
from mrnn.train.features import Features, RegionRows
from mrnn.train.models.two_towers import TwoTowers
from mrnn.train.pair_scores import pair_scores, region_vectors, word_vectors
from mrnn.train.sentences import Sentences

IMAGES = 512  # scored at a time: enough for the matrix product to dominate
DEFINITIONS = {
    "image_to_sentence": "ranked by (S - mean) / deviation of the score S over normaliser_images training images drawn "
    "with the seed (by S alone where that is 0)",
    "image_to_sentence_raw": "ranked by the score S of picture and sentence alone",
    "image_to_sentence_per_word": "ranked by S / (words + END)",
    "sentence_to_image": "ranked by the score S",
}


class TowerPairs:
    """The PairScorer of a model of two towers. Threads may share it."""

    def __init__(self, model: TwoTowers, sentences: Sequence[Sequence[int] | np.ndarray], features: RegionRows) -> None:
        """
        model : the model in eval mode.
        sentences : word numbers of each sentence; each has a word.
        features : features by image number, with the rows that the model looks at.

        Raises ValueError in training mode.
        """
        if model.training:
            raise ValueError("retrieval needs the model in eval mode: dropout would change the scores")
        self.device = model.feature_mean.device
        self._words = word_vectors(model, numbered_sentences(sentences))
        self._model, self._features = model, features

    @property
    def size(self) -> int:
        """Words of all the sentences."""
        return len(self._words.vectors)

    def score(
        self, image: int, sentences: np.ndarray | None = None, *, check: Callable[[], None] | None = None
    ) -> np.ndarray:
        """See `PairScorer`."""
        if sentences is None:
            return self.score_images(np.array([image]), check=check)[0].astype(np.float64)
        found = np.full(len(self._words), np.nan)
        regions = region_vectors(self._model, self._features, np.array([image]))
        scores = pair_scores(self._words.chosen(sentences), regions, score=self._model.score)
        found[sentences] = scores[:, 0].cpu().numpy()
        return found

    def score_images(self, images: np.ndarray, *, check: Callable[[], None] | None = None) -> np.ndarray:
        """Scores of all sentences with n images given by their numbers in the cache: (n, S) float32."""
        if check is not None:
            check()
        regions = region_vectors(self._model, self._features, images)
        return pair_scores(self._words, regions, score=self._model.score).cpu().numpy().T

    def work(self, sentences: np.ndarray | None = None) -> int:
        """See `PairScorer`: words."""
        lengths = np.diff(self._words.starts)
        return int(lengths.sum() if sentences is None else lengths[sentences].sum())


def numbered_sentences(sentences: Sequence[Sequence[int] | np.ndarray]) -> Sentences:
    """Sentences of no image, given by the word numbers of each; each has a word."""
    starts = np.concatenate([np.zeros(1, np.int64), np.cumsum([len(sentence) for sentence in sentences])])
    tokens = np.concatenate([np.asarray(sentence, dtype=np.int32) for sentence in sentences])
    return Sentences(tokens, starts, np.zeros(len(sentences), np.int64))


def moments(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation of the scores of J images with C sentences: (J, C) -> two (C,) float64; 0 and 1 for J = 0.

    A sentence whose score is the same with all images has the deviation 1.
    """
    if not len(scores):
        return np.zeros(scores.shape[1]), np.ones(scores.shape[1])
    mean = scores.mean(axis=0, dtype=np.float64)
    deviation = scores.std(axis=0, dtype=np.float64)
    return mean, np.where(deviation > 0, deviation, 1)


def standardised(scores: Scores) -> dict[str, Criterion]:
    """The criteria of `STANDARDISED`; see mrnn.evaluate.retrieval.scores.Ranking."""
    zero, one = np.zeros(len(scores.counts)), np.ones(len(scores.counts))
    mean, deviation = moments(scores.upper[scores.prior])
    found = {
        "image_to_sentence": Criterion(mean, mean, deviation),
        "image_to_sentence_raw": Criterion(zero, zero, one),
    }
    if scores.per_word:
        found["image_to_sentence_per_word"] = Criterion(zero, zero, scores.lengths)
    return found


def standardised_values(scores: Scores, row: int, column: int, between: tuple[float, float]) -> dict[str, Any]:
    """The standardised score and the score alone."""
    return {"standardised": between[0], "score": float(scores.upper[row, column])}


STANDARDISED = Ranking(standardised, standardised_values)


def pairs_of(
    model: Any, sentences: Sequence[Sequence[int] | np.ndarray], features: Features, *, tiles: Tiles | None = None
) -> PairScorer:
    """The scorer of any kind of model; see `captioner_pairs` and `TowerPairs`."""
    if isinstance(model, TwoTowers):
        return TowerPairs(model, sentences, features)
    return captioner_pairs(model, sentences, features, tiles=tiles)


def ranking_definitions(model: Any) -> dict[str, str]:
    """What metrics.json says of the rankings of a kind of model, where it is not what it says of captioners."""
    return DEFINITIONS if isinstance(model, TwoTowers) else {}


def ranking_of(model: Any) -> Ranking:
    """How a kind of model ranks sentences for an image."""
    return STANDARDISED if isinstance(model, TwoTowers) else PROBABILITY

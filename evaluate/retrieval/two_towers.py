"""Retrieval by a model of two towers: scores of all pairs, image block after image block, and how they rank sentences.

The scores S are DVSA's, Eq. 8 or 7 of arXiv 1412.2306 (mrnn.train.models.two_towers). They are not comparable: some
pictures score high with every sentence, and some sentences with every picture. So they are standardised, from what J
training pictures and the sentences of those say: first each picture's, z = (S - mean) / deviation over the training
sentences; then each sentence's, (z - mean) / deviation of its z with the training pictures, the counterpart of
log P(w | I) - log P(w). The first step decides how sentences rank images, both together how images rank sentences. The
rankings by S alone, the paper's, are given, too.

With local scaling both steps subtract, in place of the mean, what lies half-way between it and the mean of the largest
scores: what a picture scores with the sentences that fit it best, and a sentence with the pictures that do. Subtracting
half of the similarity to the nearest neighbours is the idea of cross-domain similarity local scaling (CSLS; Conneau et
al. 2018, arXiv 1710.04087); neighbours among training data, in place of other queries, that of Bogolin et al. 2022
(arXiv 2112.12777).
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from math import ceil
from typing import Any

import numpy as np

from mrnn.data.errors import SettingError
from mrnn.evaluate.retrieval.late_fusion import Tiles
from mrnn.evaluate.retrieval.pair_scorer import PairScorer, captioner_pairs
from mrnn.evaluate.retrieval.scores import PROBABILITY, Criterion, Ranking, Scores
from mrnn.train.features import RegionRows
from mrnn.train.models.two_towers import TwoTowers
from mrnn.train.pair_scores import pair_scores, region_vectors, word_vectors
from mrnn.train.sentences import Sentences

NEAREST = 0.02  # share of the training sentences or images that are neighbours in local scaling
IMAGES = 512  # scored at a time: enough for the matrix product to dominate
DEFINITIONS = {
    "image_to_sentence": "ranked by (z - mean) / deviation of z over normaliser_images training images drawn with the "
    "seed, z = (S - mean) / deviation of the picture's score S over their sentences (by S alone where that is 0)",
    "image_to_sentence_raw": "ranked by the score S of picture and sentence alone",
    "image_to_sentence_per_word": "ranked by S / (words + END)",
    "sentence_to_image": "ranked by z (by S alone where normaliser_images is 0)",
    "sentence_to_image_raw": "ranked by the score S of picture and sentence alone",
}
LOCAL_DEFINITION = f"; mean is half-way between the mean and the mean of the largest {NEAREST:.0%} (local scaling)"


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

    def bounder(self, images: np.ndarray, *, words: int) -> None:
        """See `PairScorer`: a product of vectors needs no bounds."""


def numbered_sentences(sentences: Sequence[Sequence[int] | np.ndarray]) -> Sentences:
    """Sentences of no image, given by the word numbers of each; each has a word."""
    starts = np.concatenate([np.zeros(1, np.int64), np.cumsum([len(sentence) for sentence in sentences])])
    tokens = np.concatenate([np.asarray(sentence, dtype=np.int32) for sentence in sentences])
    return Sentences(tokens, starts, np.zeros(len(sentences), np.int64))


def moments(scores: np.ndarray, *, local: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Centre and deviation of each column: (J, C) -> two (C,) float64; 0 and 1 for J = 0.

    local : whether the centre is not the mean, but half-way between it and the mean of the largest NEAREST.

    A column of equal scores has the deviation 1.
    """
    if not len(scores):
        return np.zeros(scores.shape[1]), np.ones(scores.shape[1])
    centre = scores.mean(axis=0, dtype=np.float64)
    deviation = scores.std(axis=0, dtype=np.float64)
    if local:
        count = ceil(NEAREST * len(scores))
        largest = np.partition(scores, -count, axis=0)[-count:]
        centre = (centre + largest.mean(axis=0, dtype=np.float64)) / 2
    return centre, np.where(deviation > 0, deviation, 1)


def standardise_images(
    scores: Scores, table: np.ndarray, score: Callable[[np.ndarray], np.ndarray], *, local: bool
) -> Iterator[int]:
    """Replace the scores of all images by their z, keeping those themselves in `scores.alone`.

    table : (N + J, 2), `moments` of each image's scores with the training sentences; NaN where not known yet, which is
        filled in.
    score : the scores of the images of some rows with the training sentences, (n, T).
    local : as for `moments`.

    Yields the number of images that each step has done, so that a caller can save the table and stop.
    """
    missing = np.flatnonzero(np.isnan(table).any(axis=1))
    for start in range(0, len(missing), IMAGES):
        rows = missing[start : start + IMAGES]
        table[rows] = np.stack(moments(score(rows).T, local=local), axis=1)
        yield len(rows)
    scores.alone = scores.upper
    scores.upper = ((scores.upper - table[:, :1]) / table[:, 1:]).astype(np.float32)


def standardised(scores: Scores, *, local: bool) -> dict[str, Criterion]:
    """The criteria of models of two towers; see mrnn.evaluate.retrieval.scores.Ranking. local : as for `moments`."""
    zero, one = np.zeros(len(scores.counts)), np.ones(len(scores.counts))
    mean, deviation = moments(scores.upper[scores.prior], local=local)
    found = {
        "image_to_sentence": Criterion(mean, mean, deviation),
        "image_to_sentence_raw": Criterion(zero, zero, one, alone=True),
    }
    if scores.per_word:
        found["image_to_sentence_per_word"] = Criterion(zero, zero, scores.lengths, alone=True)
    return found


def standardised_values(scores: Scores, row: int, column: int, between: tuple[float, float]) -> dict[str, Any]:
    """The standardised score and the score alone."""
    alone = scores.upper if scores.alone is None else scores.alone
    return {"standardised": between[0], "score": float(alone[row, column])}


def pairs_of(
    model: Any, sentences: Sequence[Sequence[int] | np.ndarray], features: RegionRows, *, tiles: Tiles | None = None
) -> PairScorer:
    """The scorer of any kind of model; see `captioner_pairs` and `TowerPairs`."""
    if isinstance(model, TwoTowers):
        return TowerPairs(model, sentences, features)
    return captioner_pairs(model, sentences, features, tiles=tiles)


def check_local_scaling(models: Iterable[Any]) -> None:
    """Raise SettingError if local scaling would change nothing, for want of a model of two towers."""
    if not any(isinstance(model, TwoTowers) for model in models):
        raise SettingError(
            "--local-scaling is for models that match pictures and sentences (alignment, defrag, devise), and none is "
            "given: leave it out"
        )


def ranking_definitions(model: Any, *, local: bool) -> dict[str, str]:
    """What metrics.json says of the rankings of a kind of model, where it is not what it says of captioners."""
    if not isinstance(model, TwoTowers):
        return {}
    scaled = {name: DEFINITIONS[name] + LOCAL_DEFINITION for name in ("image_to_sentence", "sentence_to_image")}
    return DEFINITIONS | scaled if local else DEFINITIONS


def ranking_of(model: Any, *, local: bool) -> Ranking:
    """How a kind of model ranks sentences for an image. local : as for `moments`."""
    return (
        Ranking(partial(standardised, local=local), standardised_values)
        if isinstance(model, TwoTowers)
        else PROBABILITY
    )

"""What is known of the scores of a pool, and the criteria by which its images rank sentences.

A score is exact or an upper bound. A criterion turns the scores of a sentence into what is compared: (score - x) /
divisor. Criteria belong to a kind of model: `PROBABILITY` has those of models that give P(w | I). Another kind brings a
`Ranking` of its own and nothing else here changes.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mrnn.evaluate.retrieval.pair_scorer import log_normaliser

EVERY = slice(None)
ROUNDING = 1e-9  # relative error allowed to log P(w) in float64, far more than its rounding can amount to


@dataclass(frozen=True)
class RoundState:
    """How far a pruned pass has come.

    scored : share of all pairs that are scored exactly
    settled : by direction, share of the queries whose rank and list are certain
    """

    scored: float
    settled: dict[str, float]


@dataclass(frozen=True)
class Criterion:
    """Images rank sentences by (score - x) / divisor, where low <= x <= high for each sentence: all three (C,).

    alone : of `Scores.alone` instead of `Scores.upper`, where there are both.
    """

    low: np.ndarray
    high: np.ndarray
    divisor: np.ndarray
    alone: bool = False

    def brackets(self, upper: np.ndarray, known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper float32 values of some rows; the lower one is -inf where only a bound is known.

        Ranks compare float32 values. Rounding to float32 is monotonic, so brackets on the real numbers stay brackets
        on what is compared.
        """
        highest = ((upper - self.low) / self.divisor).astype(np.float32)
        lowest = ((upper - self.high) / self.divisor).astype(np.float32)
        lowest[~known] = -np.inf
        return lowest, highest


@dataclass(frozen=True)
class Ranking:
    """How a kind of model ranks sentences for an image.

    criteria : from the scores of a pool to the criteria by name (keys of mrnn.evaluate.metrics.names.RANKINGS). The
        first one orders the lists of answers.
    values : what such a list says of a sentence, as names and numbers, from the scores, the row of the image, the
        column of the sentence, and the lower and upper value by the first criterion
    """

    criteria: Callable[["Scores"], dict[str, Criterion]]
    values: Callable[["Scores", int, int, tuple[float, float]], dict[str, Any]]


def probability_criteria(scores: "Scores") -> dict[str, Criterion]:
    """log P(w | I) - log P(w), log P(w | I) and, with per_word, log P(w | I) / (words + END)."""
    zero, one = np.zeros(len(scores.counts)), np.ones(len(scores.counts))
    low, high = bracket(scores.upper[scores.prior], scores.known[scores.prior])
    found = {"image_to_sentence": Criterion(low, high, one), "image_to_sentence_raw": Criterion(zero, zero, one)}
    if scores.per_word:
        found["image_to_sentence_per_word"] = Criterion(zero, zero, scores.lengths)
    return found


def probability_values(scores: "Scores", row: int, column: int, between: tuple[float, float]) -> dict[str, Any]:
    """log P(w | I) - log P(w) from below and from above, log P(w | I), and the latter per word and END."""
    log_prob = float(scores.upper[row, column])
    return {
        "normalised": list(between),
        "log_prob": log_prob,
        "log_prob_per_word": log_prob / int(scores.lengths[column]),
    }


PROBABILITY = Ranking(probability_criteria, probability_values)


@dataclass
class Scores:
    """What is known of the scores of a pool: N images and, below them, the J that P(w) is averaged over.

    Where `captioners` models are scored as one, J is their number times that of the images of P(w), whose rows are
    repeated for each model.

    upper : (N + J, C) float32, the score of each of C different sentences where `known`, else a bound above it
    known : (N + J, C) bool
    sentences : (S,) int64, which of the C each sentence of the pool is
    owners : (S,) int64, the row of its image; every image of the pool has a sentence
    lengths : (C,) int64, words and END
    images : N
    top : length of the lists of answers
    per_word : whether sentences are ranked by their score per word, too
    ranking : the criteria of this kind of model
    alone : (N + J, C) float32, the scores themselves where `upper` holds them standardised by image; sentences then
        rank images by both
    captioners : models with a P(w) of their own
    """

    upper: np.ndarray
    known: np.ndarray
    sentences: np.ndarray
    owners: np.ndarray
    lengths: np.ndarray
    images: int
    top: int
    per_word: bool = False
    ranking: Ranking = PROBABILITY
    alone: np.ndarray | None = None
    captioners: int = 1
    counts: np.ndarray = field(init=False)  # (C,) sentences of the pool that are this one
    unsettled: dict[str, np.ndarray] = field(init=False)  # by direction, the queries that may still be open
    course: list[RoundState] = field(init=False, default_factory=list)  # one `state` per round

    def __post_init__(self) -> None:
        self.counts = np.bincount(self.sentences, minlength=self.upper.shape[1])
        self.unsettled = {name: np.arange(self.images) for name in self.criteria()}
        self.unsettled["sentence_to_image"] = np.arange(len(self.sentences))

    def criteria(self) -> dict[str, Criterion]:
        """The criteria as of now; the brackets of P(w) tighten from round to round."""
        return self.ranking.criteria(self)

    def compared(self, criterion: Criterion) -> np.ndarray:
        """What a criterion compares, (N + J, C): `alone` or `upper`."""
        return self.upper if self.alone is None or not criterion.alone else self.alone

    def state(self) -> RoundState:
        """How far the pass has come."""
        queries = dict.fromkeys(self.unsettled, self.images) | {"sentence_to_image": len(self.sentences)}
        settled = {name: 1 - len(left) / queries[name] for name, left in self.unsettled.items()}
        return RoundState(float(self.known.mean()), settled)

    @property
    def pool(self) -> slice:
        """Rows of the pool's images."""
        return slice(self.images)

    @property
    def prior(self) -> slice:
        """Rows of the images of P(w)."""
        return slice(self.images, None)

    @property
    def priors(self) -> list[slice]:
        """The rows of the images of P(w) of each captioner."""
        count = (len(self.upper) - self.images) // self.captioners
        return [slice(start, start + count) for start in range(self.images, len(self.upper), count or 1)]


def bracket(upper: np.ndarray, known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """log P(w) from below and from above: two (J, C) -> two (C,) float64, equal where all is known; 0 for J = 0.

    P(w) is the mean of P(w | I') over J images. The images scored exactly so far are a part of that sum, which bounds
    it from below; the bounds of the others, added to them, bound it from above.
    """
    if not len(upper):
        return np.zeros(upper.shape[1]), np.zeros(upper.shape[1])
    high = log_normaliser(upper)
    some, every = known.any(axis=0), known.all(axis=0)
    low = np.full_like(high, -np.inf)
    low[some] = log_normaliser(np.where(known, upper, -np.inf)[:, some])
    # The two sums are added up in different orders, so their rounding errors differ: give both a margin, except where
    # all images are known and both are the same number.
    slack = np.where(every, 0, ROUNDING * (1 + np.abs(high)))
    return low - slack, high + slack

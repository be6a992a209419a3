"""Which pairs of images and sentences must be scored exactly, where all of them have upper bounds.

What is asked for: for every image the rank of its first right sentence and the first few sentences, for every sentence
the rank of its image and the first few images, with ties counted both ways. A pair whose bound lies below what a
query's right answer and its k-th best known answer have cannot change that query. Whatever reaches up there is scored
exactly. `wanted` names those pairs, round by round, until there is none left, and then the bounds, where they still
stand, rank as the scores would.

By log P(w | I) - log P(w) there are two unknowns. P(w), the mean of P(w | I') over J training images, is bracketed:
from below by the images scored exactly so far, from above by all of them, the others with their bounds. Where a bracket
leaves an order open, more of its images are scored, the largest first, in the end all of them. Ranks compare float32
values, and rounding keeps order, so brackets on the real numbers are brackets on what is compared.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mrnn.evaluate.retrieval.pair_scorer import log_normaliser
from mrnn.evaluate.retrieval.ranking import CHUNK

COVERED = 0.9  # share of the bound of P(w) that is scored exactly to begin with
SHRINK = 5.0  # what a round divides the open share of P(w) by, where it matters
ROUNDING = 1e-9  # of log P(w) in float64, far more than it can be


@dataclass
class Scores:
    """What is known of log P(w | I), for the N images of the pool and below them the J that P(w) is averaged over.

    upper : (N + J, C) float32, the score of each of C different sentences where `known`, else a bound above it.
    sentences : (S,) which of the C each sentence of the pool is. owners : (S,) the row of its image; every image of the
    pool has a sentence. lengths : (C,) words and END. images : N. top : length of the lists of first answers.
    per_word : whether log P(w | I) / length is a criterion, too.
    """

    upper: np.ndarray
    known: np.ndarray
    sentences: np.ndarray
    owners: np.ndarray
    lengths: np.ndarray
    images: int
    top: int
    per_word: bool = False
    counts: np.ndarray = field(init=False)  # (C,) sentences that are this one
    unsettled: dict[str, np.ndarray] = field(init=False)  # by direction, the queries that may still be open
    course: list[dict[str, Any]] = field(init=False, default_factory=list)  # one `state` a round

    def __post_init__(self) -> None:
        self.counts = np.bincount(self.sentences, minlength=self.upper.shape[1])
        names = ["image_to_sentence", "image_to_sentence_raw", *["image_to_sentence_per_word"] * self.per_word]
        self.unsettled = {name: np.arange(self.images) for name in names}
        self.unsettled["sentence_to_image"] = np.arange(len(self.sentences))

    def state(self) -> dict[str, Any]:
        """How far it has come: shares of the pairs `scored` exactly and, by direction, of the queries `settled`."""
        queries = dict.fromkeys(self.unsettled, self.images) | {"sentence_to_image": len(self.sentences)}
        settled = {name: 1 - len(left) / queries[name] for name, left in self.unsettled.items()}
        return {"scored": float(self.known.mean()), "settled": settled}

    @property
    def pool(self) -> slice:
        """Rows of the pool's images."""
        return slice(self.images)

    @property
    def prior(self) -> slice:
        """Rows of the images of P(w)."""
        return slice(self.images, None)


@dataclass(frozen=True)
class Criterion:
    """Images rank sentences by (score - x) / divisor, where low <= x <= high of each sentence: all three (C,)."""

    low: np.ndarray
    high: np.ndarray
    divisor: np.ndarray

    def brackets(self, upper: np.ndarray, known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper float32 values of some rows; -inf below what has only a bound."""
        highest = ((upper - self.low) / self.divisor).astype(np.float32)
        lowest = ((upper - self.high) / self.divisor).astype(np.float32)
        lowest[~known] = -np.inf
        return lowest, highest


def criteria(scores: Scores) -> dict[str, Criterion]:
    """The ways in which images rank sentences, the one whose lists are kept first."""
    zero, one = np.zeros(len(scores.counts)), np.ones(len(scores.counts))
    low, high = bracket(scores.upper[scores.prior], scores.known[scores.prior])
    found = {"image_to_sentence": Criterion(low, high, one), "image_to_sentence_raw": Criterion(zero, zero, one)}
    if scores.per_word:
        found["image_to_sentence_per_word"] = Criterion(zero, zero, scores.lengths)
    return found


def bracket(upper: np.ndarray, known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """log P(w) from below and from above: two (J, C) -> two (C,) float64, equal where all is known; 0 for J = 0."""
    if not len(upper):
        return np.zeros(upper.shape[1]), np.zeros(upper.shape[1])
    high = log_normaliser(upper)
    some, every = known.any(axis=0), known.all(axis=0)
    low = np.full_like(high, -np.inf)
    low[some] = log_normaliser(np.where(known, upper, -np.inf)[:, some])
    slack = np.where(every, 0, ROUNDING * (1 + np.abs(high)))
    return low - slack, high + slack


def wanted(scores: Scores) -> np.ndarray:
    """(N + J, C) bool, the pairs to be scored exactly next; none if every rank and every list is settled."""
    result = np.zeros(scores.known.shape, dtype=bool)
    result[scores.owners, scores.sentences] = True
    if not scores.known[result].all():
        _begin(scores, result)
        return result & ~scores.known
    result[:] = False
    widen = np.zeros(len(scores.counts), dtype=bool)
    for name, criterion in criteria(scores).items():
        still = [np.zeros(0, dtype=np.int64)]
        for rows, right, copies in _image_queries(scores, scores.unsettled[name]):
            lower, upper = criterion.brackets(scores.upper[rows], scores.known[rows])
            open_ = contested(lower, upper, right, copies, top=scores.top if name == "image_to_sentence" else 0)
            result[rows] |= open_
            widen |= (open_ & scores.known[rows] & (criterion.low < criterion.high)).any(axis=0)
            still.append(rows[open_.any(axis=1)])
        scores.unsettled[name] = np.concatenate(still)
    still = [np.zeros(0, dtype=np.int64)]
    for numbers, lower, upper, right in _sentence_queries(scores, scores.unsettled["sentence_to_image"]):
        query, image = np.nonzero(contested(lower, upper, right, ~right, top=scores.top))
        result[image, scores.sentences[numbers][query]] = True
        still.append(numbers[np.unique(query)])
    scores.unsettled["sentence_to_image"] = np.concatenate(still)
    upper, known = scores.upper[scores.prior, widen], scores.known[scores.prior, widen]
    result[scores.prior, widen] |= _largest(upper, known, 1 / SHRINK)
    return result & ~scores.known


def contested(lower: np.ndarray, upper: np.ndarray, right: np.ndarray, copies: np.ndarray, *, top: int) -> np.ndarray:
    """Candidates that must be known better before the rank of a query's first right one and its list are settled.

    lower, upper : (Q, C) brackets of their values. right : (Q, C) bool, right answers, one known at least. copies :
    (Q, C) how many wrong answers have this very value: for a right one, those that are its equals word by word.
    Nothing is contested between two values that are exactly known.
    """
    best_lower, best_upper = _best(lower, right), _best(upper, right)
    exact = lower == upper
    reaches = upper >= best_lower
    open_ = reaches & (lower <= best_upper) & ~(exact & (best_lower == best_upper)) & (copies > 0)
    # a right answer and its wrong equals tie, whatever their value, if no other right answer can be before them
    open_ &= ~right | ((right & reaches).sum(axis=1, keepdims=True) > 1)
    open_ |= right & reaches & ~exact & open_.any(axis=1, keepdims=True)
    if top:
        top = min(top, lower.shape[1])
        last = np.partition(lower, -top, axis=1)[:, -top, None]
        open_ |= (upper >= last) & (lower == -np.inf)
        first = _first(upper, top + 1)
        low, high, sure = (np.take_along_axis(values, first, axis=1) for values in (lower, upper, exact))
        clash = (low[:, :-1] <= high[:, 1:]) & ~(sure[:, :-1] & sure[:, 1:])
        near = np.zeros_like(sure)
        near[:, :-1] |= clash
        near[:, 1:] |= clash
        query, place = np.nonzero(near & ~sure)
        open_[query, first[query, place]] = True
    return open_


def image_ranks(scores: Scores, criterion: Criterion) -> tuple[np.ndarray, np.ndarray]:
    """Worst and best rank of each image's first right sentence, (N,) each, once nothing is wanted any more."""
    found = []
    for rows, right, copies in _image_queries(scores, np.arange(scores.images)):
        found.append(_ranks(*criterion.brackets(scores.upper[rows], scores.known[rows]), right, copies))
    worst, best = zip(*found, strict=True)
    return np.concatenate(worst), np.concatenate(best)


def sentence_ranks(scores: Scores) -> tuple[np.ndarray, np.ndarray]:
    """Worst and best rank of each sentence's image, (S,) each, once nothing is wanted any more."""
    found = []
    for _, lower, upper, right in _sentence_queries(scores, np.arange(len(scores.sentences))):
        found.append(_ranks(lower, upper, right, ~right))
    worst, best = zip(*found, strict=True)
    return np.concatenate(worst), np.concatenate(best)


def first_answers(values: np.ndarray, count: int) -> np.ndarray:
    """Numbers of the largest of (n,) values, the largest first, equal ones in order of number."""
    count = min(count, len(values))
    among = np.flatnonzero(values >= np.partition(values, -count)[-count])
    return among[np.argsort(-values[among], kind="stable")[:count]]


def _begin(scores: Scores, result: np.ndarray) -> None:
    """Add to the right pairs what is most likely among the first answers, and most of P(w)."""
    upper, known = scores.upper[scores.prior], scores.known[scores.prior]
    result[scores.prior] |= _largest(upper, known, 1 - COVERED)
    high = bracket(upper, known)[1]
    for start in range(0, scores.images, CHUNK):
        rows = slice(start, min(start + CHUNK, scores.images))
        np.put_along_axis(result[rows], _first(scores.upper[rows] - high, scores.top), True, axis=1)
    for start in range(0, len(scores.counts), CHUNK):
        columns = slice(start, start + CHUNK)
        first = _first(scores.upper[scores.pool, columns].T, scores.top)
        np.put_along_axis(result[scores.pool, columns].T, first, True, axis=1)


def _largest(upper: np.ndarray, known: np.ndarray, share: float) -> np.ndarray:
    """The unknown scores to add to P(w), largest first, until what is open of it is `share` of what was: (J, C) bool.

    At least one, and at least as many as are known.
    """
    result = np.zeros(upper.shape, dtype=bool)
    if not upper.size:
        return result
    mass = np.where(known, 0, np.exp(upper - upper.max(axis=0).astype(np.float64)))
    order = np.argsort(np.where(known, np.inf, -upper), axis=0)
    sums = np.cumsum(np.take_along_axis(mass, order, axis=0), axis=0)
    count = 1 + (sums < (1 - share) * sums[-1]).sum(axis=0)
    count = np.maximum(count, known.sum(axis=0))
    np.put_along_axis(result, order, np.arange(len(upper))[:, None] < count, axis=0)
    return result & ~known


def _image_queries(scores: Scores, images: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Some of these images, their own sentences as (Q, C) bool, and how many wrong sentences are this one, (Q, C)."""
    for start in range(0, len(images), CHUNK):
        rows = images[start : start + CHUNK]
        place = np.full(scores.images, -1)
        place[rows] = np.arange(len(rows))
        query = place[scores.owners]
        own = np.zeros((len(rows), len(scores.counts)), dtype=np.int32)
        np.add.at(own, (query[query >= 0], scores.sentences[query >= 0]), 1)
        yield rows, own > 0, scores.counts - own


def _sentence_queries(
    scores: Scores, sentences: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
    """Some of these sentences, their brackets under all images and which one is their own: three (Q, N)."""
    for start in range(0, len(sentences), CHUNK):
        numbers = sentences[start : start + CHUNK]
        upper = scores.upper[scores.pool, scores.sentences[numbers]].T
        known = scores.known[scores.pool, scores.sentences[numbers]].T
        right = scores.owners[numbers, None] == np.arange(scores.images)
        yield numbers, np.where(known, upper, np.float32(-np.inf)), upper, right


def _best(values: np.ndarray, right: np.ndarray) -> np.ndarray:
    return np.where(right, values, np.float32(-np.inf)).max(axis=1, keepdims=True)


def _first(values: np.ndarray, count: int) -> np.ndarray:
    """Columns of the largest values of each row, the largest first, equal ones in order: (Q, min(count, C))."""
    count = min(count, values.shape[1])
    among = np.sort(np.argpartition(-values, count - 1, axis=1)[:, :count], axis=1)
    order = np.argsort(-np.take_along_axis(values, among, axis=1), axis=1, kind="stable")
    return np.take_along_axis(among, order, axis=1)


def _ranks(
    lower: np.ndarray, upper: np.ndarray, right: np.ndarray, copies: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    worst = 1 + (copies * (upper >= _best(lower, right))).sum(axis=1)
    best = 1 + (copies * (lower > _best(upper, right))).sum(axis=1)
    return worst, best

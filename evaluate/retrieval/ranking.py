"""From scores to ranks, lists, recalls and medians. The only place where the largest of many values are picked.

Ranks count from 1. A tie between a right and a wrong answer has no true order, so there are two ranks: `worst` puts
every wrong answer of equal score ahead of the right one, `best` behind it. Reported numbers use the worst ones, so that
a model that gives everything the same score gets nothing; the best ones are reported beside them where there are ties.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from mrnn.evaluate.retrieval.scores import Criterion, Scores

CHUNK = 500  # queries ranked at a time, which bounds the memory


@dataclass(frozen=True)
class Recalls:
    """Summary of the ranks of one direction; recalls in percent.

    median_rank of an even number of queries is the mean of the two in the middle.
    """

    recall_1: float
    recall_5: float
    recall_10: float
    median_rank: float
    mean_rank: float

    def to_json(self) -> dict[str, float]:
        """With the names that metrics.json uses."""
        return {
            "R@1": self.recall_1,
            "R@5": self.recall_5,
            "R@10": self.recall_10,
            "median_rank": self.median_rank,
            "mean_rank": self.mean_rank,
        }

    @classmethod
    def from_json(cls, values: Mapping[str, float]) -> "Recalls":
        """What `to_json` gave. Raises KeyError if a name is missing."""
        return cls(*(values[name] for name in ("R@1", "R@5", "R@10", "median_rank", "mean_rank")))

    @classmethod
    def mean(cls, parts: list["Recalls"]) -> "Recalls":
        """The mean of several pools."""
        columns = [part.to_json() for part in parts]
        return cls.from_json({name: float(np.mean([column[name] for column in columns])) for name in columns[0]})


def recall_at_k(ranks: np.ndarray, k: int) -> float:
    """Fraction of queries whose best right answer is ranked k or better.

    ranks : (Q,) int, 1 = first. Returns a fraction in [0, 1], not percent. Raises ValueError if Q = 0 or k < 1.
    """
    if not len(ranks) or k < 1:
        raise ValueError(f"recall needs at least one query and k of at least 1, not {len(ranks)} and {k}")
    return float((ranks <= k).mean())


def recalls(ranks: np.ndarray) -> Recalls:
    """R@1, R@5, R@10 in percent, the median and the mean of (Q,) ranks."""
    r1, r5, r10 = (100 * recall_at_k(ranks, k) for k in (1, 5, 10))
    return Recalls(r1, r5, r10, float(np.median(ranks)), float(np.mean(ranks)))


def largest(values: np.ndarray, count: int) -> np.ndarray:
    """Places of the `count` largest of (n,) values, the largest first; equal ones in order of place."""
    count = min(count, len(values))
    if not count:
        return np.zeros(0, dtype=np.int64)
    # Whatever ties with the last one is kept until the stable sort; np.argpartition alone would pick any of them.
    among = np.flatnonzero(values >= np.partition(values, -count)[-count])
    return among[np.argsort(-values[among], kind="stable")[:count]]


def largest_of_rows(values: np.ndarray, count: int) -> np.ndarray:
    """Columns of the largest values of each row, the largest first: (Q, C) -> (Q, min(count, C)).

    Which of several equal values at the end of a list is taken is not defined; for lists that are shown use `largest`.
    """
    count = min(count, values.shape[1])
    among = np.sort(np.argpartition(-values, count - 1, axis=1)[:, :count], axis=1)
    order = np.argsort(-np.take_along_axis(values, among, axis=1), axis=1, kind="stable")
    return np.take_along_axis(among, order, axis=1)


def image_ranks(scores: Scores, criterion: Criterion) -> tuple[np.ndarray, np.ndarray]:
    """Worst and best rank of each image's first right sentence, (N,) each, once nothing is wanted any more."""
    found = []
    for rows, right, copies in image_queries(scores, np.arange(scores.images)):
        values = scores.compared(criterion)[rows]
        found.append(_ranks(*criterion.brackets(values, scores.known[rows]), right, copies))
    worst, best = zip(*found, strict=True)
    return np.concatenate(worst), np.concatenate(best)


def sentence_ranks(scores: Scores) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Worst and best rank of each sentence's image, (S,) each, once nothing is wanted any more.

    By `upper`, and where there is `alone`, by that as well.
    """
    found = {"sentence_to_image": _sentence_ranks(scores)}
    if scores.alone is not None:
        found["sentence_to_image_raw"] = _sentence_ranks(replace(scores, upper=scores.alone))
    return found


def _sentence_ranks(scores: Scores) -> tuple[np.ndarray, np.ndarray]:
    found = []
    for _, lower, upper, right in sentence_queries(scores, np.arange(len(scores.sentences))):
        found.append(_ranks(lower, upper, right, ~right))
    worst, best = zip(*found, strict=True)
    return np.concatenate(worst), np.concatenate(best)


def image_queries(scores: Scores, images: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Some of these images, their own sentences as (Q, C) bool, and how many wrong sentences are this one, (Q, C)."""
    for start in range(0, len(images), CHUNK):
        rows = images[start : start + CHUNK]
        place = np.full(scores.images, -1)
        place[rows] = np.arange(len(rows))
        query = place[scores.owners]
        own = np.zeros((len(rows), len(scores.counts)), dtype=np.int32)
        np.add.at(own, (query[query >= 0], scores.sentences[query >= 0]), 1)
        yield rows, own > 0, scores.counts - own


def sentence_queries(
    scores: Scores, sentences: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
    """Some of these sentences, their brackets under all images and which one is their own: three (Q, N)."""
    for start in range(0, len(sentences), CHUNK):
        numbers = sentences[start : start + CHUNK]
        upper = scores.upper[scores.pool, scores.sentences[numbers]].T
        known = scores.known[scores.pool, scores.sentences[numbers]].T
        right = scores.owners[numbers, None] == np.arange(scores.images)
        yield numbers, np.where(known, upper, np.float32(-np.inf)), upper, right


def _ranks(
    lower: np.ndarray, upper: np.ndarray, right: np.ndarray, copies: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Worst and best rank of each query's best right answer, from brackets that leave no order open.

    An answer counts as ahead in the worst case where it may reach the right one, in the best case where it must be
    before it. For settled queries the two differ in ties only.
    """
    worst = 1 + (copies * (upper >= best_right(lower, right))).sum(axis=1)
    best = 1 + (copies * (lower > best_right(upper, right))).sum(axis=1)
    return worst, best


def best_right(values: np.ndarray, right: np.ndarray) -> np.ndarray:
    """(Q, 1) the largest value of each query's right answers."""
    return np.where(right, values, np.float32(-np.inf)).max(axis=1, keepdims=True)

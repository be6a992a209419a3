"""From the scores of words and regions to segments of a sentence: the chain of DVSA, Eqs. 10 to 12 (arXiv 1412.2306).

    maximise over a:  sum_j v_{a_j} . s_j  +  beta sum_j 1[a_j = a_{j+1}]        a_j : the region of the j-th word

The paper says that its energy is minimised, although both terms reward agreement; it is the maximum that makes sense.
"""

from dataclasses import dataclass

import numpy as np

BETA = 0.1  # unless the user says another; the paper gives none


@dataclass(frozen=True)
class Segment:
    """Neighbouring words that speak of one region.

    first, end : numbers of the first word and of the one after the last.
    region : the region's row among those of its image, 0 for the whole picture.
    score : sum of the words' scores with the region.
    """

    first: int
    end: int
    region: int
    score: float


def best_regions(scores: np.ndarray, *, beta: float) -> np.ndarray:
    """The region of each word that maximises the chain, by dynamic programming in O(T R).

    scores : (T, R), of each word with each region; a region that does not exist has -inf.
    beta : reward for each pair of neighbouring words with the same region, at least 0. With 0 each word has its best
        region, with a large one all words have the same.

    Returns (T,) int64; of equally good regions of the last word the first. Raises ValueError without words or regions,
    or for a negative beta.
    """
    if not scores.size or beta < 0:
        raise ValueError(f"segments need words, regions and a beta of at least 0, not {scores.shape} and {beta}")
    best = scores[0].astype(np.float64)
    before = np.empty(scores.shape, dtype=np.int64)  # the best region of the word before, if this word has this one
    every = np.arange(scores.shape[1])
    for word in range(1, len(scores)):
        # Of all regions before, only the same one earns beta; so the best is either it or the best of all.
        leader = int(best.argmax())
        same = best + beta >= best[leader]
        before[word] = np.where(same, every, leader)
        best = np.where(same, best + beta, best[leader]) + scores[word]
    found = np.empty(len(scores), dtype=np.int64)
    found[-1] = best.argmax()
    for word in range(len(scores) - 1, 0, -1):
        found[word - 1] = before[word, found[word]]
    return found


def segments(scores: np.ndarray, *, beta: float) -> list[Segment]:
    """The segments of a sentence: the runs of equal `best_regions`, which has the arguments."""
    regions = best_regions(scores, beta=beta)
    starts = np.flatnonzero(np.r_[True, regions[1:] != regions[:-1]])
    return [
        Segment(int(first), int(end), int(regions[first]), float(scores[first:end, regions[first]].sum()))
        for first, end in zip(starts, [*starts[1:], len(regions)], strict=True)
    ]

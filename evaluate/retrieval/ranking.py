"""From scores to ranks, recalls and medians.

Ranks count from 1. A tie between a right and a wrong answer has no true order, so both bounds can be had: `worst` puts
every wrong answer of equal score ahead of the right one, `best` behind it. Reported numbers are the worst ones (a model
that gives everything the same score gets nothing), with the best beside them where there are ties.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

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

    def to_json(self) -> dict[str, float]:
        """With the names that metrics.json uses."""
        return {
            "R@1": self.recall_1,
            "R@5": self.recall_5,
            "R@10": self.recall_10,
            "median_rank": self.median_rank,
        }


def recall_at_k(ranks: np.ndarray, k: int) -> float:
    """Fraction of queries whose best right answer is ranked k or better.

    ranks : (Q,) int, 1 = first. Returns a fraction in [0, 1], not percent. Raises ValueError if Q = 0 or k < 1.
    """
    if not len(ranks) or k < 1:
        raise ValueError(f"recall needs at least one query and k of at least 1, not {len(ranks)} and {k}")
    return float((ranks <= k).mean())


def recalls(ranks: np.ndarray) -> Recalls:
    """R@1, R@5, R@10 in percent and the median of (Q,) ranks."""
    r1, r5, r10 = (100 * recall_at_k(ranks, k) for k in (1, 5, 10))
    return Recalls(r1, r5, r10, float(np.median(ranks)))


def pool_size(retrieval: Mapping[str, Any]) -> str:
    """Images x sentences of what the retrieval stage returns, as '1,000 x 5,000'; of several pools the first's."""
    images, sentences = (np.atleast_1d(retrieval[name]) for name in ("images", "sentences"))
    return f"{f'{len(images)} pools of ' if len(images) > 1 else ''}{images[0]:,} x {sentences[0]:,}"

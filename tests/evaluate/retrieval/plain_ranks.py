"""Ranks by their definition, from whole matrices of scores; mrnn.evaluate.retrieval.pruning is held against them."""

from typing import Literal

import numpy as np

Ties = Literal["worst", "best"]
CHUNK = 500  # queries at a time, which bounds the memory


def rank_of_best(scores: np.ndarray, right: np.ndarray, *, ties: Ties = "worst") -> np.ndarray:
    """Rank of each query's best right answer, 1 = first.

    scores : (Q, C), higher is better. right : (Q, C) bool, any number of right answers but at least one a query.
    Returns (Q,) int64. Raises ValueError for a query without right answer, or a score that is not a number.
    """
    if np.isnan(scores).any():
        raise ValueError("a score is not a number")
    if not right.any(axis=1).all():
        raise ValueError("a query has no right answer")
    best = np.where(right, scores, -np.inf).max(axis=1, keepdims=True)
    ahead = scores >= best if ties == "worst" else scores > best
    return 1 + (ahead & ~right).sum(axis=1)


def image_to_sentence_ranks(scores: np.ndarray, sentence_images: np.ndarray, *, ties: Ties = "worst") -> np.ndarray:
    """Each image asks for sentences; any of its own is a hit.

    scores : (N, S). sentence_images : (S,) int, the row of the image that each sentence belongs to.
    Returns the ranks (Q,) of the images that have sentences, in order of rows.
    """
    asking = np.unique(sentence_images)
    ranks = [
        rank_of_best(scores[rows], sentence_images == rows[:, None], ties=ties)
        for rows in np.split(asking, range(CHUNK, len(asking), CHUNK))
    ]
    return np.concatenate(ranks)


def sentence_to_image_ranks(scores: np.ndarray, sentence_images: np.ndarray, *, ties: Ties = "worst") -> np.ndarray:
    """Each sentence asks for its one image: scores (N, S) and the row of its image (S,) -> ranks (S,)."""
    rows = np.arange(len(scores))
    ranks = [
        rank_of_best(
            scores[:, start : start + CHUNK].T, sentence_images[start : start + CHUNK, None] == rows, ties=ties
        )
        for start in range(0, len(sentence_images), CHUNK)
    ]
    return np.concatenate(ranks)

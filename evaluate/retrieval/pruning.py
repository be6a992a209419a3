"""Which pairs of images and sentences must be scored exactly, where all of them have upper bounds.

A pool asks for the rank of each image's first right sentence and its list of first sentences, and for the rank of each
sentence's image and its list of first images, with ties counted both ways. A pair whose bound lies below both the right
answer and the k-th best known answer of a query cannot change that query; a pair that reaches up to them is scored
exactly. `wanted` names those pairs, round by round. When it names none, the bounds that are left rank as the scores
would.

For log P(w | I) - log P(w) there are two unknowns: P(w) is bracketed, too (mrnn.evaluate.retrieval.scores). Where a
bracket leaves an order open, more images of P(w) are scored, the largest bounds first, in the end all of them.
"""

import numpy as np

from mrnn.evaluate.retrieval.ranking import CHUNK, best_right, image_queries, largest_of_rows, sentence_queries
from mrnn.evaluate.retrieval.scores import Scores

COVERED = 0.9  # share of the bound of P(w) that the first round scores exactly
SHRINK = 5.0  # each round divides the open share of P(w) by this, for the sentences where it matters


def wanted(scores: Scores) -> np.ndarray:
    """(N + J, C) bool, the pairs to score exactly next; none if every rank and every list is settled."""
    result = np.zeros(scores.known.shape, dtype=bool)
    result[scores.owners, scores.sentences] = True
    if not scores.known[result].all():
        _begin(scores, result)
        return result & ~scores.known
    result[:] = False
    widen = np.zeros(len(scores.counts), dtype=bool)  # sentences whose P(w) must be known better
    for place, (name, criterion) in enumerate(scores.criteria().items()):
        still = [np.zeros(0, dtype=np.int64)]
        for rows, right, copies in image_queries(scores, scores.unsettled[name]):
            lower, upper = criterion.brackets(scores.upper[rows], scores.known[rows])
            open_ = contested(lower, upper, right, copies, top=0 if place else scores.top)
            result[rows] |= open_
            # The score is known, so what keeps the order open can only be the bracket of P(w).
            widen |= (open_ & scores.known[rows] & (criterion.low < criterion.high)).any(axis=0)
            still.append(rows[open_.any(axis=1)])
        # A settled query stays settled, since brackets only tighten: it is not looked at again.
        scores.unsettled[name] = np.concatenate(still)
    still = [np.zeros(0, dtype=np.int64)]
    for numbers, lower, upper, right in sentence_queries(scores, scores.unsettled["sentence_to_image"]):
        query, image = np.nonzero(contested(lower, upper, right, ~right, top=scores.top))
        result[image, scores.sentences[numbers][query]] = True
        still.append(numbers[np.unique(query)])
    scores.unsettled["sentence_to_image"] = np.concatenate(still)
    for prior in scores.priors:
        result[prior, widen] |= _largest(scores.upper[prior, widen], scores.known[prior, widen], 1 / SHRINK)
    return result & ~scores.known


def contested(lower: np.ndarray, upper: np.ndarray, right: np.ndarray, copies: np.ndarray, *, top: int) -> np.ndarray:
    """Candidates that must be known better before the rank of a query's first right one and its list are settled.

    lower, upper : (Q, C) brackets of the candidates' values
    right : (Q, C) bool, right answers; each query has one whose value is known
    copies : (Q, C) int, how many wrong answers a candidate stands for; a right one stands for those that are the same
        sentence word by word
    top : length of the list; 0 for none

    Returns (Q, C) bool. Nothing is contested between two values that are both known.
    """
    best_lower, best_upper = best_right(lower, right), best_right(upper, right)
    exact = lower == upper
    # A wrong answer whose bracket overlaps that of the best right one may be before it or behind it. Of two known equal
    # values that is no question: they tie. A candidate that stands for no wrong answer does not count in a rank.
    reaches = upper >= best_lower
    open_ = reaches & (lower <= best_upper) & ~(exact & (best_lower == best_upper)) & (copies > 0)
    # A right answer and the wrong answers that are the same sentence have the same value, whatever it is. So they tie,
    # and there is nothing to find out, unless another right answer may be the best one.
    open_ &= ~right | ((right & reaches).sum(axis=1, keepdims=True) > 1)
    # Where something is open, the bracket of the best right answer must shrink as well: score all that may be the best.
    open_ |= right & reaches & ~exact & open_.any(axis=1, keepdims=True)
    if top:
        top = min(top, lower.shape[1])
        # Whatever is not scored and reaches the k-th best lower end may belong into the list.
        last = np.partition(lower, -top, axis=1)[:, -top, None]
        open_ |= (upper >= last) & (lower == -np.inf)
        # Neighbours in the list, with the first one behind it, whose brackets overlap have no certain order yet. Sorted
        # by their upper ends, candidates that overlap at all overlap between neighbours.
        first = largest_of_rows(upper, top + 1)
        low, high, sure = (np.take_along_axis(values, first, axis=1) for values in (lower, upper, exact))
        clash = (low[:, :-1] <= high[:, 1:]) & ~(sure[:, :-1] & sure[:, 1:])
        near = np.zeros_like(sure)
        near[:, :-1] |= clash
        near[:, 1:] |= clash
        query, place = np.nonzero(near & ~sure)
        open_[query, first[query, place]] = True
    return open_


def _begin(scores: Scores, result: np.ndarray) -> None:
    """Add to the right pairs the likely first answers and most of P(w).

    Guided by the bounds alone: it decides how many rounds follow, never how they end.
    """
    for prior in scores.priors:
        result[prior] |= _largest(scores.upper[prior], scores.known[prior], 1 - COVERED)
    high = next(iter(scores.criteria().values())).high
    for start in range(0, scores.images, CHUNK):
        rows = slice(start, min(start + CHUNK, scores.images))
        np.put_along_axis(result[rows], largest_of_rows(scores.upper[rows] - high, scores.top), True, axis=1)
    for start in range(0, len(scores.counts), CHUNK):
        columns = slice(start, start + CHUNK)
        first = largest_of_rows(scores.upper[scores.pool, columns].T, scores.top)
        np.put_along_axis(result[scores.pool, columns].T, first, True, axis=1)


def _largest(upper: np.ndarray, known: np.ndarray, share: float) -> np.ndarray:
    """The unknown scores to add to P(w), the largest bounds first: (J, C) bool.

    upper, known : (J, C) of the images of P(w)
    share : so much of what is open of P(w) may stay open

    At least one score per sentence, and at least as many as are known already: doubling bounds the number of rounds
    where all images contribute alike.
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

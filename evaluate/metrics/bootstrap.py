"""Bootstrap over images: how far a number would move if other images had been drawn for the test set.

An image is drawn with everything that belongs to it: its sentences, its caption, its queries in both directions. So a
resample is a row of weights, how often each of the N images was drawn, and a statistic is a function from weights
(R, N) to R values. With all weights 1 it is the reported number itself. Two statistics given to one call of `resample`
see the same draws, which is all that a paired comparison needs.

What does not belong to one image is held fixed: document frequencies (over all references of the split), P(w) of the
retrieval (training images) and the pool that a query is ranked in. Efron & Tibshirani, An Introduction to the
Bootstrap, 1993, chapter 13 (percentile interval); Koehn, Statistical Significance Tests for Machine Translation
Evaluation, 2004 (paired, for BLEU).
"""

from collections.abc import Callable, Hashable, Mapping
from typing import TypeVar

import numpy as np

Statistic = Callable[[np.ndarray], np.ndarray]  # weights (R, N) -> values (R,)
Name = TypeVar("Name", bound=Hashable)
RESAMPLES = 1000
LEVEL = 0.95
CHUNK = 100  # resamples at a time, which bounds the memory


def ratio(numerators: np.ndarray, denominators: np.ndarray) -> Statistic:
    """Sum over sum: (N,) and (N,). A mean over images has denominators of 1."""
    return lambda weights: (weights @ numerators) / (weights @ denominators)


def median(values: np.ndarray, image: np.ndarray) -> Statistic:
    """Median of (Q,) values, each drawn with its image (Q,); of an even number the mean of the middle two."""
    order = np.argsort(values, kind="stable")
    values, image = values[order], image[order]

    def statistic(weights: np.ndarray) -> np.ndarray:
        seen = weights[:, image].cumsum(axis=1)
        total = seen[:, -1:]
        middle = [(seen <= np.floor(half)).sum(axis=1) for half in ((total - 1) / 2, total / 2)]
        return (values[middle[0]] + values[middle[1]]) / 2

    return statistic


def resample(
    statistics: Mapping[Name, Statistic], images: int, *, generator: np.random.Generator, resamples: int = RESAMPLES
) -> dict[Name, np.ndarray]:
    """Values (R,) of every statistic over R draws of as many images as there are, with replacement."""
    values: dict[Name, list[np.ndarray]] = {name: [] for name in statistics}
    for start in range(0, resamples, CHUNK):
        draws = generator.integers(images, size=(min(CHUNK, resamples - start), images))
        weights = np.stack([np.bincount(draw, minlength=images) for draw in draws]).astype(np.float64)
        for name, statistic in statistics.items():
            values[name].append(statistic(weights))
    return {name: np.concatenate(parts) for name, parts in values.items()}


def interval(values: np.ndarray) -> tuple[float, float]:
    """The percentile interval, which holds LEVEL of (R,) resampled values."""
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def p_value(differences: np.ndarray) -> float:
    """Two-sided: twice the share of (R,) resampled differences on the rarer side of 0, 0 itself on both; at most 1.

    The observed sample counts as one of R + 1, so it is never 0. Below 1 - LEVEL where the interval leaves out 0, but
    for the rounding of quantiles.
    """
    rarer = min((differences <= 0).sum(), (differences >= 0).sum())
    return float(min(1.0, 2 * (rarer + 1) / (len(differences) + 1)))

"""Headline numbers as functions of how often each image was drawn: what the bootstrap resamples.

Each function takes the names of a number and returns a function from the records of per_image.jsonl, all of which were
measured, to a `Statistic`.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from mrnn.evaluate.metrics.bleu import BleuCounts
from mrnn.evaluate.metrics.bootstrap import Statistic, median, ratio

Record = dict[str, Any]
OverImages = Callable[[Sequence[Record]], Statistic | None]  # None where the records lack the number


def perplexity(*, known: bool) -> OverImages:
    """2 ** (bits over words), over all words or over those that are not <unk>."""

    def of(records: Sequence[Record]) -> Statistic:
        bits, known_bits, targets, unknown = (
            np.array([record["perplexity"][name] for record in records])
            for name in ("bits", "known_bits", "targets", "unknown")
        )
        mean = ratio(known_bits, targets - unknown) if known else ratio(bits, targets)
        return lambda weights: 2 ** mean(weights)

    return of


def bleu(n: int) -> OverImages:
    """Cumulative BLEU-n of the corpus, from the counts of each image."""

    def of(records: Sequence[Record]) -> Statistic:
        names = ("hits", "ngrams", "words", "reference_words")
        counts = BleuCounts(*(np.array([record["bleu"][name] for record in records]) for name in names))
        return lambda weights: counts.total(weights).cumulative()[:, n - 1]

    return of


def mean_score(key: str) -> OverImages:
    """The mean over images of a caption's own score; None for files of a version that did not have it."""

    def of(records: Sequence[Record]) -> Statistic | None:
        if any(key not in record["scores"] for record in records):
            return None
        return ratio(np.array([record["scores"][key] for record in records]), np.ones(len(records)))

    return of


def recall(direction: str, k: int) -> OverImages:
    """Percent of the queries of one direction whose first right answer is ranked k or better; None without them."""

    def of(records: Sequence[Record]) -> Statistic | None:
        if any(direction not in record["ranks"] for record in records):
            return None
        each = [np.atleast_1d(record["ranks"][direction]) for record in records]
        hits = np.array([(of_image <= k).sum() for of_image in each])
        return ratio(100.0 * hits, np.array([len(of_image) for of_image in each]))

    return of


def median_rank(direction: str) -> OverImages:
    """Median rank of the queries of one direction; None without them."""

    def of(records: Sequence[Record]) -> Statistic | None:
        if any(direction not in record["ranks"] for record in records):
            return None
        each = [np.atleast_1d(record["ranks"][direction]) for record in records]
        queries = np.array([len(of_image) for of_image in each])
        return median(np.concatenate(each), np.repeat(np.arange(len(records)), queries))

    return of


def mean_rank(direction: str) -> OverImages:
    """Mean rank of the queries of one direction; None without them."""

    def of(records: Sequence[Record]) -> Statistic | None:
        if any(direction not in record["ranks"] for record in records):
            return None
        each = [np.atleast_1d(record["ranks"][direction]) for record in records]
        return ratio(np.array([of_image.sum() for of_image in each]), np.array([len(of_image) for of_image in each]))

    return of


def total(parts: Sequence[OverImages]) -> OverImages:
    """The sum of several numbers; None without one of them."""

    def of(records: Sequence[Record]) -> Statistic | None:
        statistics = [statistic for part in parts if (statistic := part(records)) is not None]
        if len(statistics) < len(parts):
            return None
        return lambda weights: np.sum([statistic(weights) for statistic in statistics], axis=0)

    return of


def regions_bleu(n: int) -> OverImages:
    """Cumulative BLEU-n of the captions of regions, from the counts of each image's regions."""
    return lambda records: bleu(n)([record["regions"] for record in records])


def regions_mean(key: str) -> OverImages:
    """The mean over regions of a caption's own score; None for files of a version that did not have it."""

    def of(records: Sequence[Record]) -> Statistic | None:
        if any(key not in record["regions"]["scores"] for record in records):
            return None
        sums = np.array([record["regions"]["scores"][key] for record in records])
        return ratio(sums, np.array([record["regions"]["regions"] for record in records]))

    return of


def grounded(choice: str, measure: str) -> OverImages:
    """Percent of phrases whose region is right by one measure, of one way to choose it; None without it."""

    def of(records: Sequence[Record]) -> Statistic | None:
        if any(choice not in record["grounding"] for record in records):
            return None
        hits = np.array([record["grounding"][choice][measure] for record in records])
        return ratio(100.0 * hits, np.array([record["grounding"]["phrases"] for record in records]))

    return of

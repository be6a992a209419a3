"""The metrics: one row for each number that an evaluation reports. Tables, reports and intervals follow the rows.

To add a caption score, write its function (mrnn.evaluate.metrics.scorers) and its row in CAPTION_SCORES. It then
appears in metrics.json, the printed tables, the report, per_image.jsonl, the intervals and compare-results.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mrnn.evaluate.metrics import over_images, scorers
from mrnn.evaluate.metrics.over_images import OverImages


@dataclass(frozen=True)
class Metric:
    """A number that an evaluation reports.

    key : its name in metrics.json and in `intervals`
    label : its name for people
    digits : shown behind the point
    group : the field of per_image.jsonl that it is computed from, a key of GROUPS
    statistic : the number as a function of resampled images; None for one that has no interval
    lower_is_better : as of perplexities and ranks
    definition : for `definitions` in metrics.json
    defined_as : the key of the definition, where several metrics share one
    score : of a caption score, the function that computes it
    in_gallery : of a caption score, whether the report's gallery can be sorted by it
    """

    key: str
    label: str
    digits: int
    group: str
    statistic: OverImages | None
    lower_is_better: bool = False
    definition: str = ""
    defined_as: str = ""
    score: scorers.Scorer | None = None
    in_gallery: bool = True

    def format(self, value: float, *, sign: bool = False) -> str:
        """The value with its digits; sign : with a plus sign where it is positive."""
        return f"{value:{'+' if sign else ''}.{self.digits}f}"


@dataclass(frozen=True)
class RankedBy:
    """A direction of retrieval, or a criterion of one.

    key : in metrics.json
    label : for web pages and figures
    definition : for metrics.json
    headline : whether its numbers have intervals and stand in comparisons
    """

    key: str
    label: str
    definition: str
    headline: bool = False


GROUPS = {  # field of a record -> label
    "perplexity": "perplexity",
    "scores": "caption scores",
    "ranks": "retrieval",
    "grounding": "grounding",
    "regions": "captions of regions",
}

PERPLEXITIES = [
    Metric(
        "perplexity",
        "Perplexity",
        2,
        "perplexity",
        over_images.perplexity(known=False),
        lower_is_better=True,
        definition="2 ** (mean of -log2 P per word); END counted, START not, <unk> counted",
    ),
    Metric(
        "perplexity_known",
        "Perplexity without <unk>",
        2,
        "perplexity",
        over_images.perplexity(known=True),
        lower_is_better=True,
        definition="the same over the words that are not <unk>",
    ),
]

CAPTION_SCORES = [
    *(
        Metric(
            f"Bleu_{n}",
            f"BLEU-{n}",
            3,
            "scores",
            over_images.bleu(n),
            definition="corpus level, cumulative, closest reference length, brevity penalty, as in coco-caption "
            "(a fraction)",
            defined_as="Bleu_n",
            score=scorers.bleu,
            in_gallery=n in (1, 4),
        )
        for n in range(1, 5)
    ),
    Metric(
        "ROUGE_L",
        "ROUGE-L",
        3,
        "scores",
        over_images.mean_score("ROUGE_L"),
        definition="longest common subsequence, beta 1.2, mean over images, as in coco-caption (a fraction)",
        score=scorers.rouge_l,
    ),
    Metric(
        "CIDEr",
        "CIDEr",
        3,
        "scores",
        over_images.mean_score("CIDEr"),
        definition="CIDEr-D as in coco-caption, document frequencies of these references (10 is the maximum)",
        score=scorers.cider,
    ),
]
MAIN_SCORE = "CIDEr"  # the caption score by which two systems' captions of an image are compared

RANKINGS = [
    RankedBy(
        "image_to_sentence",
        "Image → sentence",
        "ranked by log P(w|I) - log P(w), P(w) the mean of P(w|I') over normaliser_images training images drawn with "
        "the seed (by log P(w|I) alone where that is 0)",
        headline=True,
    ),
    RankedBy("image_to_sentence_raw", "Image → sentence, not normalised", "ranked by log P(w|I) alone"),
    RankedBy("image_to_sentence_per_word", "Image → sentence, per word", "ranked by log P(w|I) / (words + END)"),
    RankedBy("sentence_to_image", "Sentence → image", "ranked by log P(w|I)", headline=True),
    RankedBy("sentence_to_image_raw", "Sentence → image, not standardised", "ranked by the score alone"),
]
RECALLED = (1, 5, 10)  # K of the recalls that are reported
RSUM = "rsum"  # the sum of these recalls in both directions, under `retrieval` in metrics.json


GROUNDED = {  # key -> how the region is chosen and what is measured, in `grounding` of metrics.json; label
    "grounding_iou": ("corrected_iou", "iou", "Grounding, IoU ≥ 0.5"),
    "grounding_iou_plain": ("plain", "iou", "Grounding, IoU ≥ 0.5, plain"),
    "grounding_pointing": ("corrected_pointing", "pointing", "Grounding, pointing game"),
    "grounding_pointing_plain": ("plain", "pointing", "Grounding, pointing game, plain"),
}
GROUNDING = [
    Metric(
        key,
        label,
        1,
        "grounding",
        over_images.grounded(choice, measure),
        definition=f"percent of phrases, {measure} of the choice {choice} under `grounding`",
    )
    for key, (choice, measure, label) in GROUNDED.items()
]


def recall_columns() -> dict[str, str]:
    """The columns of retrieval tables: key within a direction of metrics.json -> label."""
    return {**{f"R@{k}": f"R@{k}" for k in RECALLED}, "median_rank": "median rank", "mean_rank": "mean rank"}


def retrieval_metrics() -> Iterator[Metric]:
    """The headline numbers of retrieval; their keys are 'direction column', and RSUM."""
    headline = [ranking for ranking in RANKINGS if ranking.headline]
    for ranking in headline:
        key, label = ranking.key, ranking.label
        for k in RECALLED:
            yield Metric(f"{key} R@{k}", f"{label}, R@{k}", 1, "ranks", over_images.recall(key, k))
        yield Metric(
            f"{key} median_rank",
            f"{label}, median rank",
            1,
            "ranks",
            over_images.median_rank(key),
            lower_is_better=True,
        )
        yield Metric(
            f"{key} mean_rank", f"{label}, mean rank", 1, "ranks", over_images.mean_rank(key), lower_is_better=True
        )
    yield Metric(
        RSUM,
        "rsum",
        1,
        "ranks",
        over_images.total([over_images.recall(ranking.key, k) for ranking in headline for k in RECALLED]),
        definition="sum of R@1, R@5 and R@10 (percent) of image_to_sentence and sentence_to_image; 600 is the maximum",
    )


def rsum(recalls: Mapping[str, Mapping[str, float]]) -> float:
    """RSUM from the recalls by direction, as under `retrieval` in metrics.json."""
    return sum(recalls[ranking.key][f"R@{k}"] for ranking in RANKINGS if ranking.headline for k in RECALLED)


def headline_metrics() -> list[Metric]:
    """All rows that have intervals and stand in comparisons, in the order of tables."""
    return [*PERPLEXITIES, *CAPTION_SCORES, *retrieval_metrics(), *GROUNDING, *region_metrics()]


def region_metrics() -> Iterator[Metric]:
    """The headline numbers of the captions of regions: the caption scores under other keys."""
    for row in CAPTION_SCORES:
        bleu = row.key.removeprefix("Bleu_")
        statistic = over_images.regions_bleu(int(bleu)) if bleu.isdigit() else over_images.regions_mean(row.key)
        yield replace(
            row,
            key=f"region_{row.key}",
            label=f"Regions, {row.label}",
            group="regions",
            statistic=statistic,
            definition="",
            defined_as="",
            score=None,
        )


def metric_of(key: str) -> Metric:
    """The row of a headline number. Raises KeyError for a key that has none."""
    return {metric.key: metric for metric in headline_metrics()}[key]


def value_of(metrics: Mapping[str, Any], key: str) -> float:
    """A headline number in the content of metrics.json: 'perplexity', 'sentence_to_image R@1', 'rsum'."""
    group, _, inner = key.partition(" ")
    if key == RSUM:
        return float(metrics["retrieval"][RSUM])
    return float(metrics["retrieval"][group][inner] if inner else metrics[key])


def definitions() -> dict[str, str]:
    """The definitions of all rows, for metrics.json."""
    rows = {metric.defined_as or metric.key: metric.definition for metric in headline_metrics() if metric.definition}
    return rows | {ranking.key: ranking.definition for ranking in RANKINGS}


def to_cite(scores: Mapping[str, Any], facts: Mapping[str, Any]) -> Mapping[str, Any]:
    """The caption scores to cite: those on coco-caption's PTB tokens, as the literature computes them.

    scores : on plain words, as at the top level of metrics.json or under `greedy`
    facts : where `ptb` is, `generation` or `greedy` of metrics.json

    Without scores on PTB tokens (an older file, or references of punctuation alone) those on the model's words.
    """
    return facts.get("ptb") or scores


def pool_size(retrieval: Mapping[str, Any]) -> str:
    """Images x sentences of `retrieval` in metrics.json, as '1,000 x 5,000'; of several pools the first's."""
    images, sentences = (np.atleast_1d(retrieval[name]) for name in ("images", "sentences"))
    return f"{f'{len(images)} pools of ' if len(images) > 1 else ''}{images[0]:,} x {sentences[0]:,}"

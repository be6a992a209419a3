"""Two systems on the same images: differences of every headline number with a paired bootstrap, and where they differ.

Pure: the records of two evaluations (mrnn.evaluate.per_image) in, a `Comparison` out. Both systems are taken over the
images that both were measured on, and every resample draws the same images for both, so what the two share (hard
images, easy ones) cancels in the difference.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mrnn.evaluate.metrics.bootstrap import RESAMPLES, interval, p_value, resample
from mrnn.evaluate.per_image import GROUPS, Record, headline_statistics

LOWER_IS_BETTER = ("perplexity", "perplexity_known", "image_to_sentence median_rank", "sentence_to_image median_rank")


@dataclass(frozen=True)
class Difference:
    """A number of both systems over `images` shared images; difference is b - a.

    low, high : its bootstrap interval. p : two-sided, of its sign; see mrnn.evaluate.metrics.bootstrap. One p value for
    each number: they are not corrected for being many.
    """

    name: str
    images: int
    a: float
    b: float
    difference: float
    low: float
    high: float
    p: float

    @property
    def better(self) -> str:
        """'a' or 'b' where the interval leaves out 0, else ''."""
        if self.low <= 0 <= self.high:
            return ""
        return "b" if (self.difference > 0) != (self.name in LOWER_IS_BETTER) else "a"


@dataclass(frozen=True)
class Example:
    """An image that the systems differ on; a, b : its value by the measure."""

    image_id: int | str
    a: float
    b: float
    caption_a: str
    caption_b: str
    references: Sequence[str]


@dataclass(frozen=True)
class Comparison:
    """differences : in the order of GROUPS. examples : by measure ('CIDEr', 'rank', 'bits'), largest gap first.

    shared : images in both. only_a, only_b : images in one of them. notes : what was not compared, and why.
    """

    differences: Sequence[Difference]
    examples: Mapping[str, Sequence[Example]]
    shared: int
    only_a: int
    only_b: int
    notes: Sequence[str] = field(default=())


def compare(
    a: Sequence[Record],
    b: Sequence[Record],
    *,
    generator: np.random.Generator,
    resamples: int = RESAMPLES,
    examples: int = 5,
    without: Mapping[str, str] | None = None,
) -> Comparison:
    """Compare the records of two evaluations of one split.

    examples : images to name for each measure. without : groups (keys of GROUPS) that cannot be compared, and why.
    Raises ValueError if they share no image, or hold different sentences for one.
    """
    without = dict(without or {})
    in_b = {record["image_id"]: record for record in b}
    pairs = [(record, in_b[record["image_id"]]) for record in a if record["image_id"] in in_b]
    if not pairs:
        raise ValueError("they have no image in common")
    for first, second in pairs:
        if first["references"] != second["references"]:
            raise ValueError(f"they hold different sentences for the image {first['image_id']!r}")
    differences = []
    for group in GROUPS:
        both = [pair for pair in pairs if group in pair[0] and group in pair[1]]
        if group in without:
            continue
        if not both:
            without[group] = "not measured in both"
            continue
        differences += _differences(both, group, generator=generator, resamples=resamples)
    return Comparison(
        differences,
        {name: _largest(pairs, name, examples) for name, (group, _) in MEASURES.items() if group not in without},
        shared=len(pairs),
        only_a=len(a) - len(pairs),
        only_b=len(b) - len(pairs),
        notes=[f"{LABELS[group]} left out: {why}" for group, why in without.items()],
    )


def _differences(
    pairs: Sequence[tuple[Record, Record]], group: str, *, generator: np.random.Generator, resamples: int
) -> list[Difference]:
    statistics = {
        (system, name): statistic
        for system, records in zip("ab", zip(*pairs, strict=True), strict=True)
        for name, statistic in headline_statistics(records, group).items()
    }
    once = {key: float(statistic(np.ones((1, len(pairs))))[0]) for key, statistic in statistics.items()}
    drawn = resample(statistics, len(pairs), generator=generator, resamples=resamples)
    found = []
    for name in (name for system, name in statistics if system == "a"):
        first, second = once["a", name], once["b", name]
        gaps = drawn["b", name] - drawn["a", name]
        found.append(Difference(name, len(pairs), first, second, second - first, *interval(gaps), p_value(gaps)))
    return found


def _bits(record: Record) -> float:
    """Bits a word of the image's sentences."""
    return float(record["perplexity"]["bits"] / record["perplexity"]["targets"])


def _cider(record: Record) -> float:
    return float(record["scores"]["CIDEr"])


def _rank(record: Record) -> float:
    """Rank of the first of its own sentences."""
    return float(record["ranks"]["image_to_sentence"])


LABELS = {"perplexity": "perplexity", "scores": "caption scores", "ranks": "retrieval"}
MEASURES: dict[str, tuple[str, Any]] = {
    "CIDEr": ("scores", _cider),
    "rank": ("ranks", _rank),
    "bits": ("perplexity", _bits),
}


def _largest(pairs: Sequence[tuple[Record, Record]], measure: str, count: int) -> list[Example]:
    """The images with the largest gaps by a measure; those of ranks are ratios (1 to 10 is more than 500 to 600)."""
    group, value = MEASURES[measure]
    found = []
    for first, second in pairs:
        if group in first and group in second:
            a, b = value(first), value(second)
            gap = abs(np.log(a / b)) if measure == "rank" else abs(a - b)
            said, other = (str(record.get("caption", "")) for record in (first, second))
            found.append((gap, Example(first["image_id"], a, b, said, other, tuple(first["references"]))))
    found.sort(key=lambda pair: -pair[0])
    return [example for gap, example in found[:count] if gap > 0]

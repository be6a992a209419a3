"""Two systems on the same images: differences of every headline number with a paired bootstrap, and where they differ.

Pure: the records of two evaluations (mrnn.evaluate.per_image) in, a `Comparison` out. Both systems are measured over
the images that both have, and every resample draws the same images for both, so what the two share (hard images, easy
ones) cancels in the difference.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from mrnn.evaluate.metrics import names
from mrnn.evaluate.metrics.bootstrap import RESAMPLES, interval, p_value, resample
from mrnn.evaluate.per_image import Record, bits_per_word, headline_statistics


@dataclass(frozen=True)
class Difference:
    """A headline number of both systems over the images that they share.

    name : key of the number
    images : how many images it was measured on
    a, b : its values
    difference : b - a
    low, high : bootstrap interval of the difference
    p : two-sided p-value of its sign (mrnn.evaluate.metrics.bootstrap), not corrected for the number of rows
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
        return "b" if (self.difference > 0) != names.metric_of(self.name).lower_is_better else "a"


@dataclass(frozen=True)
class Example:
    """An image that the systems differ on; a, b : its values by the measure."""

    image_id: int | str
    a: float
    b: float
    caption_a: str
    caption_b: str
    references: Sequence[str]


@dataclass(frozen=True)
class Comparison:
    """What two systems differ in.

    differences : of every headline number, in the order of names.headline_metrics
    examples : by measure, a key of MEASURES, the images with the largest gap first
    shared : images in both
    only_a, only_b : images in one of them
    notes : what was not compared, and why
    """

    differences: Sequence[Difference]
    examples: Mapping[str, Sequence[Example]]
    shared: int
    only_a: int
    only_b: int
    notes: Sequence[str] = field(default=())


@dataclass(frozen=True)
class Measure:
    """What one image is compared by.

    group : the field of a record that it needs, a key of names.GROUPS
    label : for people
    value : of a record
    by_ratio : whether gaps are ratios: of ranks, 1 to 10 is more than 500 to 600
    """

    group: str
    label: str
    value: Callable[[Record], float]
    by_ratio: bool = False


MEASURES = {
    names.MAIN_SCORE: Measure(
        "scores",
        f"{names.metric_of(names.MAIN_SCORE).label} of the caption",
        lambda record: float(record["scores"][names.MAIN_SCORE]),
    ),
    "rank": Measure(
        "ranks",
        "rank of the image's first own sentence",
        lambda record: float(record["ranks"]["image_to_sentence"]),
        by_ratio=True,
    ),
    "bits": Measure("perplexity", "bits per word of the image's sentences", bits_per_word),
}


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

    a, b : the records
    generator : of the bootstrap
    resamples : bootstrap draws
    examples : images to name for each measure
    without : groups (keys of names.GROUPS) that cannot be compared, and why

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
    for group in names.GROUPS:
        both = [pair for pair in pairs if group in pair[0] and group in pair[1]]
        if group in without:
            continue
        if not both:
            without[group] = "not measured in both"
            continue
        differences += _differences(both, group, generator=generator, resamples=resamples)
    return Comparison(
        differences,
        {
            name: _largest(pairs, measure, examples)
            for name, measure in MEASURES.items()
            if measure.group not in without
        },
        shared=len(pairs),
        only_a=len(a) - len(pairs),
        only_b=len(b) - len(pairs),
        # What neither measured, such as the grounding of models without regions, needs no note.
        notes=[
            f"{names.GROUPS[group]} left out: {why}"
            for group, why in without.items()
            if any(group in record for pair in pairs for record in pair)
        ],
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
    # One call for both systems: each resample then draws the same images for a and for b.
    drawn = resample(statistics, len(pairs), generator=generator, resamples=resamples)
    found = []
    for name in (name for system, name in statistics if system == "a" and ("b", name) in statistics):
        first, second = once["a", name], once["b", name]
        gaps = drawn["b", name] - drawn["a", name]
        found.append(Difference(name, len(pairs), first, second, second - first, *interval(gaps), p_value(gaps)))
    return found


def _largest(pairs: Sequence[tuple[Record, Record]], measure: Measure, count: int) -> list[Example]:
    """The images with the largest gaps by a measure."""
    found = []
    for first, second in pairs:
        if measure.group in first and measure.group in second:
            a, b = measure.value(first), measure.value(second)
            gap = abs(np.log(a / b)) if measure.by_ratio else abs(a - b)
            said, other = (str(record.get("caption", "")) for record in (first, second))
            found.append((gap, Example(first["image_id"], a, b, said, other, tuple(first["references"]))))
    found.sort(key=lambda pair: -pair[0])
    return [example for gap, example in found[:count] if gap > 0]

"""Two systems on the same images as a page: the differences with their intervals, then every shared image with both
captions, those that differ most first.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import log2
from typing import Any

from mrnn.evaluate.metrics import names
from mrnn.evaluate.per_image import Record
from mrnn.evaluate.report.cards import Card, Said, Score
from mrnn.evaluate.report.page import Page, section, text
from mrnn.evaluate.report.pictures import Pictures, thumbnails
from mrnn.evaluate.report.sections import navigation
from mrnn.evaluate.studies.comparison import MEASURES, Comparison, Difference

MAIN = names.metric_of(names.MAIN_SCORE)
KEY = MAIN.key.lower()
SCORES = (
    Score(f"{KEY}_gap", f"gap in {MAIN.label}"),
    Score(KEY, f"{MAIN.label}, B − A"),
    Score(f"{KEY}_a", f"{MAIN.label} of A"),
    Score(f"{KEY}_b", f"{MAIN.label} of B"),
    Score("rank_gap", "gap in rank, factor", 1),
    Score("rank", "rank of its sentence, log2 A / B"),
    Score("rank_a", "rank of A", 0, lower_is_better=True),
    Score("rank_b", "rank of B", 0, lower_is_better=True),
    Score("bits", "bits per word, A − B"),
)


@dataclass(frozen=True)
class System:
    """One of the two: a name, and the content of its per_image.jsonl and metrics.json."""

    name: str
    records: Sequence[Record]
    metrics: Mapping[str, Any]


def comparison_page(comparison: Comparison, a: System, b: System, *, pictures: Pictures) -> Page:
    """What the page shows; of the images, those that both systems were measured on."""
    in_b = {record["image_id"]: record for record in b.records}
    pairs = [(record, in_b[record["image_id"]]) for record in a.records if record["image_id"] in in_b]
    small = thumbnails([pictures.file(first["path"]) if "path" in first else None for first, _ in pairs])
    cards = [_card(*pair, picture) for pair, picture in zip(pairs, small, strict=True)]
    shown = {key for card in cards for key in card.scores}
    alone = f" ({comparison.only_a:,} only in A, {comparison.only_b:,} only in B)"
    return Page(
        title=f"{a.metrics.get('dataset', '?')} {a.metrics.get('split', '')}: {a.name} and {b.name}",
        notes=[
            f"A is {a.name}, B is {b.name}; {comparison.shared:,} shared images"
            + (f"{alone}." if comparison.only_a or comparison.only_b else "."),
            *comparison.notes,
            *pictures.missing([card.picture for card in cards]),
        ],
        sections=[
            navigation({"images": "Images", "run": "What was run"}),
            section("Differences", differences_table(comparison.differences)),
        ],
        cards=cards,
        scores=[score for score in SCORES if score.key in shown],
        systems=[f"A: {a.name}", f"B: {b.name}"],
        settings={f"{which}: {name}": value for which, s in (("A", a), ("B", b)) for name, value in _settings(s)},
    )


def differences_table(differences: Sequence[Difference]) -> str:
    """Every headline number of both, with the interval of the difference."""
    if not differences:
        return ""
    rows = []
    for row in differences:
        metric = names.metric_of(row.name)
        low, high = (metric.format(end, sign=True) for end in (row.low, row.high))
        cells = (
            metric.format(row.a),
            metric.format(row.b),
            f"{metric.format(row.difference, sign=True)}<small>{low} to {high}</small>",
            f"{row.p:.3f}",
            row.better.upper() or "–",
        )
        rows.append(f"<tr><th scope=row>{text(metric.label)}</th>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>")
    return (
        '<div class="wide"><table><thead><tr><th></th><th>A</th><th>B</th><th>B − A</th><th>p</th><th>better</th></tr>'
        f'</thead><tbody>{"".join(rows)}</tbody></table></div><p class="small">Below the difference is its 95 % '
        "interval over paired bootstrap resamples of the images. p is the two-sided p-value of its sign, not corrected "
        "for the number of rows. Caption scores are on plain words.</p>"
    )


def _card(a: Record, b: Record, picture: str) -> Card:
    scores: dict[str, float] = {}
    found = {
        name: (measure.value(a), measure.value(b))
        for name, measure in MEASURES.items()
        if measure.group in a and measure.group in b
    }
    if MAIN.key in found:
        first, second = found[MAIN.key]
        gap = second - first
        scores |= {f"{KEY}_gap": abs(gap), KEY: gap, f"{KEY}_a": first, f"{KEY}_b": second}
    if "rank" in found:
        first, second = found["rank"]
        gap = log2(first / second)
        scores |= {"rank_gap": 2 ** abs(gap), "rank": gap, "rank_a": first, "rank_b": second}
    if "bits" in found:
        first, second = found["bits"]
        scores["bits"] = first - second
    said = [Said(words=str(record.get("caption", "")).split()) for record in (a, b)]
    return Card(str(a["image_id"]), picture, a["references"], said, scores)


def _settings(system: System) -> list[tuple[str, Any]]:
    names = ("checkpoint", "decoding", "features")
    return [(name, system.metrics[name]) for name in names if name in system.metrics]

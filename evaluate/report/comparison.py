"""Two systems on the same images as a page: the differences with their intervals, then every shared image with what
both said of it, the pictures that differ most first.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import log2
from typing import Any

from mrnn.evaluate.per_image import Record
from mrnn.evaluate.report.cards import Card, Said, Score
from mrnn.evaluate.report.page import Page, section, text
from mrnn.evaluate.report.pictures import Pictures, thumbnails
from mrnn.evaluate.report.sections import navigation
from mrnn.evaluate.studies.comparison import Comparison, Difference

SCORES = (
    Score("cider_gap", "gap in CIDEr"),
    Score("cider", "CIDEr, B − A"),
    Score("cider_a", "CIDEr of A"),
    Score("cider_b", "CIDEr of B"),
    Score("rank_gap", "gap in rank, factor", 1),
    Score("rank", "rank of its sentence, log2 A / B"),
    Score("rank_a", "rank of A", 0, lower_is_better=True),
    Score("rank_b", "rank of B", 0, lower_is_better=True),
    Score("bits", "bits a word, A − B"),
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
        digits = 1 if " " in row.name else 2 if row.name.startswith("perplexity") else 3
        cells = (
            f"{row.a:.{digits}f}",
            f"{row.b:.{digits}f}",
            f"{row.difference:+.{digits}f}<small>{row.low:+.{digits}f} to {row.high:+.{digits}f}</small>",
            f"{row.p:.3f}",
            row.better.upper() or "–",
        )
        name = text(row.name.replace("_", " "))
        rows.append(f"<tr><th scope=row>{name}</th>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>")
    return (
        '<div class="wide"><table><thead><tr><th></th><th>A</th><th>B</th><th>B − A</th><th>p</th><th>better</th></tr>'
        f'</thead><tbody>{"".join(rows)}</tbody></table></div><p class="small">Below the difference: 95 % of paired '
        "bootstrap resamples of the images lie between. p is of its sign, two-sided, not corrected for the number of "
        "rows.</p>"
    )


def _card(a: Record, b: Record, picture: str) -> Card:
    scores: dict[str, float] = {}
    if "scores" in a and "scores" in b:
        first, second = a["scores"]["CIDEr"], b["scores"]["CIDEr"]
        scores |= {"cider_gap": abs(second - first), "cider": second - first, "cider_a": first, "cider_b": second}
    if "ranks" in a and "ranks" in b:
        first, second = a["ranks"]["image_to_sentence"], b["ranks"]["image_to_sentence"]
        gap = log2(first / second)
        scores |= {"rank_gap": 2 ** abs(gap), "rank": gap, "rank_a": first, "rank_b": second}
    if "perplexity" in a and "perplexity" in b:
        first, second = (record["perplexity"]["bits"] / record["perplexity"]["targets"] for record in (a, b))
        scores["bits"] = first - second
    said = [Said(words=str(record.get("caption", "")).split()) for record in (a, b)]
    return Card(str(a["image_id"]), picture, a["references"], said, scores)


def _settings(system: System) -> list[tuple[str, Any]]:
    names = ("checkpoint", "decoding", "features")
    return [(name, system.metrics[name]) for name in names if name in system.metrics]

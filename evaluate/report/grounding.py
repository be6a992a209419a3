"""The section of the report about grounding: how many phrases find their region, by kind, and how it was corrected."""

from collections.abc import Iterable, Mapping
from typing import Any

from mrnn.evaluate.report.page import section, text

MEASURES = {"iou": "IoU ≥ 0.5", "pointing": "pointing game"}
CHOICES = {
    "plain": "plain (Eq. 8)",
    "corrected_iou": "corrected for IoU",
    "corrected_pointing": "corrected for pointing",
    "wordless_iou": "for IoU, regions alone",
    "wordless_pointing": "for pointing, regions alone",
    "random": "random region",
    "whole": "whole picture",
    "best_scored": "detector’s best",
    "ceiling": "ceiling",
}


def grounding_lines(grounding: Mapping[str, Any]) -> list[str]:
    """A table for the terminal: a line for each way to choose a region, percent of all phrases."""
    regions, phrases = grounding["regions"], grounding["phrases"]["all"]
    title = f"grounding, {phrases:,} phrases, {regions} regions"
    lines = [f"{title:<44}" + "".join(f"{label:>15}" for label in MEASURES.values())]
    for choice, found in _choices(grounding).items():
        lines.append(f"{CHOICES[choice]:<44}" + "".join(f"{found[measure]['all']:15.1f}" for measure in MEASURES))
    return lines


def grounding_section(grounding: Mapping[str, Any] | None) -> str:
    """Tables by kind of phrase and the coefficients, each with what it brought; '' without a measurement."""
    if not grounding:
        return ""
    intro = (
        '<p class="small">Percent of the phrases with a known box whose region is right, by kind of phrase. IoU: '
        "intersection over union of region and box is at least 0.5. Pointing game: the region’s centre lies in the "
        "box. Plain is the region with the largest score of the phrase’s words; the corrections are below. "
        f"{grounding['left_out']:,} further phrases belong to no sentence of the cache and were left out.</p>"
    )
    tables = "".join(_by_kind(grounding, measure) for measure in MEASURES)
    return section("Grounding", intro + tables + _coefficients(grounding["search"]), name="grounding")


def _choices(grounding: Mapping[str, Any]) -> dict[str, Any]:
    """Those of CHOICES that were measured, in their order."""
    return {choice: grounding["choices"][choice] for choice in CHOICES if choice in grounding["choices"]}


def _by_kind(grounding: Mapping[str, Any], measure: str) -> str:
    choices = _choices(grounding)
    rows = (
        [kind, f"{count:,}", *(f"{found[measure][kind]:.1f}" for found in choices.values())]
        for kind, count in grounding["phrases"].items()
    )
    return _table(MEASURES[measure], ["phrases of kind", "number", *(CHOICES[choice] for choice in choices)], rows)


def _coefficients(search: Mapping[str, Any]) -> str:
    rows = (
        [name, *(cell for found in search.values() for cell in _effect(found, name))]
        for name in next(iter(search.values()))["coefficients"]
    )
    heads = [head for measure in search for head in (f"for {MEASURES[measure]}", "percent without it")]
    each = "; ".join(
        f"{MEASURES[measure]} {found['plain']:.1f} plain, {found['corrected']:.1f} corrected"
        for measure, found in search.items()
    )
    return _table("Corrections", ["coefficient", *heads], rows) + (
        f'<p class="small">Chosen on the phrases of the dev split, where they give: {text(each)}.</p>'
    )


def _effect(found: Mapping[str, Any], name: str) -> tuple[str, str]:
    """A coefficient, and the share on the dev split without it; '' where it is 0."""
    value, without = found["coefficients"][name], found["without"].get(name)
    return f"{value:g}", "" if without is None else f"{without:.1f}"


def _table(title: str, heads: list[str], rows: Iterable[list[str]]) -> str:
    """A table whose first column names the row."""
    head = "".join(f"<th>{text(each)}</th>" for each in heads)
    body = "".join(
        f"<tr><th scope=row>{text(first)}</th>{''.join(f'<td>{text(cell)}</td>' for cell in cells)}</tr>"
        for first, *cells in rows
    )
    return (
        f'<h3>{text(title)}</h3><div class="wide"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )

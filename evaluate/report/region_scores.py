"""The scores of captions of regions, as a table for the terminal and for a page."""

from collections.abc import Mapping
from typing import Any

from mrnn.evaluate.metrics import names
from mrnn.evaluate.report.page import text

ROWS = {
    "model": "model",
    "people": "people: one phrase against the others’",
    "beside_people": "model, the same regions and references",
}


def region_lines(regions: Mapping[str, Any]) -> list[str]:
    """A table for the terminal: a line for the model, for people, and for the model measured as people are."""
    title = f"captions of {regions['regions']:,} regions"
    lines = [f"{title:<44}" + "".join(f"{row.label:>9}" for row in names.CAPTION_SCORES)]
    for key, label in ROWS.items():
        if key in regions:
            cells = (f"{row.format(regions[key][row.key]):>9}" for row in names.CAPTION_SCORES)
            lines.append(f"{label:<44}" + "".join(cells))
    return lines


def score_table(regions: Mapping[str, Any]) -> str:
    """The same as HTML."""
    head = "".join(f"<th>{text(row.label)}</th>" for row in names.CAPTION_SCORES)
    body = "".join(
        f"<tr><th scope=row>{text(label)}</th>"
        + "".join(f"<td>{row.format(regions[key][row.key])}</td>" for row in names.CAPTION_SCORES)
        + "</tr>"
        for key, label in ROWS.items()
        if key in regions
    )
    return f'<div class="wide"><table><thead><tr><th></th>{head}</tr></thead><tbody>{body}</tbody></table></div>'

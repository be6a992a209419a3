"""The contact sheet of a search: what was asked, and the pictures that were found, the best first."""

from collections.abc import Sequence
from dataclasses import dataclass

from mrnn.evaluate.report.page import Page, section, text


@dataclass(frozen=True)
class Hit:
    """One picture of the sheet: a data URI or '' for picture, and lines of text below its title."""

    title: str
    picture: str
    lines: Sequence[str]


def contact_sheet(title: str, notes: Sequence[str], hits: Sequence[Hit], *, asked: str = "") -> Page:
    """asked : data URI of the picture that was asked with, or ''."""
    question = f'<section><img class="asked-with" src="{text(asked)}" alt="the picture asked with"></section>'
    found = section("Found", f'<div class="gallery sheet">{"".join(map(_card, hits))}</div>')
    return Page(title, [], notes=notes, sections=[question if asked else "", found])


def _card(hit: Hit) -> str:
    picture = f'<img src="{text(hit.picture)}" alt="{text(hit.title)}" loading="lazy">'
    nothing = f'<div class="nothing">{text(hit.title)}, no picture</div>'
    lines = "".join(f"<p>{text(line)}</p>" for line in hit.lines)
    said = f'<div class="said"><h3>{text(hit.title)}</h3>{lines}</div>'
    return f"<article>{picture if hit.picture else nothing}{said}</article>"

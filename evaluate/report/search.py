"""The contact sheet of a search: the query and the pictures found, the best first."""

from collections.abc import Sequence
from dataclasses import dataclass

from mrnn.evaluate.report.page import Page, section, text


@dataclass(frozen=True)
class Hit:
    """One picture of the sheet.

    title : the name of the picture
    picture : data URI, or '' if the file was not found
    lines : text below the title
    """

    title: str
    picture: str
    lines: Sequence[str]


def contact_sheet(title: str, notes: Sequence[str], hits: Sequence[Hit], *, asked: str = "") -> Page:
    """The page of a search.

    title, notes : what was searched for, and how
    hits : the pictures found, the best first
    asked : data URI of the query picture, or ''
    """
    question = f'<section><img class="asked-with" src="{text(asked)}" alt="the query picture"></section>'
    found = section("Found", f'<div class="gallery sheet">{"".join(map(_card, hits))}</div>')
    return Page(title, [], notes=notes, sections=[question if asked else "", found])


def _card(hit: Hit) -> str:
    picture = f'<img src="{text(hit.picture)}" alt="{text(hit.title)}" loading="lazy">'
    nothing = f'<div class="nothing">{text(hit.title)}, no picture</div>'
    lines = "".join(f"<p>{text(line)}</p>" for line in hit.lines)
    said = f'<div class="said"><h3>{text(hit.title)}</h3>{lines}</div>'
    return f"<article>{picture if hit.picture else nothing}{said}</article>"

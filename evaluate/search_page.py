"""The contact sheet of a search: one HTML file that opens from disk, as the report does (mrnn.evaluate.report)."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from mrnn.evaluate.report import PAGE, STYLE

SHEET = """
.gallery { grid-template-columns: repeat(auto-fill, minmax(min(100%, 260px), 1fr)) }
article { flex-direction: column } article img, .nothing { width: 100% } .said { width: 100% }
.query { max-width: 320px; border-radius: 8px; display: block; margin: 8px 0 }
"""


@dataclass(frozen=True)
class Hit:
    """One picture of the sheet: a data URI or '' for picture, and lines of text below its title."""

    title: str
    picture: str
    lines: Sequence[str]


def render_sheet(title: str, notes: Sequence[str], hits: Sequence[Hit], *, query: str = "") -> str:
    """The whole page. query : data URI of the picture that was asked with, or ''. All text is escaped here."""
    cards = []
    for hit in hits:
        picture = (
            f'<img src="{escape(hit.picture)}" alt="{escape(hit.title)}" loading="lazy">'
            if hit.picture
            else f'<div class="nothing">{escape(hit.title)}, no picture</div>'
        )
        lines = "".join(f"<p>{escape(line)}</p>" for line in hit.lines)
        cards.append(f'<article>{picture}<div class="said"><h3>{escape(hit.title)}</h3>{lines}</div></article>')
    asked = f'<img class="query" src="{escape(query)}" alt="the picture asked with">' if query else ""
    body = [
        f"<header><h1>{escape(title)}</h1>{asked}",
        *(f'<p class="small">{escape(note)}</p>' for note in notes),
        f'</header><div class="gallery">{"".join(cards)}</div>',
    ]
    return PAGE.format(title=escape(title), style=STYLE + SHEET, body="\n".join(body))

"""One HTML file with everything in it: style, script, pictures and texts; it loads nothing.

Texts come from data files and users. What Python writes is escaped on its way in (`text`); what the gallery shows
travels as JSON in an inert block and becomes text nodes, never markup (script.js). The Content-Security-Policy allows
the page's own style and script by their hashes and data: pictures, so that a mistake there would still do nothing.
"""

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from html import escape
from importlib.resources import files
from typing import Any

from mrnn.evaluate.report.cards import Card, Question, Score, to_json


@dataclass(frozen=True)
class Page:
    """What a page shows, from top to bottom.

    cards : the gallery
    notes : sentences under the title
    sections, after : our own HTML before and after the gallery
    scores : what the gallery can be sorted by
    questions : sentences that look for an image among the cards
    systems : names of the systems that the captions of a card come from, where there are several
    settings : names and values at the end; values that are mappings unfold
    style : CSS of this kind of page
    """

    title: str
    cards: Sequence[Card]
    notes: Sequence[str] = ()
    sections: Sequence[str] = ()
    after: Sequence[str] = ()
    scores: Sequence[Score] = ()
    questions: Sequence[Question] = ()
    systems: Sequence[str] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    style: str = ""


def text(value: object) -> str:
    """Any value as text of an HTML page."""
    return escape(str(value), quote=True)


def section(title: str, body: str, *, name: str = "") -> str:
    """A section of the page; `name` is what links lead to. '' without a body."""
    anchor = f' id="{name}"' if name else ""
    return f"<section{anchor}><h2>{text(title)}</h2>{body}</section>" if body else ""


def render(page: Page) -> str:
    """The whole file."""
    style, script = asset("style.css") + page.style, asset("script.js")
    body = [
        f"<header><h1>{text(page.title)}</h1>",
        *(f"<p>{text(note)}</p>" for note in page.notes),
        "</header><noscript><p>The gallery needs JavaScript; the numbers do not.</p></noscript>",
        *page.sections,
        gallery(page) if page.cards else "",
        *page.after,
        settings_section(page.settings),
    ]
    policy = f"default-src 'none'; img-src data:; style-src {_hash(style)}; script-src {_hash(script)}"
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        f"<title>{text(page.title)}</title><style>{style}</style></head>\n<body><main>\n"
        + "\n".join(filter(None, body))
        + f'\n</main>\n<script type="application/json" id="data">{_data(page)}</script>\n'
        f"<script>{script}</script></body></html>\n"
    )


@cache
def asset(name: str) -> str:
    """The content of a file beside this module."""
    return files("mrnn.evaluate.report").joinpath(name).read_text(encoding="utf-8")


def _hash(content: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"


def _data(page: Page) -> str:
    """The JSON of the gallery. `<` is written as an escape, so nothing in it can end its block."""
    content = to_json(page.cards, page.scores, page.questions, page.systems)
    return json.dumps(content, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")


def gallery(page: Page) -> str:
    """The empty gallery with its tools; script.js fills it from the JSON."""
    explained = any(said.parts is not None for card in page.cards for said in card.said)
    colour = f'<fieldset class="colours"><legend>Colour of the words</legend>{COLOURS}</fieldset>' if explained else ""
    return section(
        "Images",
        f'{EXPLANATION if explained else ""}<form class="tools" id="tools" role="search">'
        '<label class="grow">Search <input type="search" id="search" '
        'placeholder="words in captions, references, names"></label><label>Sort by <select id="sort"></select></label>'
        '<label>Order <select id="order"><option value="down">highest first</option>'
        '<option value="up">lowest first</option></select></label>'
        '<fieldset class="range" id="range"><legend>Only values</legend>'
        '<label>from <input id="from" type="number" step="any"></label>'
        f'<label>to <input id="to" type="number" step="any"></label></fieldset>{colour}</form>'
        '<p class="small" id="count" aria-live="polite"></p><div class="gallery" id="gallery"></div>'
        '<p class="more"><button type="button" id="more">Show more</button></p>',
        name="images",
    )


def settings_section(settings: Mapping[str, Any], *, title: str = "What was run") -> str:
    """Names and values; values that are mappings are groups to unfold."""
    plain = {name: value for name, value in settings.items() if not isinstance(value, Mapping)}
    groups = [(name, value) for name, value in settings.items() if isinstance(value, Mapping) and value]
    body = _table(plain) if plain else ""
    body += "".join(f"<details><summary>{text(name)}</summary>{_table(values)}</details>" for name, values in groups)
    return section(title, body, name="run")


def _table(values: Mapping[str, Any]) -> str:
    rows = "".join(f"<tr><th scope=row>{text(name)}</th><td>{text(value)}</td></tr>" for name, value in values.items())
    return f'<div class="wide"><table class="settings">{rows}</table></div>'


EXPLANATION = """<p class="small">The number under each word of a caption is its probability in percent, given the image
and the words before it. The colour shows how the image changed that probability: <span class="key up">raised</span> or
<span class="key down">lowered</span> it, compared with what the words before it predict alone. You can also colour by
what the words before it contribute, compared with how frequent the word is. The stronger the colour, the greater the
factor. Click a word to see its numbers.</p>"""

COLOURS = "".join(
    f'<label><input type="radio" name="colour" value="{value}"{checked}> {label}</label>'
    for value, label, checked in (
        ("image", "by the image", " checked"),
        ("words", "by the words before it", ""),
        ("probability", "by probability", ""),
    )
)

"""The report: one HTML file that opens from disk, without network, scripts or other files.

Everything that comes from data files or users is escaped on its way in (`_text`); the Content-Security-Policy of the
page forbids scripts and loading anything, so that a mistake there would still do nothing.
"""

import base64
import io
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from math import exp
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps

GALLERY = 200  # pictures shown at most
THUMBNAIL = 320  # pixels of the longer side
MAX_PIXELS = 100_000_000


@dataclass(frozen=True)
class Card:
    """One image of the gallery.

    picture : data URI, or '' if the picture was not found. words : of our caption with natural log-probabilities.
    ends : it ended by itself. retrieved : sentences found for it, best first, and whether each is its own.
    rank : of its first own sentence.
    """

    image_id: str
    picture: str = ""
    references: Sequence[str] = ()
    words: Sequence[tuple[str, float]] = ()
    ends: bool = True
    retrieved: Sequence[tuple[str, bool]] = ()
    rank: int | None = None


@dataclass(frozen=True)
class Report:
    """What a report shows. notes : sentences under the headline. curve : SVG of ours, or ''."""

    title: str
    metrics: Mapping[str, Any]
    cards: Sequence[Card]
    notes: Sequence[str] = ()
    curve: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)


def thumbnail(path: Path) -> str:
    """A small JPEG of a picture as a data URI; '' if there is none, or it cannot be decoded within MAX_PIXELS."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # remarks of the decoder on odd files, too-large pictures among them
            with Image.open(path) as picture:
                if picture.width * picture.height > MAX_PIXELS:
                    return ""
                picture.draft("RGB", (THUMBNAIL, THUMBNAIL))
                small = ImageOps.exif_transpose(picture).convert("RGB")
                small.thumbnail((THUMBNAIL, THUMBNAIL))
                stream = io.BytesIO()
                small.save(stream, "JPEG", quality=75)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):  # what Pillow's decoders raise
        return ""
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode()


def evenly(total: int, count: int) -> list[int]:
    """`count` of the numbers 0 .. total-1, spread evenly, 0 among them; all if there are no more."""
    count = min(count, total)
    return [i * total // count for i in range(count)]


def render(report: Report) -> str:
    """The whole page."""
    body = [
        f"<header><h1>{_text(report.title)}</h1>",
        *(f"<p>{_text(note)}</p>" for note in report.notes),
        "</header>",
        _headline(report.metrics),
        _retrieval_table(report.metrics.get("retrieval")),
    ]
    if report.curve:
        body.append(
            '<section><h2>Training</h2><p class="small">Bits per word: <span class="key train">training batches</span> '
            f'(with dropout), <span class="key val">validation</span> after each epoch.</p>{report.curve}</section>'
        )
    if report.cards:
        body.append(
            "<section><h2>Images</h2>"
            '<p class="small">Under each word of our caption: its probability in percent, given the image and the '
            "words before it. The darker, the surer. ✓ marks a retrieved sentence that belongs to the image.</p>"
            f'<div class="gallery">{"".join(map(_card, report.cards))}</div></section>'
        )
    body.append(_settings(report.settings))
    return PAGE.format(title=_text(report.title), style=STYLE, body="\n".join(body))


def _text(value: object) -> str:
    return escape(str(value), quote=True)


def _headline(metrics: Mapping[str, Any]) -> str:
    names = ["perplexity", *(f"Bleu_{n}" for n in range(1, 5)), "ROUGE_L", "CIDEr"]
    greedy = metrics.get("greedy") or {}
    tiles = []
    for name in names:
        if name not in metrics:
            continue
        value = metrics[name]
        shown = f"{value:.2f}" if name == "perplexity" else f"{value:.3f}"
        below = f"{metrics['perplexity_known']:.2f} without &lt;unk&gt;" if name == "perplexity" else ""
        if name in greedy:
            below = f"greedy {greedy[name]:.3f}"
        label = name.replace("Bleu_", "BLEU-").replace("ROUGE_L", "ROUGE-L").replace("perplexity", "Perplexity")
        tiles.append(f"<div><dt>{label}</dt><dd>{shown}</dd><dd class=small>{below}</dd></div>")
    return f'<dl class="tiles">{"".join(tiles)}</dl>' if tiles else ""


def _retrieval_table(retrieval: Mapping[str, Any] | None) -> str:
    if not retrieval:
        return ""
    rows = [
        ("Image → sentence", "image_to_sentence"),
        ("Image → sentence, not normalised", "image_to_sentence_raw"),
        ("Sentence → image", "sentence_to_image"),
    ]
    cells = "".join(
        f"<tr><th scope=row>{label}</th>"
        + "".join(f"<td>{retrieval[name][column]:.1f}</td>" for column in ("R@1", "R@5", "R@10", "median_rank"))
        + "</tr>"
        for label, name in rows
        if name in retrieval
    )
    return (
        "<section><h2>Retrieval</h2><div class=wide><table><thead><tr><th></th><th>R@1</th><th>R@5</th><th>R@10</th>"
        f"<th>median rank</th></tr></thead><tbody>{cells}</tbody></table></div></section>"
    )


def _card(card: Card) -> str:
    alt = f"{card.image_id}, no picture"
    picture = (
        f'<img src="{card.picture}" alt="{_text(card.image_id)}" loading="lazy">'
        if card.picture
        else f'<div class="nothing">{_text(alt)}</div>'
    )
    parts = [f'<article>{picture}<div class="said">']
    if card.words:
        words = "".join(_word(word, exp(log_prob)) for word, log_prob in card.words)
        cut = "" if card.ends else '<span class="small"> (cut)</span>'
        parts.append(f'<p class="caption">{words}{cut}</p>')
    if card.references:
        parts.append(_sentences("References", [(sentence, False) for sentence in card.references]))
    if card.retrieved:
        rank = "" if card.rank is None else f", first right one at rank {card.rank:,}"
        parts.append(_sentences(f"Retrieved{rank}", card.retrieved))
    parts.append(f'<p class="small id">{_text(card.image_id)}</p></div></article>')
    return "".join(parts)


def _word(word: str, probability: float) -> str:
    # five steps of a blue background, all light enough for dark text
    level = min(int(probability * 5), 4)
    percent = f"{100 * probability:.0f}" if probability >= 0.01 else "&lt;1"
    title = f"probability {probability:.4f}"
    return f'<span class="word p{level}" title="{title}">{_text(word)}<small>{percent}</small></span> '


def _sentences(title: str, sentences: Sequence[tuple[str, bool]]) -> str:
    items = "".join(
        f'<li class="right">{_text(sentence)} ✓</li>' if right else f"<li>{_text(sentence)}</li>"
        for sentence, right in sentences
    )
    return f"<h3>{_text(title)}</h3><ul>{items}</ul>"


def _settings(settings: Mapping[str, Any], *, title: str = "What was run") -> str:
    if not settings:
        return ""
    rows = []
    for name, value in settings.items():
        if isinstance(value, Mapping):
            inner = "".join(f"<tr><th scope=row>{_text(k)}</th><td>{_text(v)}</td></tr>" for k, v in value.items())
            rows.append(f'<tr><th scope=rowgroup colspan=2 class="group">{_text(name)}</th></tr>{inner}')
        else:
            rows.append(f"<tr><th scope=row>{_text(name)}</th><td>{_text(value)}</td></tr>")
    return f'<section><h2>{title}</h2><div class=wide><table class="settings">{"".join(rows)}</table></div></section>'


PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{title}</title><style>{style}</style></head>
<body><main>
{body}
</main></body></html>
"""

STYLE = """
:root { --ink: #1c2430; --soft: #5a6675; --line: #dde3ea; --paper: #fff; --ground: #f4f6f9; --train: #7a8aa0;
  --val: #c2410c; --right: #15703a }
* { box-sizing: border-box }
body { margin: 0; background: var(--ground); color: var(--ink); font: 16px/1.5 system-ui, sans-serif }
main { max-width: 1240px; margin: 0 auto; padding: 24px 16px 64px }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 0 8px } h2 { font-size: 1.2rem; margin: 32px 0 8px }
h3 { font-size: .8rem; color: var(--soft); font-weight: 600; margin: 12px 0 2px }
p { margin: 0 0 6px; overflow-wrap: anywhere } .small { font-size: .85rem; color: var(--soft) }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(130px, 1fr)); gap: 12px; margin: 20px 0 0 }
.tiles div { background: var(--paper); border: 1px solid var(--line); border-radius: 8px; padding: 10px 14px }
.tiles dt { color: var(--soft); font-size: .85rem } .tiles dd { margin: 0; font-size: 1.5rem; font-weight: 600 }
.tiles dd.small { font-size: .8rem; font-weight: 400; min-height: 1.2em }
.wide { overflow-x: auto }
table { border-collapse: collapse; background: var(--paper); border: 1px solid var(--line); font-size: .95rem }
th, td { padding: 6px 12px; text-align: right; border-top: 1px solid var(--line) }
th[scope=row], thead th:first-child { text-align: left; font-weight: 400 } thead th { color: var(--soft) }
.settings td { text-align: left; overflow-wrap: anywhere; min-width: 12em }
.settings th { vertical-align: top; color: var(--soft) }
.settings .group { text-align: left; color: var(--ink); font-weight: 600; background: var(--ground) }
svg { width: 100%; max-width: 760px; height: auto; background: var(--paper); border: 1px solid var(--line);
  border-radius: 8px } svg text { font-size: 12px; fill: var(--soft) } .grid { stroke: var(--line) }
polyline { fill: none; stroke-width: 1.5 } .train { stroke: var(--train) }
polyline.val { stroke: var(--val); stroke-width: 2 }
circle.val { fill: var(--val) } .key::before { content: ""; display: inline-block; width: 18px; height: 3px;
  margin-right: 6px; vertical-align: middle } .key.train::before { background: var(--train) }
.key.val::before { background: var(--val) }
.gallery { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 560px), 1fr)); gap: 16px }
article { background: var(--paper); border: 1px solid var(--line); border-radius: 8px; padding: 14px; display: flex;
  gap: 16px; align-items: flex-start } article img, .nothing { width: 200px; flex: none; border-radius: 4px }
.nothing { background: var(--ground); color: var(--soft); font-size: .8rem; padding: 40px 10px; text-align: center;
  overflow-wrap: anywhere } .said { min-width: 0; flex: 1 } .caption { font-size: 1.05rem; line-height: 1.2 }
.word { display: inline-block; text-align: center; padding: 2px 5px 1px; margin: 0 0 3px; border-radius: 4px }
.word small { display: block; font-size: .65rem; color: #45526a } .p3 small, .p4 small { color: #24344e }
.p0 { background: #f1f4f9 } .p1 { background: #dde9fa } .p2 { background: #c5dbf8 } .p3 { background: #a9cbf5 }
.p4 { background: #8dbaf2 }
ul { margin: 0; padding-left: 18px; font-size: .92rem; overflow-wrap: anywhere }
.right { color: var(--right); font-weight: 600 }
.id { margin-top: 10px; font-size: .75rem; overflow-wrap: anywhere }
@media (max-width: 560px) {
  svg text { font-size: 17px }
  article { flex-direction: column } article img, .nothing { width: 100% } .said { width: 100% }
}
"""

"""Sections of the report that hold numbers: headline, retrieval table, training curve, rank histogram, perplexity."""

from collections.abc import Mapping, Sequence
from typing import Any

from mrnn.evaluate.report.charts import rank_histogram
from mrnn.evaluate.report.page import section, text
from mrnn.evaluate.retrieval.ranking import pool_size

HEADLINE = ("perplexity", "Bleu_1", "Bleu_2", "Bleu_3", "Bleu_4", "ROUGE_L", "CIDEr")
LABELS = {"perplexity": "Perplexity", "ROUGE_L": "ROUGE-L", **{f"Bleu_{n}": f"BLEU-{n}" for n in range(1, 5)}}
DIRECTIONS = {
    "image_to_sentence": "Image → sentence",
    "image_to_sentence_raw": "Image → sentence, not normalised",
    "sentence_to_image": "Sentence → image",
}
COLUMNS = ("R@1", "R@5", "R@10", "median_rank")


def navigation(links: Mapping[str, str]) -> str:
    """Links to sections by their names."""
    return "<nav>" + " ".join(f'<a href="#{name}">{text(label)}</a>' for name, label in links.items()) + "</nav>"


def headline(metrics: Mapping[str, Any]) -> str:
    """Tiles with the main numbers, their bootstrap intervals, and what greedy captions score."""
    greedy = metrics.get("greedy") or {}
    tiles = []
    for name in HEADLINE:
        if name not in metrics:
            continue
        digits = 2 if name == "perplexity" else 3
        below = [interval(metrics, name, digits=digits)]
        if name == "perplexity":
            below.append(f"{metrics['perplexity_known']:.2f} without &lt;unk&gt;")
        elif name in greedy:
            below.append(f"greedy {greedy[name]:.3f}")
        notes = "".join(f"<dd class=small>{note}</dd>" for note in below if note)
        tiles.append(f"<div><dt>{LABELS.get(name, name)}</dt><dd>{metrics[name]:.{digits}f}</dd>{notes}</div>")
    return f'<dl class="tiles">{"".join(tiles)}</dl>' if tiles else ""


def interval(metrics: Mapping[str, Any], name: str, *, digits: int) -> str:
    """'low to high' of a number where the evaluation gave one, else ''."""
    found = (metrics.get("intervals") or {}).get(name)
    return f"{found[0]:.{digits}f} to {found[1]:.{digits}f}" if found else ""


def intervals_note(metrics: Mapping[str, Any]) -> str:
    """What the small numbers are, where there are any."""
    if not metrics.get("intervals"):
        return ""
    return (
        '<p class="small">“a to b” below a number: 95 % of bootstrap resamples of the images lie between. They say how '
        "far the number would move with other images, not with another training run.</p>"
    )


def retrieval_table(metrics: Mapping[str, Any]) -> str:
    """Recalls in percent and median ranks of both directions."""
    retrieval = metrics.get("retrieval") or {}
    rows = []
    for direction, label in DIRECTIONS.items():
        if direction not in retrieval:
            continue
        cells = ""
        for column in COLUMNS:
            between = interval(metrics, f"{direction} {column}", digits=1)
            cells += f"<td>{retrieval[direction][column]:.1f}{f'<small>{between}</small>' if between else ''}</td>"
        rows.append(f"<tr><th scope=row>{label}</th>{cells}</tr>")
    if not rows:
        return ""
    counts = f"Images and sentences: {pool_size(retrieval)}; recalls in percent."
    return (
        '<h3>Retrieval</h3><div class="wide"><table><thead><tr><th></th><th>R@1</th><th>R@5</th><th>R@10</th>'
        f"<th>median rank</th></tr></thead><tbody>{''.join(rows)}</tbody></table></div><p class=small>{counts}</p>"
    )


def training(curve: str) -> str:
    """The loss curve (SVG of ours) with its key."""
    if not curve:
        return ""
    return (
        '<p class="small">Bits per word: <span class="key train">training batches</span> (with dropout), '
        f'<span class="key val">validation</span> after each epoch.</p>{curve}'
    )


def retrieval_gallery(image_ranks: Sequence[int], sentence_ranks: Sequence[int]) -> str:
    """The rank histogram and empty places for the queries of both directions; script.js fills them."""
    if not image_ranks:
        return ""
    histogram = rank_histogram(
        {DIRECTIONS["image_to_sentence"]: image_ranks, DIRECTIONS["sentence_to_image"]: sentence_ranks}
    )
    by_sentence = (
        '<h3>Sentence → image</h3><p class="small">What the sentence finds first, best on the left; its own image has '
        'a green frame, and stands last with its rank where it is not among them.</p><div id="by-sentence"></div>'
    )
    return section(
        "Retrieval",
        f"{histogram}"
        '<h3>Image → sentence</h3><p class="small">✓ marks a sentence that belongs to the image.</p>'
        f'<div id="by-image"></div>{by_sentence if sentence_ranks else ""}',
        name="retrieval",
    )


def perplexity_by_length(rows: Sequence[Mapping[str, Any]]) -> str:
    """Perplexity by words of the sentence: rows with words, sentences, perplexity; '' without."""
    if not rows:
        return ""
    body = "".join(
        f"<tr><th scope=row>{text(row['words'])}</th><td>{row['perplexity']:.2f}</td><td>{row['sentences']:,}</td></tr>"
        for row in rows
    )
    return (
        "<h3>Perplexity by length of the sentence</h3><table><thead><tr><th>words</th><th>perplexity</th>"
        f"<th>sentences</th></tr></thead><tbody>{body}</tbody></table>"
    )

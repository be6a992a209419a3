"""Sections of the report that hold numbers: headline, retrieval table, training curve, rank histogram, perplexity."""

from collections.abc import Mapping, Sequence
from typing import Any

from mrnn.evaluate.metrics import names
from mrnn.evaluate.report.charts import rank_histogram
from mrnn.evaluate.report.page import section, text
from mrnn.train.measures import Cost


def navigation(links: Mapping[str, str]) -> str:
    """Links to sections by their names."""
    return "<nav>" + " ".join(f'<a href="#{name}">{text(label)}</a>' for name, label in links.items()) + "</nav>"


def headline(metrics: Mapping[str, Any]) -> str:
    """Tiles with the main numbers, their bootstrap intervals, and what greedy captions score.

    Caption scores are those to cite; those on plain words, with their intervals, are below them.
    """
    greedy, facts = metrics.get("greedy") or {}, metrics.get("generation") or {}
    cited, cited_greedy = names.to_cite(metrics, facts), names.to_cite(greedy, greedy)
    tiles = []
    for row in (names.metric_of("perplexity"), *names.CAPTION_SCORES):
        if row.key not in metrics:
            continue
        value, below = metrics[row.key], [interval(metrics, row)]
        if row.key == "perplexity":
            below.append(f"{metrics['perplexity_known']:.2f} without &lt;unk&gt;")
        if row.key in cited_greedy:
            below.append(f"greedy {row.format(cited_greedy[row.key])}")
        if row.group == "scores" and cited is not metrics:
            value = cited[row.key]
            below = [*below[1:], f"plain words {row.format(metrics[row.key])}", *below[:1]]
        notes = "".join(f"<dd class=small>{note}</dd>" for note in below if note)
        tiles.append(f"<div><dt>{text(row.label)}</dt><dd>{row.format(value)}</dd>{notes}</div>")
    note = ""
    if cited is not metrics and tiles:
        note = (
            '<p class="small">Caption scores are computed on coco-caption’s PTB tokens, as the literature does: cite '
            "these. “Plain words” are the same scores on the words that the model learns, with their intervals.</p>"
        )
    return f'<dl class="tiles">{"".join(tiles)}</dl>{note}' if tiles else ""


def interval(metrics: Mapping[str, Any], row: names.Metric) -> str:
    """'low to high' of a number where the evaluation gave one, else ''."""
    found = (metrics.get("intervals") or {}).get(row.key)
    return f"{row.format(found[0])} to {row.format(found[1])}" if found else ""


def intervals_note(metrics: Mapping[str, Any]) -> str:
    """What the small numbers are, where there are any."""
    if not metrics.get("intervals"):
        return ""
    return (
        '<p class="small">“a to b” below a number is its 95 % interval over bootstrap resamples of the images. It says '
        "how far the number would move with other images, not with another training run.</p>"
    )


def retrieval_table(metrics: Mapping[str, Any]) -> str:
    """Recalls in percent, median and mean ranks of both directions, and their rsum."""
    retrieval, columns = metrics.get("retrieval") or {}, names.recall_columns()
    headline_rows = {row.key: row for row in names.retrieval_metrics()}
    rows = []
    for ranking in (ranking for ranking in names.RANKINGS if ranking.key in retrieval):
        cells = ""
        for column in columns:
            row = headline_rows.get(f"{ranking.key} {column}")
            between = interval(metrics, row) if row else ""
            value = f"{retrieval[ranking.key][column]:.1f}"
            cells += f"<td>{value}{f'<small>{between}</small>' if between else ''}</td>"
        rows.append(f"<tr><th scope=row>{text(ranking.label)}</th>{cells}</tr>")
    if not rows:
        return ""
    counts = f"Images and sentences: {names.pool_size(retrieval)}; recalls in percent."
    if names.RSUM in retrieval:
        between = interval(metrics, headline_rows[names.RSUM])
        counts += f" rsum {retrieval[names.RSUM]:.1f}{f' ({between})' if between else ''}."
    heads = "".join(f"<th>{text(label)}</th>" for label in columns.values())
    return (
        f'<h3>Retrieval</h3><div class="wide"><table><thead><tr><th></th>{heads}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div><p class=small>{counts}</p>"
    )


def combined_table(metrics: Mapping[str, Any]) -> str:
    """The models of a combination with their weights, and what each and all reached on the dev pool."""
    if "combined" not in metrics:
        return ""
    combined, columns = metrics["combined"], names.recall_columns()
    directions = {row.key: row.label for row in names.RANKINGS if row.key in combined["dev"]}

    def cells(recalls: Mapping[str, Mapping[str, float]]) -> str:
        return "".join(f"<td>{recalls[key][column]:.1f}</td>" for key in directions for column in columns)

    rows = [
        f"<tr><th scope=row>{text(member['run'])} ({text(member['model'])})</th><td>{member['weight']:g}</td>"
        f"{cells(member['dev'])}</tr>"
        for member in combined["members"]
    ]
    rows.append(f"<tr><th scope=row>together</th><td></td>{cells(combined['dev'])}</tr>")
    heads = "".join(f"<th>{text(name)}, {text(c)}</th>" for name in directions.values() for c in columns.values())
    return (
        f'<h3>Models</h3><div class="wide"><table><thead><tr><th></th><th>weight</th>{heads}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div><p class=small>The weights were chosen on "
        f"{combined['dev_images']} images of the dev split, on which these recalls were measured.</p>"
    )


def training(curve: str, cost: Cost) -> str:
    """The learning curve, an SVG of ours, with its key."""
    if not curve:
        return ""
    # A run that is validated by another number than its cost has no such line.
    validation = ', <span class="key val">validation</span> after each epoch' if 'class="val" cx' in curve else ""
    return (
        f'<p class="small">{text(cost.label.capitalize())}: <span class="key train">training batches</span> '
        f"(with dropout){validation}.</p>{curve}"
    )


def retrieval_gallery(image_ranks: Sequence[int], sentence_ranks: Sequence[int]) -> str:
    """The rank histogram and empty places for the queries of both directions; script.js fills them."""
    if not image_ranks:
        return ""
    labels = [ranking.label for ranking in names.RANKINGS if ranking.headline]
    histogram = rank_histogram(dict(zip(labels, (image_ranks, sentence_ranks), strict=True)))
    by_sentence = (
        '<h3>Sentence → image</h3><p class="small">The first images for each sentence, best on the left. Its own image '
        'has a green frame; where it is not among them, it follows with its rank.</p><div id="by-sentence"></div>'
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

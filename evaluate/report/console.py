"""What evaluate-mrnn prints: intervals, perplexities, BLEU by its definitions, diversity, confidence, and the closing
summary."""

from collections.abc import Mapping, Sequence
from typing import Any

from mrnn.evaluate.metrics import names
from mrnn.evaluate.report.confidence import confidence_lines
from mrnn.evaluate.report.grounding import grounding_lines
from mrnn.evaluate.report.region_scores import region_lines


def details(metrics: Mapping[str, Any]) -> str:
    """Tables of what metrics.json holds beside the headline numbers; '' where nothing was measured."""
    blocks = [
        _intervals(metrics),
        _perplexities(metrics),
        _bleu(metrics),
        _diversity(metrics),
        _endings(metrics),
        confidence_lines(metrics["confidence"]) if "confidence" in metrics else [],
    ]
    return "".join("\n".join(lines) + "\n\n" for lines in blocks if lines)[:-1]


def summary(metrics: Mapping[str, Any]) -> str:
    """The headline numbers, which the command prints last; the caption scores to cite come first."""
    return "\n".join(
        [
            *_perplexity_line(metrics),
            *_caption_scores(metrics),
            *_retrieval(metrics),
            *_grounding(metrics),
            *_regions(metrics),
        ]
    )


def _perplexity_line(metrics: Mapping[str, Any]) -> list[str]:
    if "perplexity" not in metrics:
        return []
    return [
        f"perplexity {metrics['perplexity']:.2f} ({metrics['perplexity_known']:.2f} without <unk>), vocabulary "
        f"{metrics['vocabulary_size']}"
    ]


def _caption_scores(metrics: Mapping[str, Any]) -> list[str]:
    """Scores on PTB tokens, which the literature cites, then those on plain words."""
    if "generation" not in metrics or names.CAPTION_SCORES[0].key not in metrics:
        return []
    decoding, greedy = metrics["decoding"], metrics["greedy"]
    label = "sampled" if decoding["sample"] else f"beam {decoding['beam']}"
    label += ", consensus" if "consensus_images" in decoding else ", by length" if decoding["length_norm"] else ""
    rows = {
        "on PTB tokens, as coco-caption computes them (to cite)": {
            label: metrics["generation"].get("ptb"),
            "greedy": greedy.get("ptb"),
        },
        "on plain words": {label: metrics, "greedy": greedy},
    }
    lines = []
    for title, scores in rows.items():
        found = {name: values for name, values in scores.items() if values}
        if found:
            lines.append(f"caption scores {title}")
            lines.append(" " * 18 + "".join(f"{row.label:>9}" for row in names.CAPTION_SCORES))
        for name, values in found.items():
            cells = (f"{row.format(values[row.key]):>9}" for row in names.CAPTION_SCORES)
            lines.append(f"{name:<18}" + "".join(cells))
    return lines


def retrieval_lines(retrieval: Mapping[str, Any]) -> list[str]:
    """The table of ranks and recalls of `retrieval` in metrics.json; a row for each direction, then those of ties."""
    columns, tied = names.recall_columns(), retrieval.get("best_of_ties", {})
    found = {row.key: retrieval[row.key] for row in names.RANKINGS if row.key in retrieval}
    columns |= {column: column for values in found.values() for column in values if column not in columns}
    found |= {f"{row.key}, ties won": tied[row.key] for row in names.RANKINGS if row.key in tied}
    width = max(map(len, found)) + 2
    lines = [" " * width + "".join(f"{column:>13}" for column in columns)]
    for name, values in found.items():
        cells = (f"{values[column]:13.1f}" if column in values else "" for column in columns)
        lines.append(f"{name:<{width}}" + "".join(cells))
    if names.RSUM in retrieval:
        won = f", {tied[names.RSUM]:.1f} with ties won" if names.RSUM in tied else ""
        lines.append(f"rsum {retrieval[names.RSUM]:.1f}{won} (R@1, R@5 and R@10 of both directions)")
    return lines


def _retrieval(metrics: Mapping[str, Any]) -> list[str]:
    if "retrieval" not in metrics:
        return []
    lines = retrieval_lines(metrics["retrieval"])
    for member in metrics.get("combined", {}).get("members", ()):
        lines.append(f"weight {member['weight']:g} of {member['run']} ({member['model']}), chosen on the dev split")
    return lines


def _grounding(metrics: Mapping[str, Any]) -> list[str]:
    return grounding_lines(metrics["grounding"]) if "grounding" in metrics else []


def _regions(metrics: Mapping[str, Any]) -> list[str]:
    return region_lines(metrics["regions"]) if "regions" in metrics else []


def _intervals(metrics: Mapping[str, Any]) -> list[str]:
    intervals: Mapping[str, Sequence[float]] = metrics.get("intervals", {})
    if not intervals:
        return []
    bootstrap = metrics["bootstrap"]
    lines = [f"{'':<32}{'value':>9}  {bootstrap['level']:.0%} interval, {bootstrap['resamples']:,} resamples of images"]
    for row in (row for row in names.headline_metrics() if row.key in intervals):
        low, high = (row.format(end) for end in intervals[row.key])
        lines.append(f"{row.key:<32}{row.format(names.value_of(metrics, row.key)):>9}  {low} to {high}")
    if any(row.key in intervals for row in names.CAPTION_SCORES):
        lines.append("(caption scores here are those on plain words)")
    return lines


def _perplexities(metrics: Mapping[str, Any]) -> list[str]:
    splits = metrics.get("perplexity_splits", {})
    if not splits:
        return []
    lines = [f"{'perplexity':<20}{'sentences':>10}{'perplexity':>12}{'without <unk>':>15}"]
    for split, found in splits.items():
        for row in ({"words": "all", **found}, *found["by_length"]):
            words = "" if row["words"] == "all" else f"  {row['words']} words"
            lines.append(
                f"{words or split:<20}{row['sentences']:>10,}{row['perplexity']:>12.2f}{row['perplexity_known']:>15.2f}"
            )
    return lines


def _bleu(metrics: Mapping[str, Any]) -> list[str]:
    generation = metrics.get("generation", {})
    if "ngram_precision" not in generation:
        return []
    cumulative = [metrics[f"Bleu_{n}"] for n in range(1, 5)]
    lines = bleu_table(cumulative, **{name: generation[name] for name in PRECISIONS})
    return ["BLEU by its definitions, on plain words", *lines]


PRECISIONS = ("ngram_precision", "ngram_precision_with_penalty", "brevity_penalty")


def bleu_table(
    cumulative: Sequence[float],
    *,
    ngram_precision: Sequence[float],
    ngram_precision_with_penalty: Sequence[float],
    brevity_penalty: float,
) -> list[str]:
    """The lines of a table of BLEU by its definitions, n = 1 to 4.

    cumulative : Bleu_1 to Bleu_4
    ngram_precision, ngram_precision_with_penalty : of n-grams of one length alone
    brevity_penalty : of the corpus
    """
    kinds = {
        "cumulative, with brevity penalty (coco-caption)": cumulative,
        "individual n-gram precision": ngram_precision,
        f"the same x brevity penalty {brevity_penalty:.3f}": ngram_precision_with_penalty,
    }
    head = " " * 50 + "".join(f"{f'n = {n}':>8}" for n in range(1, 5))
    return [head, *(f"{name:<50}" + "".join(f"{value:8.3f}" for value in values) for name, values in kinds.items())]


def _diversity(metrics: Mapping[str, Any]) -> list[str]:
    sets = metrics.get("diversity", {})
    if not sets:
        return []
    columns = ("distinct-1", "distinct-2", "words used", "different", "mean words", "in training")
    lines = [f"{'diversity':<12}" + "".join(f"{name:>15}" for name in columns)]
    for name, found in sets.items():
        repeated = "-" if found["in_training"] is None else f"{found['in_training']:.1%}"
        cells = (
            f"{found['distinct_1']:.3f}",
            f"{found['distinct_2']:.3f}",
            f"{found['vocabulary_used']:,}",
            f"{found['different']:,} of {found['captions']:,}",
            f"{found['mean_words']:.1f}",
            repeated,
        )
        lines.append(f"{name:<12}" + "".join(f"{cell:>15}" for cell in cells))
    return lines


def _endings(metrics: Mapping[str, Any]) -> list[str]:
    sets = {"captions": metrics.get("generation"), "greedy": metrics.get("greedy")}
    return [
        f"{name}: {found['captions'] - found['cut_at_max_steps']:,} of {found['captions']:,} ended with END, "
        f"{found['cut_at_max_steps']:,} were cut at --max-steps, {found['empty']:,} are empty"
        for name, found in sets.items()
        if found
    ]

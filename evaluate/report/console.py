"""What evaluate-mrnn prints before its summary: intervals, both kinds of BLEU, perplexities, diversity."""

from collections.abc import Mapping, Sequence
from typing import Any


def details(metrics: Mapping[str, Any]) -> str:
    """Tables of what metrics.json holds beside the headline numbers; '' where nothing was measured."""
    blocks = [_intervals(metrics), _perplexities(metrics), _bleu(metrics), _diversity(metrics), _endings(metrics)]
    return "".join("\n".join(lines) + "\n\n" for lines in blocks if lines)[:-1]


def headline(metrics: Mapping[str, Any], name: str) -> float:
    """The value of a headline number by its name in `intervals`: 'CIDEr', 'sentence_to_image R@1'."""
    group, _, inner = name.partition(" ")
    return float(metrics["retrieval"][group][inner] if inner else metrics[name])


def _intervals(metrics: Mapping[str, Any]) -> list[str]:
    intervals: Mapping[str, Sequence[float]] = metrics.get("intervals", {})
    if not intervals:
        return []
    bootstrap = metrics["bootstrap"]
    lines = [f"{'':<32}{'value':>9}  {bootstrap['level']:.0%} interval, {bootstrap['resamples']:,} resamples of images"]
    for name, (low, high) in intervals.items():
        digits = 3 if name.startswith(("Bleu", "ROUGE", "CIDEr")) else 2 if name.startswith("perplexity") else 1
        value = headline(metrics, name)
        lines.append(f"{name:<32}{value:9.{digits}f}  {low:.{digits}f} to {high:.{digits}f}")
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
    penalty = generation["brevity_penalty"]
    kinds = (
        ("cumulative, with brevity penalty (coco-caption)", [metrics[f"Bleu_{n}"] for n in range(1, 5)]),
        ("individual n-gram precision", generation["ngram_precision"]),
        (f"the same x brevity penalty {penalty:.3f}", generation["ngram_precision_with_penalty"]),
    )
    head = f"{'BLEU in its definitions':<50}" + "".join(f"{f'n = {n}':>8}" for n in range(1, 5))
    return [head, *(f"{name:<50}" + "".join(f"{value:8.3f}" for value in values) for name, values in kinds)]


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
        f"{name}: {found['captions'] - found['cut_at_max_steps']:,} of {found['captions']:,} ended by themselves, "
        f"{found['cut_at_max_steps']:,} were cut at --max-steps, {found['empty']:,} empty"
        for name, found in sets.items()
        if found
    ]

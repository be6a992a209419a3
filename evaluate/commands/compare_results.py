"""compare-results: two evaluations side by side, with intervals and p values of their differences."""

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import click
import numpy as np

from mrnn.data.command import debug_option, one_line_errors
from mrnn.data.errors import EvaluationError
from mrnn.data.files import write_whole
from mrnn.evaluate.metrics.bootstrap import LEVEL, RESAMPLES
from mrnn.evaluate.metrics.names import metric_of
from mrnn.evaluate.per_image import FILE, read_records
from mrnn.evaluate.report.comparison import System, comparison_page
from mrnn.evaluate.report.page import render
from mrnn.evaluate.report.pictures import Pictures
from mrnn.evaluate.studies.comparison import MEASURES, Comparison, compare

EPILOG = """\b
Example:
  evaluate-mrnn --checkpoint runs/feats-mrnn --features feats.h5
  evaluate-mrnn --checkpoint runs/feats-rnn-base --features feats.h5
  compare-results runs/feats-rnn-base/evaluation-test runs/feats-mrnn/evaluation-test --html comparison.html

With --html also a page with the two side by side, the pictures that differ most first.
Differences are B - A, over the images in both, each with what 95 % of the paired bootstrap's resamples lie between and
a two-sided p value of its sign (not corrected for the number of rows)."""

folder_argument = click.Path(path_type=Path)


@click.command("compare-results", epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("a", type=folder_argument)
@click.argument("b", type=folder_argument)
@click.option(
    "--resamples", type=click.IntRange(min=100), default=RESAMPLES, show_default=True, help="Bootstrap draws."
)
@click.option("--seed", default=0, show_default=True, help="Of the bootstrap.")
@click.option("--examples", type=click.IntRange(min=0), default=5, show_default=True, help="Images named by measure.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--html", type=click.Path(path_type=Path), help="Write a page to look at.")
@click.option("--images", type=click.Path(path_type=Path), help="Folder of the pictures, for --html.")
@debug_option
@one_line_errors
def main(
    a: Path, b: Path, resamples: int, seed: int, examples: int, as_json: bool, html: Path | None, images: Path | None
) -> None:
    """Compare the evaluations in the folders A and B, both of the same split of the same data set."""
    comparison = compare_folders(a, b, resamples=resamples, seed=seed, examples=examples)
    if as_json:
        setting = {"a": str(a), "b": str(b), "resamples": resamples, "seed": seed, "level": LEVEL}
        click.echo(json.dumps({**setting, **asdict(comparison)}, indent=1, ensure_ascii=False))
    else:
        click.echo(f"A  {a}\nB  {b}")
        click.echo(comparison_text(comparison))
    if html:
        systems = [System(name_of(folder), read_records(folder / FILE), read_metrics(folder)) for folder in (a, b)]
        pictures = Pictures(images or Path(systems[0].metrics.get("pictures", "")), named=images is not None)
        write_whole(html, render(comparison_page(comparison, *systems, pictures=pictures)).encode())
        click.echo(f"page: {html}", err=as_json)


def name_of(folder: Path) -> str:
    """A system's name: its run where the evaluation lies in a run folder, else the folder itself."""
    folder = folder.resolve()
    return folder.parent.name if folder.name.startswith("evaluation-") else folder.name


def compare_folders(a: Path, b: Path, *, resamples: int, seed: int, examples: int) -> Comparison:
    """Read two evaluation folders and compare them.

    Raises EvaluationError where files are lacking, or data set or split differ.
    """
    metrics_a, metrics_b = read_metrics(a), read_metrics(b)
    for what, name in (("data sets", "dataset"), ("splits", "split")):
        if metrics_a.get(name) != metrics_b.get(name):
            raise EvaluationError(
                f"the {what} differ: {a} is of {metrics_a.get(name)}, {b} of {metrics_b.get(name)}; "
                "compare evaluations of the same images"
            )
    records = read_records(a / FILE), read_records(b / FILE)
    generator = np.random.default_rng(seed)
    without = incomparable(metrics_a, metrics_b)
    try:
        found = compare(*records, generator=generator, resamples=resamples, examples=examples, without=without)
    except ValueError as error:
        raise EvaluationError(f"{a} and {b} cannot be compared: {error}") from error
    return replace(found, notes=[*found.notes, *caveats(metrics_a, metrics_b)])


def read_metrics(folder: Path) -> dict[str, Any]:
    """metrics.json of an evaluation folder. Raises EvaluationError if there is none."""
    path = folder / "metrics.json"
    try:
        metrics = json.loads(path.read_text())
    except FileNotFoundError:
        raise EvaluationError(f"there is no {path}; give the output folders of two evaluate-mrnn runs") from None
    except ValueError as error:
        raise EvaluationError(f"{path} is damaged ({error}); run evaluate-mrnn into {folder} again") from error
    if not isinstance(metrics, dict):
        raise EvaluationError(f"{path} is not a metrics file of evaluate-mrnn; give the folders that it writes")
    return metrics


def incomparable(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, str]:
    """Groups of numbers whose meaning differs between two metrics.json, and why."""
    found = {}
    pools = [tuple(metrics.get("retrieval", {}).get(name) for name in ("images", "sentences")) for metrics in (a, b)]
    if pools[0] != pools[1] and None not in (*pools[0], *pools[1]):
        of = [f"{images:,} images x {sentences:,} sentences" for images, sentences in pools]
        found["ranks"] = f"A ranked among {of[0]}, B among {of[1]}"
    tokens = [metrics.get("definitions", {}).get("tokens") for metrics in (a, b)]
    if tokens[0] != tokens[1]:
        found["scores"] = "their captions were tokenised differently"
    return found


def caveats(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[str]:
    """Settings that differ between two metrics.json and bear on what their difference means."""
    found = []
    if a.get("vocabulary_size") != b.get("vocabulary_size"):
        sizes = f"{a.get('vocabulary_size')} words for A, {b.get('vocabulary_size')} for B"
        found.append(f"the vocabularies differ ({sizes}), and with them what counts as <unk> in the perplexities")
    decodings = [metrics.get("decoding", {}) for metrics in (a, b)]
    for name in decodings[0].keys() | decodings[1].keys():
        values = [decoding.get(name) for decoding in decodings]
        if values[0] != values[1]:
            found.append(f"captions were decoded differently: {name} {values[0]} for A, {values[1]} for B")
    drawn = [metrics.get("retrieval", {}).get("normaliser_images") for metrics in (a, b)]
    if drawn[0] != drawn[1] and None not in drawn:
        found.append(f"P(w) of the retrieval is over {drawn[0]} training images for A, {drawn[1]} for B")
    return sorted(found)


def comparison_text(comparison: Comparison) -> str:
    """The tables that the command prints."""
    alone = f" ({comparison.only_a:,} only in A, {comparison.only_b:,} only in B)"
    lines = [
        f"{comparison.shared:,} shared images" + (alone if comparison.only_a or comparison.only_b else ""),
        *comparison.notes,
        "",
        f"{'':<32}{'A':>10}{'B':>10}{'B - A':>10}  {f'{LEVEL:.0%} interval':<22}{'p':>7}  better",
    ]
    for row in comparison.differences:
        metric = metric_of(row.name)
        low, high, gap = (metric.format(value, sign=True) for value in (row.low, row.high, row.difference))
        lines.append(
            f"{row.name:<32}{metric.format(row.a):>10}{metric.format(row.b):>10}{gap:>10}  {f'{low} to {high}':<22}"
            f"{row.p:7.3f}  {row.better.upper()}".rstrip()
        )
    for name, examples in comparison.examples.items():
        if examples:
            lines += ["", f"differ most by {MEASURES[name].label}:"]
        for example in examples:
            lines += [
                f"  {example.image_id}: A {example.a:.4g}, B {example.b:.4g}",
                f"    A  {example.caption_a or '-'}",
                f"    B  {example.caption_b or '-'}",
            ]
    return "\n".join(lines)

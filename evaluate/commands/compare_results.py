"""compare-results: two evaluations side by side, with intervals and p-values of their differences."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mrnn.data.command import command
from mrnn.data.options import images_option, json_option, path_type, seed_option
from mrnn.evaluate.commands.options import html_option
from mrnn.evaluate.metrics.bootstrap import LEVEL, RESAMPLES

if TYPE_CHECKING:
    from mrnn.evaluate.report.page import Page
    from mrnn.evaluate.studies.comparison import Comparison

EPILOG = """\b
Example:
  evaluate-mrnn --checkpoint runs/feats-mrnn --features feats.h5
  evaluate-mrnn --checkpoint runs/feats-rnn-base --features feats.h5
  compare-results runs/feats-rnn-base/evaluation-test runs/feats-mrnn/evaluation-test --html comparison.html

Differences are B - A, over the images that both evaluations measured. Each comes with the 95 % interval of a paired
bootstrap and a two-sided p-value, which is not corrected for the number of rows."""


@command("compare-results", epilog=EPILOG)
@click.argument("a", type=path_type)
@click.argument("b", type=path_type)
@click.option(
    "--resamples",
    type=click.IntRange(min=100),
    default=RESAMPLES,
    show_default=True,
    help="Number of bootstrap resamples.",
)
@seed_option("Random seed of the bootstrap.")
@click.option(
    "--examples",
    type=click.IntRange(min=0),
    default=5,
    show_default=True,
    help="Number of images to list per measure, those that differ most.",
)
@json_option
@html_option("Also write a web page with both evaluations side by side to this file.")
@images_option
def main(
    a: Path, b: Path, resamples: int, seed: int, examples: int, as_json: bool, html: Path | None, images: Path | None
) -> None:
    """Compare the evaluations in the folders A and B, both of the same split of the same data set."""
    from dataclasses import asdict

    from mrnn.evaluate.studies.evaluation_folders import compare_folders

    comparison = compare_folders(a, b, resamples=resamples, seed=seed, examples=examples)
    if as_json:
        setting = {"a": str(a), "b": str(b), "resamples": resamples, "seed": seed, "level": LEVEL}
        click.echo(json.dumps({**setting, **asdict(comparison)}, indent=1, ensure_ascii=False))
    else:
        click.echo(f"A  {a}\nB  {b}")
        click.echo(comparison_text(comparison))
    if html:
        from mrnn.data.files import write_whole
        from mrnn.evaluate.report.page import render

        write_whole(html, render(side_by_side(comparison, a, b, images=images)).encode())
        click.echo(f"page: {html}", err=as_json)


def side_by_side(comparison: "Comparison", a: Path, b: Path, *, images: Path | None) -> "Page":
    """The page of --html.

    comparison : of the evaluations in the folders a and b
    images : folder of the pictures; None for the one that the first evaluation recorded
    """
    from mrnn.evaluate.per_image import FILE, read_records
    from mrnn.evaluate.report.comparison import System, comparison_page
    from mrnn.evaluate.report.pictures import Pictures
    from mrnn.evaluate.studies.evaluation_folders import name_of, read_metrics

    systems = [System(name_of(folder), read_records(folder / FILE), read_metrics(folder)) for folder in (a, b)]
    pictures = Pictures(images or Path(systems[0].metrics.get("pictures", "")), named=images is not None)
    return comparison_page(comparison, *systems, pictures=pictures)


def comparison_text(comparison: "Comparison") -> str:
    """The tables that the command prints."""
    from mrnn.evaluate.metrics.names import metric_of
    from mrnn.evaluate.studies.comparison import MEASURES

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

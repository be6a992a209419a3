"""evaluate-mrnn: perplexity, captions, retrieval, grounding and captions of regions, as numbers and as a report."""

from pathlib import Path
from typing import Any

import click

from mrnn.data.captions import SPLITS
from mrnn.data.command import command, setting_options
from mrnn.data.config_file import config_option
from mrnn.data.options import (
    allow_partial_option,
    device_option,
    ensemble_option,
    features_option,
    images_option,
    output_option,
    overwrite_option,
    path_type,
    seed_option,
    split_option,
    threads_option,
)
from mrnn.evaluate.commands.options import (
    config_from,
    consensus_options,
    is_default,
    prefix_option,
    some_of,
    use_threads,
)
from mrnn.evaluate.settings import CONSENSUS_BEAM, STAGES, ConsensusConfig, DecodingConfig, RetrievalConfig

EPILOG = """\b
Example:
  train-mrnn --features feats.h5
  evaluate-mrnn --checkpoint runs/feats-mrnn --features feats.h5

This writes metrics.json, captions.json, per_image.jsonl (for compare-results), retrieved_*.jsonl and report.html, which
opens in any browser, to the folder runs/feats-mrnn/evaluation-test.

If it is killed or stopped, run the same command again: finished measurements are kept. Exit code 75 means that it was
stopped on request."""


@command("evaluate-mrnn", epilog=EPILOG)
@config_option
@ensemble_option
@features_option
@output_option("Folder for the results.  [default: evaluation-SPLIT in the run folder; an ensemble needs this option]")
@split_option("Images to measure on.")
@click.option(
    "--only",
    default=",".join(STAGES),
    callback=some_of(STAGES),
    metavar="NAMES",
    show_default=True,
    help="Measurements to make, separated by commas.",
)
@click.option(
    "--perplexity-splits",
    default=",".join(SPLITS),
    callback=some_of(SPLITS),
    metavar="SPLITS",
    show_default=True,
    help="Further splits to measure perplexity on, where the cache has them; separated by commas.",
)
@setting_options(DecodingConfig, leave_out=("seed", "suppress_unknown"))
@click.option("--allow-unknown", is_flag=True, help="Allow <unk> in captions.")
@prefix_option
@click.option(
    "--n-best",
    type=click.IntRange(min=1),
    help="Number of captions per image to write to nbest.json, at most the beam width.  [default: no such file]",
)
@consensus_options
@click.option(
    "--confidence",
    type=path_type,
    metavar="FILE",
    help="confidence.json of --split val: measure on this split what captions of that confidence scored there.",
)
@setting_options(RetrievalConfig, leave_out=("seed",))
@seed_option("Random seed of --sample, of the training images for P(w) and of the bootstrap intervals.")
@click.option(
    "--combine",
    type=(path_type, path_type),
    multiple=True,
    metavar="RUN FEATURES",
    help="Measure retrieval alone, by this model together with another, whose feature cache is named too; repeatable. "
    "The weights are chosen on the dev split, and written to combination.json for search-images.",
)
@click.option(
    "--segments",
    type=path_type,
    metavar="FILE.jsonl",
    help="Training segments that align-sentences wrote; an alignment model takes the captions of regions from them.",
)
@click.option("--figures", is_flag=True, help="Also draw figures for papers, as PNG and SVG, into the folder figures.")
@images_option
@device_option
@threads_option
@allow_partial_option
@overwrite_option
def main(
    checkpoints: tuple[Path, ...],
    features: Path,
    output: Path | None,
    split: str,
    only: tuple[str, ...],
    perplexity_splits: tuple[str, ...],
    beam: int,
    allow_unknown: bool,
    prefix: str,
    n_best: int | None,
    consensus: bool,
    confidence: Path | None,
    combine: tuple[tuple[Path, Path], ...],
    segments: Path | None,
    figures: bool,
    images: Path | None,
    device: str,
    threads: int,
    allow_partial: bool,
    overwrite: bool,
    **settings: Any,
) -> None:
    """Measure the perplexity, captions, retrieval, grounding and captions of regions of a trained model on a split."""
    if is_default("beam"):
        beam = 1 if settings["sample"] else CONSENSUS_BEAM if consensus else beam
    decoding = config_from(DecodingConfig, settings, beam=beam, suppress_unknown=not allow_unknown)
    retrieval = config_from(RetrievalConfig, settings)

    from mrnn.data.stopping import stop_on_signals
    from mrnn.evaluate.evaluation import default_folder, evaluate
    from mrnn.evaluate.report.console import details, summary
    from mrnn.evaluate.report.papers import papers_data_set, papers_table

    use_threads(threads)
    with stop_on_signals() as stop:
        metrics = evaluate(
            checkpoints,
            features,
            output=output,
            split=split,
            stages=only,
            perplexity_splits=perplexity_splits,
            decoding=decoding,
            prefix=prefix,
            n_best=n_best,
            consensus=config_from(ConsensusConfig, settings) if consensus else None,
            confidence=confidence,
            retrieval=retrieval,
            combine=combine,
            segments=segments,
            figures=figures,
            images=images,
            device=device,
            allow_partial=allow_partial,
            overwrite=overwrite,
            stop=stop,
            report=lambda line: click.echo(line, err=True),
        )
    output = output or default_folder(Path(metrics["checkpoint"]["run"]), split, combined=bool(combine))
    click.echo(details(metrics))
    click.echo(summary(metrics))
    if papers := papers_data_set(metrics["dataset"], Path(metrics["pictures"])):
        click.echo(f"\n{papers_table([metrics], papers)}\n")
    if figures:
        click.echo(f"figures: {output / 'figures'}")
    click.echo(f"report: {output / 'report.html'}")

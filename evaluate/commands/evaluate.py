"""evaluate-mrnn: perplexity, captions and retrieval of a trained model, as numbers and as a report."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
import torch

from mrnn.data.cache import open_cache
from mrnn.data.captions import SPLITS
from mrnn.data.command import debug_option, one_line_errors
from mrnn.data.files import write_json, write_whole
from mrnn.data.stopping import stop_on_signals
from mrnn.evaluate.evaluation import (
    Evaluation,
    decoding_settings,
    generation_stage,
    greedy_config,
    perplexity_stage,
)
from mrnn.evaluate.fit import cache_digest, check_fit, known_prefix, sha256_of
from mrnn.evaluate.generation.decode import Caption, DecodingConfig
from mrnn.evaluate.parts import Parts, only_one
from mrnn.evaluate.per_image import FILE as RECORDS
from mrnn.evaluate.per_image import write_records
from mrnn.evaluate.report.console import details
from mrnn.evaluate.report.evaluation import evaluation_page
from mrnn.evaluate.report.figures import check_matplotlib, save_figures
from mrnn.evaluate.report.loss_curve import read_log
from mrnn.evaluate.report.page import render
from mrnn.evaluate.report.papers import papers_data_set, papers_table
from mrnn.evaluate.report.pictures import Pictures
from mrnn.evaluate.results import Results, best_list, build_metrics, caption_list
from mrnn.evaluate.retrieval.answers import write_answers
from mrnn.evaluate.retrieval.stage import RetrievalConfig, retrieval_stage
from mrnn.train.checkpoint import load_trained
from mrnn.train.device import pick_device
from mrnn.train.features import Features
from mrnn.train.run_folder import METRICS

STAGES = ("perplexity", "generation", "retrieval")
DECODING = DecodingConfig()
RETRIEVAL = RetrievalConfig()

EPILOG = """\b
Example:
  train-mrnn --features feats.h5
  evaluate-mrnn --checkpoint runs/feats-mrnn --features feats.h5

Then runs/feats-mrnn/evaluation-test holds metrics.json, captions.json, per_image.jsonl (for compare-results),
retrieved_*.jsonl and report.html, which opens in any browser.
Killed or stopped, the same command goes on; what is finished is kept. Exit code 75: stopped on request,
run it again."""


def some_of(known: Sequence[str]) -> Callable[[click.Context, click.Parameter, str], tuple[str, ...]]:
    """Read 'a,b' as those of the known names, in their order."""

    def parse(context: click.Context, parameter: click.Parameter, text: str) -> tuple[str, ...]:
        names = {name.strip() for name in text.split(",")} - {""}
        if not names <= set(known):
            raise click.BadParameter(f"give some of {', '.join(known)}, with commas between, not {text!r}")
        return tuple(name for name in known if name in names)

    return parse


@click.command(epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--checkpoint", required=True, type=click.Path(path_type=Path), help="The run folder (its best is taken)."
)
@click.option("--features", required=True, type=click.Path(path_type=Path), help="The feature cache.")
@click.option("--output", type=click.Path(path_type=Path), help="[default: evaluation-<split> in the run folder]")
@click.option("--split", type=click.Choice(SPLITS), default="test", show_default=True, help="Images to measure on.")
@click.option(
    "--only", default=",".join(STAGES), callback=some_of(STAGES), show_default=True, help="Some of these measurements."
)
@click.option(
    "--perplexity-splits",
    default=",".join(SPLITS),
    callback=some_of(SPLITS),
    show_default=True,
    help="Perplexity of these too, where they are.",
)
@click.option("--beam", default=DECODING.beam, show_default=True, help="Captions kept while searching; 1 is greedy.")
@click.option("--n-best", type=click.IntRange(min=1), help="Write so many captions an image of the beam to nbest.json.")
@click.option("--length-norm", is_flag=True, help="Rank them by log-probability a word at the end.")
@click.option("--sample", is_flag=True, help="Draw captions at random instead.")
@click.option("--temperature", default=DECODING.temperature, show_default=True, help="Of --sample.")
@click.option("--top-k", default=DECODING.top_k, show_default=True, help="Draw among so many words; 0 for all.")
@click.option("--max-steps", default=DECODING.max_steps, show_default=True, help="Longest caption, END included.")
@click.option("--allow-unknown", is_flag=True, help="Let captions contain <unk>.")
@click.option("--prefix", default="", help="Words that every caption begins with.")
@click.option("--pool", type=click.IntRange(min=1), help="Retrieval among the first so many images only.")
@click.option(
    "--folds",
    type=click.IntRange(min=1),
    default=RETRIEVAL.folds,
    show_default=True,
    help="Average over so many pools.",
)
@click.option(
    "--normaliser-images",
    type=click.IntRange(min=0),
    default=RETRIEVAL.normaliser_images,
    show_default=True,
    help="Training images for P(w).",
)
@click.option("--per-word", is_flag=True, help="Rank sentences by log P(w|I) a word, too.")
@click.option(
    "--top", type=click.IntRange(min=1), default=RETRIEVAL.top, show_default=True, help="First answers to list a query."
)
@click.option(
    "--bound-words",
    type=click.IntRange(min=1),
    default=RETRIEVAL.words,
    show_default=True,
    help="Words in the bounds of retrieval scores: a matter of speed alone.",
)
@click.option("--full-pass", is_flag=True, help="Score every pair: the same ranks, several times slower.")
@click.option("--seed", default=0, show_default=True, help="Of P(w)'s images, --sample, the intervals.")
@click.option("--figures", is_flag=True, help="Draw figures for papers, PNG and SVG, into figures/ of the output.")
@click.option("--images", type=click.Path(path_type=Path), help="Folder of the pictures.  [default: as extracted]")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1, ...")
@click.option("--threads", type=click.IntRange(min=0), default=0, help="CPU threads; 0 for torch's choice.")
@click.option("--allow-partial", is_flag=True, help="Accept a cache with images still pending.")
@click.option("--overwrite", is_flag=True, help="Measure everything anew.")
@debug_option
@one_line_errors
def main(
    checkpoint: Path,
    features: Path,
    output: Path | None,
    split: str,
    only: tuple[str, ...],
    perplexity_splits: tuple[str, ...],
    n_best: int | None,
    prefix: str,
    pool: int | None,
    folds: int,
    normaliser_images: int,
    per_word: bool,
    top: int,
    bound_words: int,
    full_pass: bool,
    figures: bool,
    images: Path | None,
    device: str,
    threads: int,
    allow_partial: bool,
    overwrite: bool,
    **decoding: Any,
) -> None:
    """Measure a trained model on a split: perplexity, captions, retrieval."""
    config = decoding_config(**decoding)
    if n_best and n_best > config.beam:
        raise click.UsageError(f"--n-best {n_best} needs a beam at least as wide, not --beam {config.beam}")
    if figures:
        check_matplotlib()
    retrieval = retrieval_config(
        pool=pool,
        folds=folds,
        normaliser_images=normaliser_images,
        seed=config.seed,
        top=top,
        per_word=per_word,
        words=bound_words,
        full=full_pass,
    )
    if threads:
        torch.set_num_threads(threads)
    trained = load_trained(checkpoint, device=pick_device(device, "fp32"))
    cache = open_cache(features, allow_partial=allow_partial)
    chosen = check_fit(trained, cache, split)
    words = known_prefix(trained, prefix)
    output = output or trained.run / f"evaluation-{split}"
    settings = {"checkpoint_sha256": sha256_of(trained.file), "cache_sha256": cache_digest(cache), "split": split}
    with only_one(output), stop_on_signals() as stop:
        parts = Parts(output, settings)
        if overwrite:
            parts.clear()
        budgeted = Features(cache)
        evaluation = Evaluation(trained, cache, split, chosen, budgeted, parts, stop, torch.get_num_threads())
        results = Results()
        click.echo(f"{trained.file} on {cache.path}, {split}: {len(chosen)} images", err=True)
        plain = greedy_config(config)
        results.perplexity = perplexity_stage(evaluation, run="perplexity" in only)
        for other in perplexity_splits:
            if other != split and (found := perplexity_stage(evaluation, other, run="perplexity" in only)):
                results.perplexity_splits[other] = found
        writing: dict[str, Any] = {"prefix": words, "run": "generation" in only}
        results.beams = generation_stage(evaluation, config, **writing)
        same = plain == config
        greedy = results.beams if same else generation_stage(evaluation, plain, name="greedy", **writing)
        results.captions, results.greedy = best_of(results.beams), best_of(greedy)
        results.retrieval = retrieval_stage(evaluation, retrieval, run="retrieval" in only)
        described: dict[str, Any] = {
            "decoding": decoding_settings(config, words),
            "seed": config.seed,
            "checkpoint": {
                "run": str(trained.run),
                "file": trained.file.name,
                "sha256": settings["checkpoint_sha256"],
                "model": trained.name,
                "epoch": trained.progress.get("epoch"),
                "step": trained.progress.get("step"),
            },
        }
        metrics, records = build_metrics(evaluation, results, settings=described)
        write_json(output / "metrics.json", metrics)
        write_records(output / RECORDS, records)
        if results.captions is not None:
            write_json(output / "captions.json", caption_list(evaluation, results.captions))
        if results.beams is not None and n_best:
            write_json(output / "nbest.json", best_list(evaluation, results.beams, n_best))
        if results.retrieval is not None:
            write_answers(output, results.retrieval)
        pictures = Pictures(images or cache.root, named=images is not None)
        page = evaluation_page(evaluation, results, metrics, records, pictures=pictures)
        write_whole(output / "report.html", render(page).encode())
        if figures:
            save_figures(output / "figures", log=read_log(trained.run / METRICS), metrics=metrics, records=records)
    click.echo(details(metrics))
    click.echo(summary(metrics))
    if papers := papers_data_set(cache.dataset, cache.root):
        click.echo(f"\n{papers_table(metrics, papers)}\n")
    if figures:
        click.echo(f"figures: {output / 'figures'}")
    click.echo(f"report: {output / 'report.html'}")


def decoding_config(*, beam: int, sample: bool, allow_unknown: bool, **values: Any) -> DecodingConfig:
    """The options as a config; --sample goes without a beam. Raises UsageError where they make no sense."""
    beam_given = click.get_current_context().get_parameter_source("beam") is not click.core.ParameterSource.DEFAULT
    if sample and not beam_given:
        beam = 1
    try:
        return DecodingConfig(beam=beam, sample=sample, suppress_unknown=not allow_unknown, **values)
    except ValueError as error:
        raise click.UsageError(str(error)) from error


def best_of(beams: list[list[Caption]] | None) -> list[Caption] | None:
    """The best caption of each image."""
    return None if beams is None else [best for best, *_ in beams]


def retrieval_config(**values: Any) -> RetrievalConfig:
    """The options as a config. Raises UsageError where they make no sense together."""
    try:
        return RetrievalConfig(**values)
    except ValueError as error:
        raise click.UsageError(str(error)) from error


def summary(metrics: dict[str, Any]) -> str:
    """The table that the command ends with."""
    lines = []
    if "perplexity" in metrics:
        lines.append(
            f"perplexity {metrics['perplexity']:.2f} ({metrics['perplexity_known']:.2f} without <unk>), vocabulary "
            f"{metrics['vocabulary_size']}"
        )
    names = ("Bleu_1", "Bleu_2", "Bleu_3", "Bleu_4", "ROUGE_L", "CIDEr")
    if "Bleu_1" in metrics:
        decoding = metrics["decoding"]
        label = "sampled" if decoding["sample"] else f"beam {decoding['beam']}"
        label += ", by length" if decoding["length_norm"] else ""
        lines.append(" " * 18 + "".join(f"{name:>9}" for name in names))
        for title, scores in ((label, metrics), ("greedy", metrics["greedy"])):
            lines.append(f"{title:<18}" + "".join(f"{scores[name]:9.3f}" for name in names))
    if "retrieval" in metrics:
        retrieval = metrics["retrieval"]
        lines.append(f"{'':<27}" + "".join(f"{name:>13}" for name in ("R@1", "R@5", "R@10", "median_rank")))
        directions = ("image_to_sentence", "image_to_sentence_raw", "image_to_sentence_per_word", "sentence_to_image")
        for name in (name for name in directions if name in retrieval):
            lines.append(f"{name:<27}" + "".join(f"{value:13.1f}" for value in retrieval[name].values()))
        for name, values in retrieval.get("best_of_ties", {}).items():
            lines.append(f"{name + ', ties won':<27}" + "".join(f"{value:13.1f}" for value in values.values()))
    return "\n".join(lines)

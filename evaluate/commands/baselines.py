"""evaluate-baselines: what captions without a model, n-gram language models and chance reach on a split."""

from pathlib import Path
from typing import Any

import click

from mrnn.data.command import command, setting_options
from mrnn.data.options import (
    allow_partial_option,
    features_option,
    output_option,
    path_type,
    seed_option,
    split_option,
)
from mrnn.train.settings import TrainSettings

EPILOG = """\b
Example:
  evaluate-baselines --features feats.h5

This writes baselines.json and the captions of each baseline, captions-NAME.json.

The vocabulary is that of train-mrnn with the same --cutoff, so perplexities are of the same words as those of
evaluate-mrnn. --beside adds evaluated models to the tables. On a data set of the papers it also prints the papers'
tables, with rows of these models and of the n-gram models. One more baseline, the network that sees no image, is such a
model: train it with train-mrnn --model rnn-base."""


@command("evaluate-baselines", epilog=EPILOG)
@features_option
@split_option("Images to measure on.")
@output_option("Folder for the results.  [default: runs/CACHE-baselines/evaluation-SPLIT]")
@setting_options(TrainSettings, only=("cutoff",))
@seed_option("Random seed that draws the random captions.")
@click.option(
    "--beside",
    multiple=True,
    type=path_type,
    metavar="FOLDER",
    help="Also list the model that evaluate-mrnn wrote this folder for; may be given several times.",
)
@allow_partial_option
def main(
    features: Path,
    split: str,
    output: Path | None,
    cutoff: int,
    seed: int,
    beside: tuple[Path, ...],
    allow_partial: bool,
) -> None:
    """Measure baselines on a split: what a trained model has to beat."""
    from mrnn.data.cache import open_cache
    from mrnn.evaluate.report.papers import papers_data_set, papers_table
    from mrnn.evaluate.studies.baselines import beside_baselines, measure_baselines

    cache = open_cache(features, allow_partial=allow_partial)
    output = output or Path("runs") / f"{features.stem}-baselines" / f"evaluation-{split}"
    models = [beside_baselines(folder, cache.dataset, split) for folder in beside]
    content = measure_baselines(cache, output, split=split, cutoff=cutoff, seed=seed)
    click.echo(table(content, models))
    if models and (papers := papers_data_set(cache.dataset, cache.root)):
        click.echo(f"\n{papers_table(models, papers, baselines=content['baselines'])}\n")
    click.echo(f"written: {output / 'baselines.json'}")


def table(content: dict[str, Any], models: list[dict[str, Any]]) -> str:
    """The tables that the command prints: a row for each baseline and for each model beside them."""
    from mrnn.evaluate.metrics import names

    counts, shown = content["counts"], [names.metric_of("perplexity"), *names.CAPTION_SCORES]
    recalls = list(names.recall_columns())
    lines = [
        f"{content['dataset']} {content['split']}: {counts['images']} images, {counts['sentences']} sentences; "
        f"training: {counts['training_images']} images; vocabulary {content['vocabulary_size']}",
        " " * 18 + "".join(f"{row.key:>11}" for row in shown),
    ]
    named = [*content["baselines"].items(), *((metrics["name"], metrics) for metrics in models)]
    for name, values in named:
        cells = [row.format(values[row.key]) if row.key in values else "" for row in shown]
        if any(cells):
            lines.append(f"{name:<18}" + "".join(f"{cell:>11}" for cell in cells))
    for direction in ("image_to_sentence", "sentence_to_image"):
        lines.append(f"{direction:<18}" + "".join(f"{name:>13}" for name in (*recalls, "among images")))
        for name, values in named:
            if "retrieval" in values:
                found = values["retrieval"][direction]  # of an evaluation by an older version, perhaps fewer numbers
                numbers = (f"{found[column]:13.1f}" if column in found else f"{'':13}" for column in recalls)
                lines.append(f"{name:<18}" + "".join(numbers) + f"{values['retrieval']['images']:13}")
    return "\n".join(lines)

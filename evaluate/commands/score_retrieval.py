"""evaluate-retrieval: ranks and recalls of a matrix of scores that any program may have written, without a model."""

import json
from pathlib import Path
from typing import Any

import click

from mrnn.data.command import command
from mrnn.data.options import (
    dataset_option,
    json_option,
    output_option,
    path_type,
    root_option,
    seed_option,
    split_option,
)
from mrnn.data.outputs import OutputFile, is_json_with
from mrnn.evaluate.settings import ALL

EPILOG = """\b
Example:
  evaluate-retrieval scores.npy --dataset flickr8k
  evaluate-retrieval scores.npy --captions sentences.csv --output retrieval.json
  evaluate-retrieval scores.npy --sentences-per-image 5

MATRIX.npy holds floats, written by numpy.save: a row for each image and a column for each sentence; a higher score is
better. Rows stand for the images, and columns for the sentences, in the order of the data set or of the file of
captions. docs/retrieval.md defines every number."""


@command("evaluate-retrieval", epilog=EPILOG)
@click.argument("matrix", type=path_type, metavar="MATRIX.npy")
@dataset_option("Data set whose images and sentences the rows and columns are.", required=False)
@root_option
@split_option("Images of the data set.", more=(ALL,))
@click.option(
    "--captions",
    type=path_type,
    metavar="FILE",
    help="File of sentences to use instead of a data set, one for each column: .csv, .tsv, .jsonl, or a COCO "
    "annotation file.",
)
@click.option(
    "--sentences-per-image",
    type=click.IntRange(min=1),
    metavar="N",
    help="Instead of captions: the first N columns belong to the first row, the next N to the second, and so on.",
)
@seed_option("Random seed of the bootstrap.")
@json_option
@output_option(
    "Also write the numbers to this file.",
    metavar="FILE.json",
    type=OutputFile("a file of retrieval scores", is_json_with("image_to_sentence", "sentence_to_image", "matrix")),
)
def main(
    matrix: Path,
    dataset: str | None,
    root: Path | None,
    split: str,
    captions: Path | None,
    sentences_per_image: int | None,
    seed: int,
    as_json: bool,
    output: Path | None,
) -> None:
    """Rank images and sentences by the matrix of scores of any program."""
    if sum(given is not None for given in (dataset, captions, sentences_per_image)) != 1:
        raise click.UsageError("give one of --dataset NAME, --captions FILE and --sentences-per-image N")

    from mrnn.data.files import write_json
    from mrnn.evaluate.studies.reference_files import references
    from mrnn.evaluate.studies.score_matrices import score_matrix

    owners = sentences_per_image or references(
        captions, dataset=dataset, root=root, split=split, report=lambda line: click.echo(line, err=True)
    )
    found = score_matrix(matrix, owners, seed=seed)
    click.echo(json.dumps(found, indent=1) if as_json else table(found))
    if output is not None:
        write_json(output, found)


def table(found: dict[str, Any]) -> str:
    """The lines that the command prints: what was found, with intervals, and with ties counted as won."""
    from mrnn.evaluate.report.console import retrieval_lines

    bootstrap = found["bootstrap"]
    lines = [f"{found['images']:,} images, {found['sentences']:,} sentences", *retrieval_lines(found)]
    lines += ["", f"{'':<32}{bootstrap['level']:.0%} interval, {bootstrap['resamples']:,} resamples of images"]
    lines += [f"{name:<32}{low:.1f} to {high:.1f}" for name, (low, high) in found["intervals"].items()]
    return "\n".join(lines)

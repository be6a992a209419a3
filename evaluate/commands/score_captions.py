"""evaluate-captions: the scores of a captions file that any program may have written, without a model."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mrnn.data.command import command
from mrnn.data.options import dataset_option, output_option, path_type, root_option, split_option
from mrnn.data.outputs import OutputFile, is_json_with
from mrnn.evaluate.metrics.tokenizers import TOKENIZERS
from mrnn.evaluate.settings import ALL

if TYPE_CHECKING:
    from mrnn.evaluate.metrics.captions import CaptionScores

EPILOG = """\b
Example:
  evaluate-captions captions.json --dataset flickr8k
  evaluate-captions results.json --references captions_val2017.json --allow-subset
  evaluate-captions mine.json --references sentences.csv --df captions_train2017.json

RESULTS.json has the COCO result format, a list of {"image_id", "caption"}. image_id is the name that the data set gives
the image: the integer for COCO, the file name for the others. evaluate-mrnn writes such a file, captions.json.

The references are the sentences of a data set, or of a file: CSV or TSV with the columns image_id (or image) and
caption, JSON lines with these keys, or a COCO annotation file.

The scores equal those of coco-caption. METEOR and SPICE run in Java; where Java is missing, fails or takes too long,
they are left out and the reason is printed. docs/metrics.md defines every score."""


@command("evaluate-captions", epilog=EPILOG)
@click.argument("results", type=path_type, metavar="RESULTS.json")
@dataset_option("Data set whose captions are the references.", required=False)
@root_option
@split_option("Images of the data set.", more=(ALL,))
@click.option(
    "--references",
    type=path_type,
    metavar="FILE",
    help="File of references to use instead of a data set: .csv, .tsv, .jsonl, or a COCO annotation file.",
)
@click.option(
    "--df",
    type=path_type,
    metavar="FILE",
    help="Captions whose document frequencies CIDEr uses, in a file like that of --references.  [default: the "
    "references]",
)
@click.option("--allow-subset", is_flag=True, help="Accept images without a caption and leave them out.")
@click.option(
    "--tokenizer",
    type=click.Choice(list(TOKENIZERS)),
    default="ptb",
    show_default=True,
    help="Tokeniser: ptb as coco-caption, plain as the models learn their words.",
)
@click.option("--meteor/--no-meteor", default=True, show_default=True, help="Compute METEOR, which needs Java.")
@click.option("--spice", is_flag=True, help="Compute SPICE, which needs Java and models downloaded before.")
@click.option(
    "--java-seconds",
    type=click.FloatRange(min=0, min_open=True),
    default=600.0,
    show_default=True,
    help="Time limit for each of METEOR and SPICE, in seconds.",
)
@output_option(
    "Also write the scores to this file.",
    metavar="FILE.json",
    type=OutputFile("a file of scores", is_json_with("ngram_precision", "counts", "tokenizer", "definitions")),
)
@click.option("--per-image", is_flag=True, help="Include the scores of every image in --output.")
def main(
    results: Path,
    dataset: str | None,
    root: Path | None,
    split: str,
    references: Path | None,
    df: Path | None,
    allow_subset: bool,
    tokenizer: str,
    meteor: bool,
    spice: bool,
    java_seconds: float,
    output: Path | None,
    per_image: bool,
) -> None:
    """Score the captions of any program against the captions of a data set."""
    if (dataset is None) == (references is None):
        raise click.UsageError("give either --dataset NAME or --references FILE")
    if per_image and output is None:
        raise click.UsageError("--per-image needs --output FILE.json to write to")

    from mrnn.data.files import write_json
    from mrnn.evaluate.studies.caption_files import score_file

    scored = score_file(
        results,
        references=references,
        dataset=dataset,
        root=root,
        split=split,
        df=df,
        allow_subset=allow_subset,
        tokenizer=tokenizer,
        java=["METEOR"] * meteor + ["SPICE"] * spice,
        java_seconds=java_seconds,
        report=lambda line: click.echo(line, err=True),
    )
    click.echo(table(scored.scores, title=f"{scored.source}, {tokenizer} tokens", counts=scored.counts))
    for reason in scored.skipped.values():
        click.echo(reason, err=True)
    if output is not None:
        write_json(output, scored.to_json(per_image=per_image))


def table(scores: "CaptionScores", *, title: str, counts: dict[str, Any]) -> str:
    """The table that the command prints."""
    from mrnn.evaluate.report.console import bleu_table

    bleu = bleu_table(
        [scores.corpus[f"Bleu_{n}"] for n in range(1, 5)],
        ngram_precision=scores.ngram_precision,
        ngram_precision_with_penalty=scores.ngram_precision_with_penalty,
        brevity_penalty=scores.brevity_penalty,
    )
    others = [name for name in scores.corpus if not name.startswith("Bleu")]
    subset = "" if counts["images"] == counts["images_in_references"] else f" of {counts['images_in_references']:,}"
    return "\n".join(
        [
            f"{title}: {counts['images']:,}{subset} images, {counts['references']:,} references",
            *bleu,
            "   ".join(f"{name} {scores.corpus[name]:.3f}" for name in others),
        ]
    )

"""evaluate-captions: the scores of anybody's captions file, without a model."""

from importlib.metadata import version
from pathlib import Path
from typing import Any

import click

from mrnn.data.captions import SPLITS
from mrnn.data.command import debug_option, one_line_errors
from mrnn.data.datasets import READERS, read_dataset
from mrnn.data.errors import EvaluationError, ScorerUnavailable
from mrnn.data.files import write_json
from mrnn.evaluate.metrics.captions import CaptionScores, definitions, score_captions
from mrnn.evaluate.metrics.java_scorers import java_scores
from mrnn.evaluate.metrics.tokenizers import TOKEN_DEFINITIONS, TOKENIZERS, Candidates, References, tokenize_all
from mrnn.evaluate.report.console import bleu_table
from mrnn.evaluate.studies.caption_files import ALL, check_images, read_references, read_results, references_of

EPILOG = """\b
Example:
  evaluate-captions captions.json --dataset flickr8k
  evaluate-captions results.json --references captions_val2017.json --allow-subset

The first file is in the result format of COCO, a list of {"image_id", "caption"}; image_id is the data set's own
name for the image (COCO: the integer, else the file name). evaluate-mrnn writes such a file, captions.json.
The scores equal those of coco-caption. METEOR and SPICE run Java; where it is missing, dies or takes too long,
they are left out and the reason is printed. docs/metrics.md has the definitions."""


@click.command(epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("results", type=click.Path(path_type=Path), metavar="RESULTS.json")
@click.option("--dataset", type=click.Choice(list(READERS)), help="The data set whose sentences are the references.")
@click.option(
    "--root", type=click.Path(path_type=Path), help="Its folder.  [default: $MRNN_DATA/NAME or datasets/NAME]"
)
@click.option("--split", type=click.Choice([*SPLITS, ALL]), default="test", show_default=True, help="Of its images.")
@click.option("--references", type=click.Path(path_type=Path), help="Instead of a data set: a COCO captions_*.json.")
@click.option("--allow-subset", is_flag=True, help="Score the images that have a caption, though others have none.")
@click.option(
    "--tokenizer",
    type=click.Choice(list(TOKENIZERS)),
    default="ptb",
    show_default=True,
    help="Words as coco-caption counts them, or plain ones as the models learn them.",
)
@click.option("--meteor/--no-meteor", default=True, show_default=True, help="METEOR, where there is Java.")
@click.option("--spice", is_flag=True, help="SPICE too: needs Java and models fetched before.")
@click.option("--java-seconds", type=click.FloatRange(min=0, min_open=True), default=600.0, show_default=True,
              help="Time limit for each of the two.")  # fmt: skip
@click.option("--output", type=click.Path(path_type=Path), metavar="FILE.json", help="Write the scores to a file too.")
@click.option("--per-image", is_flag=True, help="With the scores of every image in it.")
@debug_option
@one_line_errors
def main(
    results: Path,
    dataset: str | None,
    root: Path | None,
    split: str,
    references: Path | None,
    allow_subset: bool,
    tokenizer: str,
    meteor: bool,
    spice: bool,
    java_seconds: float,
    output: Path | None,
    per_image: bool,
) -> None:
    """Score captions made by any program against a data set's sentences."""
    if (dataset is None) == (references is None):
        raise click.UsageError("give either --dataset NAME or --references FILE.json")
    if per_image and output is None:
        raise click.UsageError("--per-image needs --output FILE.json to write to")
    captions = read_results(results)
    if dataset is not None:
        known, source = references_of(read_dataset(dataset, root), split), f"{dataset} {split}"
    else:
        assert references is not None
        known, source = read_references(references), references.name
    check_images(captions, known, source=source, allow_subset=allow_subset)
    candidates, sentences = tokenize_all(captions, known, tokenizer=tokenizer)
    wordless = [image for image, each in sentences.items() if not any(each)]
    if wordless:
        raise EvaluationError(f"{source}: image {wordless[0]} has no reference sentence with a word in it")
    scores = score_captions(candidates, sentences)
    wanted = ["METEOR"] * meteor + ["SPICE"] * spice
    skipped = add_java_scores(scores, candidates, references=sentences, scorers=wanted, seconds=java_seconds)
    counts = {
        "images": len(captions),
        "images_in_references": len(known),
        "references": sum(map(len, sentences.values())),
    }
    click.echo(table(scores, title=f"{source}, {tokenizer} tokens", counts=counts))
    for reason in skipped.values():
        click.echo(reason, err=True)
    if output is not None:
        content = {
            **scores.corpus,
            "ngram_precision": list(scores.ngram_precision),
            "ngram_precision_with_penalty": list(scores.ngram_precision_with_penalty),
            "brevity_penalty": scores.brevity_penalty,
            "skipped": skipped,
            "counts": counts,
            "results": str(results),
            "references": source,
            "tokenizer": tokenizer,
            "definitions": {**definitions(), "tokens": TOKEN_DEFINITIONS[tokenizer]},
            "mrnn": version("mrnn"),
            **({"per_image": scores.per_image} if per_image else {}),
        }
        write_json(output, content)


def add_java_scores(
    scores: CaptionScores, candidates: Candidates, *, references: References, scorers: list[str], seconds: float
) -> dict[str, str]:
    """Put the scores of these Java scorers into `scores`; what could not be had, with the reason."""
    skipped = {}
    for scorer in scorers:
        click.echo(f"{scorer} runs in Java; this can take a minute", err=True)
        try:
            found = java_scores(scorer, candidates, references=references, seconds=seconds)
        except ScorerUnavailable as error:
            skipped[scorer] = str(error)
            continue
        scores.corpus[scorer] = found.corpus
        for image, score in found.per_image.items():
            scores.per_image[image][scorer] = score
    return skipped


def table(scores: CaptionScores, *, title: str, counts: dict[str, Any]) -> str:
    """What the command prints."""
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

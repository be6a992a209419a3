"""caption-images: captions for picture files, from pixels to words."""

import json
import sys
from pathlib import Path
from typing import Any

import click
import torch

from mrnn.data.command import EXIT_IMAGES_FAILED, debug_option, one_line_errors
from mrnn.data.files import write_whole
from mrnn.evaluate.evaluation import decoding_settings
from mrnn.evaluate.fit import known_prefix
from mrnn.evaluate.generation.decode import Caption, Decoder, DecodingConfig
from mrnn.evaluate.report.captioned import captioned_page
from mrnn.evaluate.report.page import render
from mrnn.extract.recorded import as_recorded, rebuild_backbone
from mrnn.extract.runner import features_of_files
from mrnn.train.checkpoint import TrainedModel, load_trained
from mrnn.train.device import pick_device

DECODING = DecodingConfig()
LARGEST_BATCH = 64

EPILOG = """\b
Example:
  caption-images --checkpoint runs/feats-mrnn --html captions.html holiday/*.jpg

The page of --html shows the pictures with their captions, other captions of the search, and why every word was chosen.
With --json a list of {"file", "caption", "log_prob", "words": [{"word", "log_prob"}]}. log_prob is the natural
logarithm of P(caption | image), the sum over all words and the end sign, which stands last among the words as
"<end>"; a caption that was cut at --max-steps has none.
Exit code 3: some files are not pictures; they are listed on stderr, the others captioned."""


@click.command(epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("images", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="IMAGE...")
@click.option(
    "--checkpoint", required=True, type=click.Path(path_type=Path), help="The run folder (its best is taken)."
)
@click.option("--weights", help="Of the backbone: a file, or pretrained.  [default: where they came from]")
@click.option("--beam", default=DECODING.beam, show_default=True, help="Captions kept while searching; 1 is greedy.")
@click.option("--length-norm", is_flag=True, help="Rank them by log-probability a word at the end.")
@click.option("--max-steps", default=DECODING.max_steps, show_default=True, help="Longest caption, END included.")
@click.option("--prefix", default="", help="Words that every caption begins with.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON with the probability of every word.")
@click.option("--html", type=click.Path(path_type=Path), help="Also write a page to look at.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1, ...")
@click.option("--workers", type=click.IntRange(min=1), default=2, show_default=True, help="Threads that read pictures.")
@debug_option
@one_line_errors
def main(
    images: tuple[Path, ...],
    checkpoint: Path,
    weights: str | None,
    beam: int,
    length_norm: bool,
    max_steps: int,
    prefix: str,
    as_json: bool,
    html: Path | None,
    device: str,
    workers: int,
) -> None:
    """Describe picture files with a trained model."""
    try:
        config = DecodingConfig(beam=beam, max_steps=max_steps, length_norm=length_norm)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    place = pick_device(device, "fp32")
    trained = load_trained(checkpoint, device=place)
    words = known_prefix(trained, prefix)
    backbone = rebuild_backbone(
        trained.features, weights, feature_size=trained.model.config.features, where=str(trained.file)
    )
    features, reasons = features_of_files(
        backbone, images, batch_size=min(len(images), LARGEST_BATCH), device=str(place), workers=workers
    )
    good = [number for number in range(len(images)) if number not in reasons]
    rows = torch.from_numpy(as_recorded(trained.features, features[good]))
    captions = Decoder(trained.model)(rows, config, prefix=trained.vocabulary.encode(words))
    files = [images[number] for number in good]
    found = [(file, best) for file, (best, *_) in zip(files, captions, strict=True)]
    if html:
        settings = {"checkpoint": str(trained.file), "decoding": decoding_settings(config, words)}
        write_whole(html, render(captioned_page(trained, files, rows, captions, settings=settings)).encode())
    if as_json:
        click.echo(json.dumps([describe(trained, file, best) for file, best in found], indent=1, ensure_ascii=False))
    else:
        for file, best in found:
            click.echo(f"{file}: {' '.join(trained.vocabulary.decode(best.words))}")
    if html:
        click.echo(f"page: {html}", err=True)
    for number, reason in sorted(reasons.items()):
        click.echo(f"{images[number]}: {reason}", err=True)
    if reasons:
        sys.exit(EXIT_IMAGES_FAILED)


def describe(trained: TrainedModel, file: Path, caption: Caption) -> dict[str, Any]:
    """What --json prints about one picture."""
    words = [*trained.vocabulary.decode(caption.words), *(["<end>"] if caption.complete else [])]
    return {
        "file": str(file),
        "caption": " ".join(trained.vocabulary.decode(caption.words)),
        "log_prob": caption.log_prob,
        "words": [
            {"word": word, "log_prob": log_prob} for word, log_prob in zip(words, caption.log_probs, strict=True)
        ],
    }

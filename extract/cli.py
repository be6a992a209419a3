"""extract-features: the images of a data set through a fixed network into a feature cache."""

import sys
from pathlib import Path
from typing import Any

import click

from mrnn.data.command import EXIT_IMAGES_FAILED, command, setting_options
from mrnn.data.options import (
    boxes_option,
    dataset_option,
    device_option,
    no_lock_option,
    output_option,
    path_type,
    root_option,
)
from mrnn.data.outputs import OutputFile, is_cache
from mrnn.data.settings import name_features
from mrnn.data.stopping import stop_on_signals
from mrnn.extract.config import Colour, ExtractionConfig, parse_shard

EPILOG = """\b
Examples:
  extract-features --dataset flickr30k
  extract-features --dataset folder --root photos --backbone timm:tf_efficientnet_lite0 \\
      --weights tf_efficientnet_lite0.safetensors --output photos.h5
  extract-features --dataset flickr8k --backbone timm:tf_efficientnet_lite0 \\
      --layer blocks.4+blocks.5+penultimate --views flip --output layers.h5
  extract-features --dataset coco --shard 2/8 --output coco-2.h5 --threads 8
  extract-features --dataset flickr8k --regions detector:yolox-nano:yolox_nano_coco.safetensors \\
      --region-features roi --boxes entities_flickr8k.jsonl.gz --output regions.h5
  extract-features --dataset folder --root photos --reuse photos.h5 --output more-photos.h5"""


def read_colour(context: click.Context, option: click.Parameter, text: str | None) -> Colour | None:
    """'R,G,B' as three numbers."""
    if text is None:
        return None
    try:
        red, green, blue = (float(part) for part in text.split(","))
    except ValueError:
        raise click.BadParameter(f"give three numbers as R,G,B, not {text!r}") from None
    return red, green, blue


@command("extract-features", epilog=EPILOG)
@dataset_option("Data set to read.")
@root_option
@boxes_option
@output_option(
    "Feature cache to write, or to resume.",
    metavar="FILE",
    default=Path("feats.h5"),
    type=OutputFile("a feature cache", is_cache),
)
@setting_options(ExtractionConfig)
@click.option("--mean", metavar="R,G,B", callback=read_colour, help="Mean to subtract per channel; white is 1.")
@click.option("--std", metavar="R,G,B", callback=read_colour, help="Standard deviation to divide by per channel.")
@device_option
@click.option("--shard", metavar="I/N", help="Extract only part I (from 0) of N; merge-features joins the parts.")
@click.option(
    "--limit", type=click.IntRange(min=1), help="Number of images for a trial, always the same ones.  [default: all]"
)
@click.option("--retry-failed", is_flag=True, help="Try images again that failed in an earlier run.")
@click.option(
    "--overwrite", is_flag=True, help="Compute everything again; the old file stays until the new one is complete."
)
@click.option(
    "--reuse",
    multiple=True,
    type=path_type,
    metavar="OLD",
    help="Older feature cache, from which the rows of unchanged images are taken; repeatable.",
)
@no_lock_option
def main(
    dataset: str,
    root: Path | None,
    boxes: Path | None,
    output: Path,
    shard: str | None,
    limit: int | None,
    retry_failed: bool,
    overwrite: bool,
    reuse: tuple[Path, ...],
    no_lock: bool,
    **settings: Any,
) -> None:
    """Compute image features and write them, with the captions, to one HDF5 file.

    Run the same command again to resume after a stop or a kill. Images that cannot be decoded are listed in
    OUTPUT.report.tsv. Exit codes: 0 finished, 1 failed, 2 wrong usage, 3 finished, but some images could not be
    decoded, 75 stopped by a signal with everything saved, 130 stopped by Ctrl-C with everything saved.
    """
    config = ExtractionConfig(**settings)
    part = parse_shard(shard) if shard else (0, 1)
    # Here, so that --help and wrong usage do not wait for h5py and torch.
    from mrnn.data.datasets import read_dataset
    from mrnn.extract.extraction import extract_dataset

    corpus = read_dataset(dataset, root, boxes=boxes)
    for note in corpus.notes:
        click.echo(note, err=True)
    with stop_on_signals() as stop:
        made = extract_dataset(
            corpus,
            output,
            config=config,
            shard=part,
            limit=limit,
            retry_failed=retry_failed,
            overwrite=overwrite,
            reuse=reuse,
            lock=not no_lock,
            stop=stop,
            report=lambda line: click.echo(line, err=True),
        )
    if not made.computed:
        click.echo(f"{output} was finished before; nothing to do (--overwrite computes everything again)")
    if reuse and made.computed:
        older = ", ".join(map(str, reuse))
        click.echo(f"{made.reused} images were taken from {older}, {made.computed - made.reused} computed")
    for kind, number in made.problems.items():
        click.echo(f"{kind}: {number}", err=True)
    cache = made.cache
    click.echo(
        f"{output}: {len(cache.done())} of {len(cache.images)} images have {cache.feature_size} features of "
        f"{name_features(cache.provenance)}; report: {made.report}"
    )
    if cache.reasons:
        sys.exit(EXIT_IMAGES_FAILED)

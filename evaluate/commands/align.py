"""align-sentences: which region of a picture each part of a sentence speaks of."""

import json
from pathlib import Path

import click

from mrnn.data.command import command
from mrnn.data.options import (
    allow_partial_option,
    checkpoint_option,
    device_option,
    features_option,
    images_option,
    split_option,
    threads_option,
)
from mrnn.evaluate.commands.options import html_option, use_threads

EPILOG = """\b
Example:
  extract-features --dataset flickr8k --regions grid --output regions.h5
  train-mrnn --model alignment --features regions.h5
  align-sentences --checkpoint runs/regions-alignment --features regions.h5 --limit 20 --html aligned.html

Each line is a JSON object: the image's id, the sentence, and its segments with first word, word after the last, row of
the region (0 is the whole picture), rectangle (left, top, width, height in pixels of the upright picture) and score."""


@command("align-sentences", epilog=EPILOG)
@checkpoint_option
@features_option
@split_option("Split whose sentences are aligned.")
@click.option(
    "--beta",
    type=click.FloatRange(min=0),
    default=0.1,
    show_default=True,
    help="Reward for neighbouring words with the same region: 0 aligns each word on its own, a large value aligns the "
    "whole sentence with one region.",
)
@click.option("--limit", type=click.IntRange(min=1), help="Number of images to align.  [default: all]")
@html_option("Also write a page with the regions drawn into the pictures to this file.")
@images_option
@device_option
@threads_option
@allow_partial_option
def main(
    checkpoint: Path,
    features: Path,
    split: str,
    beta: float,
    limit: int | None,
    html: Path | None,
    images: Path | None,
    device: str,
    threads: int,
    allow_partial: bool,
) -> None:
    """Align each sentence of a split with the regions of its image and print its segments as JSON lines."""
    use_threads(threads)
    from mrnn.data.cache import open_cache
    from mrnn.evaluate.fit import check_fit
    from mrnn.evaluate.grounding.alignments import align, alignment_model
    from mrnn.train.checkpoint import load_trained
    from mrnn.train.device import pick_device

    trained = load_trained(checkpoint, device=pick_device(device, "fp32"))
    alignment_model(trained)
    cache = open_cache(features, allow_partial=allow_partial)
    chosen = check_fit(trained, cache, split)[:limit]
    aligned = []
    for each in align(trained, cache, chosen, beta=beta):
        click.echo(json.dumps(each.to_json(), ensure_ascii=False))
        if html:
            aligned.append(each)
    if html:
        from mrnn.data.files import write_whole
        from mrnn.evaluate.report.aligned import aligned_page
        from mrnn.evaluate.report.page import render
        from mrnn.evaluate.report.pictures import Pictures

        pictures = Pictures(images or cache.root, named=images is not None)
        settings = {"checkpoint": str(trained.file), "features": str(cache.path), "split": split, "beta": beta}
        page = aligned_page(aligned, cache, pictures=pictures, settings=settings)
        write_whole(html, render(page).encode())


if __name__ == "__main__":
    main()

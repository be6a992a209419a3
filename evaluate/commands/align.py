"""align-sentences: which region of a picture each part of a sentence speaks of."""

import json
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mrnn.data.captions import SPLITS
from mrnn.data.command import EXIT_IMAGES_FAILED, command
from mrnn.data.options import (
    allow_partial_option,
    checkpoint_option,
    device_option,
    images_option,
    output_option,
    path_type,
    threads_option,
)
from mrnn.data.outputs import OutputFile, is_json_line_with
from mrnn.evaluate.commands.options import (
    html_option,
    is_default,
    region_weights_option,
    some_of,
    use_threads,
    weights_option,
)
from mrnn.evaluate.grounding.segments import BETA

if TYPE_CHECKING:
    from mrnn.evaluate.grounding.alignments import Aligned
    from mrnn.evaluate.report.aligned_figures import FigureFolder

EPILOG = """\b
Examples:
  align-sentences --checkpoint runs/regions-alignment --image dog.jpg --sentence "a dog in the snow" --html dog.html
  align-sentences --checkpoint runs/regions-alignment --features regions.h5 --limit 20 --html aligned.html
  align-sentences --checkpoint runs/regions-alignment --features regions.h5 --split train,val --output segments.jsonl

Each line is a JSON object: the image's id (or file), the sentence, and its segments with first word, word after the
last, row of the region (0 is the whole picture), rectangle (left, top, width, height in pixels of the upright picture)
and score.

Exit code 3: some of the image files could not be read; they are listed on stderr."""

OF_A_CACHE = {"split": "--split", "limit": "--limit", "images": "--images", "allow_partial": "--allow-partial"}
OF_FILES = {"sentence": "--sentence", "weights": "--weights", "region_weights": "--region-weights"}


@command("align-sentences", epilog=EPILOG)
@checkpoint_option
@click.option(
    "--features",
    type=path_type,
    metavar="FILE",
    help="Feature cache written by extract-features, whose own sentences are aligned.",
)
@click.option(
    "--image",
    multiple=True,
    type=path_type,
    metavar="FILE",
    help="Instead of a cache: an image file, a folder of images, or a pattern; may be repeated.",
)
@click.option(
    "--sentence", multiple=True, help="Sentence to align with each --image, in quotes; may be repeated.", metavar="TEXT"
)
@click.option(
    "--beta",
    type=click.FloatRange(min=0),
    default=BETA,
    show_default=True,
    help="Reward for neighbouring words with the same region: 0 aligns each word on its own, a large value aligns the "
    "whole sentence with one region.",
)
@click.option(
    "--correct",
    type=path_type,
    metavar="FILE",
    help="correction.json of evaluate-mrnn, which measured grounding: correct the scores of words and regions as it "
    "chose on the dev split.  [default: scores as they are, Eq. 8]",
)
@click.option(
    "--split",
    default="test",
    callback=some_of(SPLITS),
    metavar="SPLITS",
    show_default=True,
    help="Splits of the cache whose sentences are aligned, separated by commas.",
)
@click.option("--limit", type=click.IntRange(min=1), help="Number of images of each split to align.  [default: all]")
@output_option(
    "Write the lines to this file, whole or not at all, instead of printing them.",
    metavar="FILE.jsonl",
    type=OutputFile("a file of segments", is_json_line_with("image_id", "number", "segments")),
)
@html_option("Also write a page with the regions drawn into the pictures to this file.")
@click.option(
    "--figures",
    type=path_type,
    metavar="FOLDER",
    help="Also draw each sentence with its picture and regions, as PNG and SVG, into this folder.",
)
@images_option
@weights_option
@region_weights_option
@device_option
@threads_option
@allow_partial_option
def main(
    checkpoint: Path,
    features: Path | None,
    image: tuple[Path, ...],
    sentence: tuple[str, ...],
    beta: float,
    correct: Path | None,
    split: tuple[str, ...],
    limit: int | None,
    output: Path | None,
    html: Path | None,
    figures: Path | None,
    images: Path | None,
    weights: str | None,
    region_weights: str | None,
    device: str,
    threads: int,
    allow_partial: bool,
) -> None:
    """Align sentences with the regions of their images and write the segments as JSON lines.

    The sentences are those of a feature cache (--features), or your own for your own pictures (--image, --sentence).
    """
    check_options(features, image, sentence)
    use_threads(threads)
    from mrnn.evaluate.grounding.alignments import align, alignment_model
    from mrnn.evaluate.grounding.corrector import read_corrector
    from mrnn.evaluate.report.pictures import Pictures
    from mrnn.evaluate.run import open_run

    run = open_run(checkpoint, device=device, weights=weights, region_weights=region_weights)
    trained = run.trained
    alignment_model(trained)
    corrector = read_corrector(correct, trained) if correct else None
    settings: dict[str, Any] = {"checkpoint": str(trained.file), "beta": beta, "corrections": str(correct or "none")}
    pictures: Pictures | None = None
    unreadable: list[tuple[str, str]] = []
    aligned: Iterable[tuple[Aligned, Path | None]]  # with the file of the image
    if features is None:
        from mrnn.data.pictures import picture_files
        from mrnn.evaluate.aligned_pictures import align_pictures
        from mrnn.evaluate.fit import unknown_notice

        files = picture_files(image)
        folder = figure_folder(figures, {str(file): len(sentence) for file in files})
        found = align_pictures(run.reader, files, sentence, beta=beta, corrector=corrector)
        for text, unknown in found.unknown.items():
            click.echo(f"notice: {unknown_notice(text, unknown)}", err=True)
        aligned = [(each, Path(each.image_id)) for each in found.aligned]
        unreadable = found.unreadable
    else:
        import numpy as np

        from mrnn.data.cache import open_cache
        from mrnn.evaluate.fit import check_fit

        cache = open_cache(features, allow_partial=allow_partial)
        chosen = np.concatenate([check_fit(trained, cache, name)[:limit] for name in split])
        pictures = Pictures(images or cache.root, named=images is not None)
        folder = figure_folder(figures, {cache.images[i].id: len(cache.images[i].sentences) for i in chosen})
        paths = [image.path for image in cache.images]
        if (html or figures) and (warning := pictures.warning([paths[i] for i in chosen])):
            click.echo(warning, err=True)
        lines = align(trained, cache, chosen, beta=beta, corrector=corrector)
        aligned = ((each, pictures.file(paths[each.image])) for each in lines)
        settings |= {"features": str(cache.path), "split": ",".join(split)}
    shown: list[tuple[Aligned, Path | None]] = []
    with line_writer(output) as write:
        for each, file in aligned:
            write(json.dumps(each.to_json(), ensure_ascii=False))
            if html and (features is None or not shown or shown[-1][0].image != each.image):
                shown.append((each, file))
            if folder:
                folder.save(each, file)
    if output:
        click.echo(f"segments: {output}", err=True)
    if html:
        from mrnn.data.files import write_whole
        from mrnn.evaluate.report.aligned import aligned_page
        from mrnn.evaluate.report.page import render

        write_whole(html, render(aligned_page(shown, pictures=pictures, settings=settings)).encode())
        click.echo(f"page: {html}", err=True)
    if figures:
        click.echo(f"figures: {figures}", err=True)
    for name, reason in unreadable:
        click.echo(f"{name}: {reason}", err=True)
    if unreadable:
        sys.exit(EXIT_IMAGES_FAILED)


@contextmanager
def line_writer(output: Path | None) -> Iterator[Callable[[str], None]]:
    """A function that writes a line to a file, which appears when all is written, or to stdout."""
    if output is None:
        yield click.echo
        return
    from mrnn.data.files import new_file

    with new_file(output, replace=True) as draft, draft.open("w", encoding="utf-8") as stream:
        yield lambda line: print(line, file=stream)


def figure_folder(figures: Path | None, sentences: dict[str, int]) -> "FigureFolder | None":
    """Where figures go, if they are wanted. sentences : how many each image has, by its id."""
    if figures is None:
        return None
    from mrnn.evaluate.report.aligned_figures import FigureFolder

    return FigureFolder(figures, sentences)


def check_options(features: Path | None, image: tuple[Path, ...], sentence: tuple[str, ...]) -> None:
    """Raise UsageError unless the options ask for the sentences of a cache, or for files and sentences."""
    if (features is None) == (not image):
        raise click.UsageError(
            "give either --features FILE (a cache with its own sentences) or --image FILE with --sentence TEXT"
        )
    if image and not sentence:
        raise click.UsageError("--image needs a --sentence TEXT (in quotes) to align with it")
    others = OF_A_CACHE if image else OF_FILES
    if given := [option for name, option in others.items() if not is_default(name)]:
        raise click.UsageError(f"{given[0]} goes with {'--features' if image else '--image'} only")


if __name__ == "__main__":
    main()

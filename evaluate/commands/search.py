"""search-images: the best images of a cache for a sentence, the best sentences of a cache for an image."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mrnn.data.command import command
from mrnn.data.options import (
    allow_partial_option,
    checkpoint_option_of,
    device_option,
    features_option_of,
    images_option,
    json_option,
    path_type,
    seed_option,
    split_option,
    threads_option,
)
from mrnn.evaluate.commands.options import (
    html_option,
    is_default,
    normaliser_images_option,
    region_weights_option,
    use_threads,
    weights_option,
)

if TYPE_CHECKING:
    from mrnn.evaluate.report.page import Page
    from mrnn.evaluate.report.pictures import Pictures
    from mrnn.evaluate.search.search import Search

EPILOG = """\b
Example:
  search-images --checkpoint runs/feats-mrnn --features feats.h5 "a dog in the snow"
  search-images --checkpoint runs/feats-mrnn --features feats.h5 --image holiday.jpg --html found.html
  search-images --combination runs/feats-mrnn/evaluation-val-combined/combination.json "a dog in the snow"

Images are ranked by log P(sentence | image), sentences by log P(sentence | image) - log P(sentence), in natural
logarithms. With a model that matches (alignment, devise), images are ranked by its score S, and sentences by (S - mean)
/ deviation over training images; everything is then scored exactly. With --combination, images and sentences are ranked
by the weighted sum of what its models rank by.

Where scoring everything would take longer than a few seconds, only a shortlist is scored exactly. The last line (with
--json, "method") says which was done, and how much of the true top 10 such shortlists held when that was measured. The
vectors that shortlists are made from are kept in the folder --index, so the first such search takes longer: minutes for
40,000 sentences."""


@command("search-images", epilog=EPILOG)
@click.argument("sentence", required=False)
@click.option("--image", type=path_type, metavar="FILE", help="Search with this image file instead of a sentence.")
@checkpoint_option_of(required=False)
@features_option_of(required=False)
@click.option(
    "--combination",
    type=path_type,
    metavar="FILE",
    help="combination.json that evaluate-mrnn --combine wrote: search with its models and caches together, instead of "
    "--checkpoint and --features.",
)
@split_option("Search only the images of this split and their captions.  [default: all]", default=None)
@click.option("--top", type=click.IntRange(min=1), default=10, show_default=True, help="Number of results to show.")
@click.option(
    "--shortlist",
    type=click.FloatRange(0, 100, min_open=True),
    metavar="PERCENT",
    help="Percentage of the images or sentences to score exactly.  [default: 100 where that takes seconds, else 2 of "
    "the images, 5 of the sentences; with --combination 10 and 20]",
)
@json_option
@html_option("Also write a contact sheet of the results to this file.")
@images_option
@click.option(
    "--index",
    type=path_type,
    metavar="FOLDER",
    help="Folder of the index files.  [default: search in the run folder, or beside the file of --combination]",
)
@normaliser_images_option
@seed_option("Random seed that draws the training images of --normaliser-images.")
@weights_option
@region_weights_option
@device_option
@threads_option
@allow_partial_option
def main(
    sentence: str | None,
    image: Path | None,
    checkpoint: Path | None,
    features: Path | None,
    combination: Path | None,
    split: str | None,
    top: int,
    shortlist: float | None,
    as_json: bool,
    html: Path | None,
    images: Path | None,
    index: Path | None,
    normaliser_images: int,
    seed: int,
    weights: str | None,
    region_weights: str | None,
    device: str,
    threads: int,
    allow_partial: bool,
) -> None:
    """Find the images of a feature cache that SENTENCE describes, or the captions that describe an image file."""
    if (sentence is None) == (image is None):
        raise click.UsageError("give either a sentence (in quotes, if it has several words) or --image FILE")
    if (checkpoint is None, features is None) != (combination is not None, combination is not None):
        raise click.UsageError("give either --checkpoint RUN and --features FILE, or --combination FILE")
    if combination is not None and not (is_default("normaliser_images") and is_default("seed")):
        raise click.UsageError(
            "the weights of --combination belong to its own training images: leave out --normaliser-images and --seed"
        )

    from mrnn.data.cache import open_cache
    from mrnn.data.files import write_whole
    from mrnn.evaluate.combination import CombinationGallery, open_combination
    from mrnn.evaluate.report.page import render
    from mrnn.evaluate.report.pictures import Pictures
    from mrnn.evaluate.run import RunGallery, open_run
    from mrnn.train.models.captioner import LateFusion

    use_threads(threads)
    gallery: RunGallery | CombinationGallery
    if combination is not None:
        together = open_combination(
            combination, device=device, weights=weights, region_weights=region_weights, allow_partial=allow_partial
        )
        cache = together.caches[0]
        gallery = together.gallery(split=split, index=index or combination.parent / "search")
    else:
        assert checkpoint is not None
        assert features is not None
        run = open_run(checkpoint, device=device, weights=weights, region_weights=region_weights)
        cache = open_cache(features, allow_partial=allow_partial)
        if index is None and isinstance(run.trained.model, LateFusion):  # other models need no index
            index = run.trained.run / "search"
        gallery = run.gallery(cache, split=split, index=index, normaliser_images=normaliser_images, seed=seed)
    query: dict[str, Any]
    if sentence is not None:
        found = gallery.find_pictures(sentence, top=top, percent=shortlist)
        query = {"sentence": sentence, "unknown_words": found.unknown_words, "split": split}
    else:
        assert image is not None
        found = gallery.find_sentences(image, top=top, percent=shortlist)
        query = {"image": str(image), "split": split, "normaliser_images": len(gallery.priors)}
    for notice in notices(found, sentence=sentence, top=top):
        click.echo(f"notice: {notice}", err=True)
    root = images or cache.root
    if html:
        if warning := Pictures(root).warning([result.path for result in found.results]):
            click.echo(warning, err=True)
        page = results_page(found, Pictures(root, named=images is not None), sentence=sentence, image=image)
        write_whole(html, render(page).encode())
    if as_json:
        results = [result.to_json(root) for result in found.results]
        click.echo(json.dumps({**query, "method": found.method, "results": results}, indent=1, ensure_ascii=False))
    else:
        for result in found.results:
            click.echo(f"{result.rank:4} {result.score:9.2f}  {root / result.path}")
            click.echo(f"{'':16}{' | '.join(result.sentences)}")
        click.echo(found.method["text"])


def notices(found: "Search", *, sentence: str | None, top: int) -> list[str]:
    """What the user should know about the search beside its results."""
    from mrnn.evaluate.fit import unknown_notice

    said = []
    if sentence is not None and found.unknown_words:
        said.append(unknown_notice(sentence, found.unknown_words))
    if top > found.gallery:
        said.append(f"there are only {found.gallery} to show, fewer than the {top} asked for")
    return said


def results_page(found: "Search", pictures: "Pictures", *, sentence: str | None, image: Path | None) -> "Page":
    """The contact sheet of --html.

    found : the search
    pictures : where the images of the cache are
    sentence, image : what was searched with, one of them None
    """
    from mrnn.evaluate.report.pictures import thumbnails
    from mrnn.evaluate.report.search import Hit, contact_sheet

    shown = thumbnails([pictures.file(result.path) for result in found.results])
    hits = [
        Hit(f"{result.rank}. {result.image_id}, {result.score:.2f}", picture, result.sentences)
        for result, picture in zip(found.results, shown, strict=True)
    ]
    notes = [found.method["text"]]
    if found.unknown_words:
        notes.append(f"Words the model does not know: {', '.join(found.unknown_words)}")
    notes += pictures.missing([hit.picture for hit in hits])
    asked = "" if image is None else thumbnails([image])[0]
    return contact_sheet(sentence or (image.name if image else ""), notes, hits, asked=asked)

"""search-images: the best pictures of a cache for a sentence, the best sentences of a cache for a picture."""

import json
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch

from mrnn.data.cache import FeatureCache, open_cache
from mrnn.data.captions import SPLITS, Image
from mrnn.data.command import debug_option, one_line_errors
from mrnn.data.errors import EvaluationError, ImageError
from mrnn.data.files import write_whole
from mrnn.evaluate.fit import check_features, searchable_images, searchable_model, searchable_words
from mrnn.evaluate.report.page import render
from mrnn.evaluate.report.pictures import Pictures, thumbnails
from mrnn.evaluate.report.search import Hit, contact_sheet
from mrnn.evaluate.retrieval.stage import sample_training_images
from mrnn.evaluate.search.gallery import (
    Answer,
    Gallery,
    gallery_sentences,
    measured_recall,
    search_images,
    search_sentences,
)
from mrnn.extract.recorded import as_recorded, rebuild_backbone
from mrnn.extract.runner import features_of_files
from mrnn.train.checkpoint import TrainedModel, load_trained
from mrnn.train.device import pick_device
from mrnn.train.features import Features

EPILOG = """\b
Example:
  search-images --checkpoint runs/feats-mrnn --features feats.h5 "a dog in the snow"
  search-images --checkpoint runs/feats-mrnn --features feats.h5 --image holiday.jpg --html found.html

Pictures are ranked by log P(sentence | picture), sentences by log P(sentence | picture) - log P(sentence), natural
logarithms. Where scoring everything takes longer than seconds, only a shortlist is scored exactly; the last line (in
--json "method") says which it was, and what share of the true best such shortlists held when that was measured. The
vectors that shortlists are made by are kept in the folder --index, so the first such search takes longer: minutes for
40,000 sentences."""


@click.command(epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("sentence", required=False)
@click.option("--image", type=click.Path(path_type=Path), help="Search by this picture file instead of a sentence.")
@click.option(
    "--checkpoint", required=True, type=click.Path(path_type=Path), help="The run folder (its best is taken)."
)
@click.option("--features", required=True, type=click.Path(path_type=Path), help="The feature cache to search.")
@click.option("--split", type=click.Choice(SPLITS), help="Only its images and their sentences.  [default: all]")
@click.option("--top", type=click.IntRange(min=1), default=10, show_default=True, help="How many to show.")
@click.option(
    "--shortlist",
    type=click.FloatRange(0, 100, min_open=True),
    help="Percent of the images or sentences to score exactly.  [default: 100 where that takes seconds, else 2 of the "
    "images, 5 of the sentences]",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--html", type=click.Path(path_type=Path), help="Write a contact sheet to this file as well.")
@click.option("--images", type=click.Path(path_type=Path), help="Folder of the pictures.  [default: as extracted]")
@click.option("--index", type=click.Path(path_type=Path), help="Folder of index files.  [default: search in the run]")
@click.option(
    "--normaliser-images", type=click.IntRange(min=0), default=1000, show_default=True, help="Training images for P(w)."
)
@click.option("--seed", default=0, show_default=True, help="Of the training images for P(w).")
@click.option("--weights", help="Of the backbone, for --image: a file, or pretrained.  [default: where they came from]")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1, ...")
@click.option("--threads", type=click.IntRange(min=0), default=0, help="CPU threads; 0 for torch's choice.")
@click.option("--allow-partial", is_flag=True, help="Accept a cache with images still pending.")
@debug_option
@one_line_errors
def main(
    sentence: str | None,
    image: Path | None,
    checkpoint: Path,
    features: Path,
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
    device: str,
    threads: int,
    allow_partial: bool,
) -> None:
    """Find the pictures of a feature cache that a SENTENCE describes, or the sentences that describe a picture."""
    if (sentence is None) == (image is None):
        raise click.UsageError("give either a sentence (in quotes, if it has several words) or --image FILE")
    if threads:
        torch.set_num_threads(threads)
    place = pick_device(device, "fp32")
    trained = load_trained(checkpoint, device=place)
    searchable_model(trained)
    cache = open_cache(features, allow_partial=allow_partial)
    check_features(trained, cache)
    gallery = Gallery(
        trained, cache, searchable_images(cache, split), Features(cache), split, index or trained.run / "search"
    )
    root = images or cache.root
    if sentence is not None:
        query, answer, results = by_sentence(gallery, sentence, root=root, top=top, percent=shortlist)
    else:
        assert image is not None
        feature = feature_of_file(trained, image, weights=weights, device=str(place))
        priors = sample_training_images(cache, normaliser_images, seed=seed)
        query, answer, results = by_image(gallery, image, feature, root=root, top=top, percent=shortlist, priors=priors)
    method = describe_method(answer, images=sentence is not None)
    if top > answer.gallery:
        click.echo(f"notice: there are only {answer.gallery} to show, fewer than the {top} asked for", err=True)
    if html:
        pictures = Pictures(root, named=images is not None)
        write_whole(html, html_page(query, results, method["text"], cache=cache, pictures=pictures).encode())
    if as_json:
        click.echo(json.dumps({**query, "method": method, "results": results}, indent=1, ensure_ascii=False))
    else:
        for result in results:
            click.echo(f"{result['rank']:4} {result['score']:9.2f}  {result['path']}")
            click.echo(f"{'':16}{' | '.join(result['sentences'])}")
        click.echo(method["text"])


def by_sentence(
    gallery: Gallery, sentence: str, *, root: Path, top: int, percent: float | None
) -> tuple[dict[str, Any], Answer, list[dict[str, Any]]]:
    """The query as --json prints it, the answer, and its results. Says which words the model does not know."""
    words, unknown = searchable_words(gallery.trained, sentence)
    if unknown:
        known = " ".join(word if word not in unknown else "<unk>" for word in words)
        click.echo(
            f"notice: the model does not know {', '.join(map(repr, unknown))}; it reads the sentence as {known!r}",
            err=True,
        )
    answer = search_images(gallery, gallery.trained.vocabulary.encode(words), top=top, percent=percent)
    results = []
    for rank, (number, score) in enumerate(zip(answer.numbers, answer.scores, strict=True), start=1):
        image = gallery.cache.images[gallery.images[number]]
        results.append(found(rank, score, image, root=root, sentences=list(image.sentences)))
    return {"sentence": sentence, "unknown_words": unknown, "split": gallery.split}, answer, results


def by_image(
    gallery: Gallery,
    file: Path,
    feature: torch.Tensor,
    *,
    root: Path,
    top: int,
    percent: float | None,
    priors: np.ndarray,
) -> tuple[dict[str, Any], Answer, list[dict[str, Any]]]:
    """The same for a picture; each result is a sentence, with the first picture of the cache that has it."""
    sentences = gallery_sentences(gallery)
    if not len(sentences.tokens):
        raise EvaluationError(f"the images of {gallery.cache.path} to be searched have no sentences")
    answer = search_sentences(gallery, sentences, feature, top=top, priors=priors, percent=percent)
    results = []
    for rank, (number, score) in enumerate(zip(answer.numbers, answer.scores, strict=True), start=1):
        image = gallery.cache.images[sentences.images[number]]
        results.append(found(rank, score, image, root=root, sentences=[sentences.texts[number]]))
    return {"image": str(file), "split": gallery.split, "normaliser_images": len(priors)}, answer, results


def found(rank: int, score: float, image: Image, *, root: Path, sentences: list[str]) -> dict[str, Any]:
    """One result, as --json prints it."""
    return {
        "rank": rank,
        "score": float(score),
        "image_id": image.id,
        "path": str(root / image.path),
        "sentences": sentences,
    }


def feature_of_file(trained: TrainedModel, file: Path, *, weights: str | None, device: str) -> torch.Tensor:
    """The feature (D,) of a picture file, as caption-images makes it. Raises ImageError if it is none."""
    backbone = rebuild_backbone(
        trained.features, weights, feature_size=trained.model.config.features, where=str(trained.file)
    )
    rows, reasons = features_of_files(backbone, [file], batch_size=1, device=device)
    if reasons:
        raise ImageError(f"{file}: {reasons[0]}")
    return torch.from_numpy(as_recorded(trained.features, rows))[0]


def describe_method(answer: Answer, *, images: bool) -> dict[str, Any]:
    """How the answer was found, with the measured recall where there was a shortlist."""
    what = "images" if images else "different sentences"
    method: dict[str, Any] = {"exact": answer.exact, "gallery": answer.gallery, "scored_exactly": answer.rescored}
    if answer.exact:
        return {**method, "text": f"exact: all {answer.gallery:,} {what} were scored"}
    percent = 100 * answer.rescored / answer.gallery
    recall = measured_recall(percent, images=images)
    share = "was not measured" if recall is None else f"was {recall:.3f}"
    text = (
        f"shortlist: {answer.rescored:,} of {answer.gallery:,} {what} ({percent:.2g} %) were scored exactly; the share "
        f"of the true top 10 in such shortlists {share} (Flickr8k test, docs/search.md)"
    )
    return {**method, "recall_of_top_10": recall, "text": text}


def html_page(
    query: dict[str, Any], results: list[dict[str, Any]], method: str, *, cache: FeatureCache, pictures: Pictures
) -> str:
    """The page of --html."""
    paths = {image.id: image.path for image in cache.images}
    found = thumbnails([pictures.file(paths[result["image_id"]]) for result in results])
    hits = [
        Hit(f"{result['rank']}. {result['image_id']}, {result['score']:.2f}", picture, result["sentences"])
        for result, picture in zip(results, found, strict=True)
    ]
    notes = [method]
    if query.get("unknown_words"):
        notes.append(f"Words the model does not know: {', '.join(query['unknown_words'])}")
    notes += pictures.missing([hit.picture for hit in hits])
    asked = thumbnails([Path(query["image"])])[0] if "image" in query else ""
    return render(contact_sheet(query.get("sentence") or Path(query["image"]).name, notes, hits, asked=asked))

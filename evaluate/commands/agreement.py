"""evaluate-agreement: does a model's score of an image and a sentence agree with what people say of the pair?"""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch

from mrnn.data.cache import STATE_DONE, FeatureCache, open_cache
from mrnn.data.command import debug_option, one_line_errors
from mrnn.data.datasets import default_root
from mrnn.data.errors import EvaluationError
from mrnn.data.progress import Progress
from mrnn.data.tokenize import tokenize
from mrnn.evaluate.fit import check_features
from mrnn.evaluate.retrieval.pair_scorer import captioner_pairs, in_order, log_normaliser
from mrnn.evaluate.retrieval.stage import sample_training_images
from mrnn.evaluate.studies.agreement import (
    Judgements,
    agreement,
    metric_scores,
    model_scores,
    read_judgements,
    require_scipy,
)
from mrnn.train.checkpoint import TrainedModel, load_trained
from mrnn.train.device import pick_device
from mrnn.train.features import Features

DEFINITIONS = {
    "Flickr8k-Expert": "every expert's rating (1 to 4) on its own beside its pair's score; pairs of an image and a "
    "caption of its own are left out; the papers report tau_c",
    "Flickr8k-CF": "the share of yes votes; an image's own captions that were judged for it are not among its "
    "references; the papers report tau_b",
    "log P(w|I)": "natural, of the whole caption, END and <unk> counted",
    "log P(w|I) a word": "the same over the number of words and END",
    "log P(w|I) - log P(w)": "P(w) the mean of P(w|I') over training images I' drawn with the seed",
    "outside_training": "the pairs whose image is not in the training split of the cache",
}

EPILOG = """\b
Example:
  evaluate-agreement --checkpoint runs/feats-mrnn --features feats.h5 --root datasets/flickr8k

The folder is that of Flickr8k with ExpertAnnotations.txt and CrowdFlowerAnnotations.txt, as its authors give them out.
Printed is 100 x Kendall's tau; --json prints fractions, and tau_b and tau_c of everything."""


@click.command(epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--checkpoint", required=True, type=click.Path(path_type=Path), help="The run folder (its best is taken)."
)
@click.option("--features", required=True, type=click.Path(path_type=Path), help="The feature cache, of Flickr8k.")
@click.option("--root", type=click.Path(path_type=Path), help="Folder of Flickr8k.  [default: $MRNN_DATA/flickr8k]")
@click.option(
    "--normaliser-images", type=click.IntRange(min=0), default=1000, show_default=True, help="Training images for P(w)."
)
@click.option("--seed", default=0, show_default=True, help="Of the training images for P(w).")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1, ...")
@click.option("--threads", type=click.IntRange(min=0), default=0, help="CPU threads; 0 for torch's choice.")
@click.option("--allow-partial", is_flag=True, help="Accept a cache with images still pending.")
@debug_option
@one_line_errors
def main(
    checkpoint: Path,
    features: Path,
    root: Path | None,
    normaliser_images: int,
    seed: int,
    as_json: bool,
    device: str,
    threads: int,
    allow_partial: bool,
) -> None:
    """Rank correlation of a model's image-sentence score with people's judgements, beside that of caption metrics."""
    require_scipy()
    if threads:
        torch.set_num_threads(threads)
    trained = load_trained(checkpoint, device=pick_device(device, "fp32"))
    cache = open_cache(features, allow_partial=allow_partial)
    check_features(trained, cache)
    numbers = {image.id: i for i, image in enumerate(cache.images) if cache.states[i] == STATE_DONE}
    judged = read_judgements(root or default_root("flickr8k"))
    images = sorted({image for judgements in judged for image in judgements.images})
    kept = [
        judgements.only(np.array([image in numbers for image in judgements.images], dtype=bool))
        for judgements in judged
    ]
    if not all(len(judgements) for judgements in kept):
        raise EvaluationError(
            f"{cache.path} has features of {sum(image in numbers for image in images)} of the {len(images)} judged "
            "images, too few; give a cache of Flickr8k"
        )
    split_of = {image: cache.images[numbers[image]].split for image in images if image in numbers}
    result: dict[str, Any] = {
        "checkpoint": str(trained.file),
        "model": trained.name,
        "features": str(cache.path),
        "images": {
            "judged": len(images),
            "without_features": len(images) - len(split_of),
            "by_split": {split or "none": count for split, count in sorted(Counter(split_of.values()).items())},
        },
        "normaliser_images": min(normaliser_images, len(cache.done("train"))),
        "seed": seed,
        "sets": {},
        "definitions": DEFINITIONS,
    }
    model = score_with_model(trained, cache, kept, normaliser_images=normaliser_images, seed=seed)
    for before, judgements, own in zip(judged, kept, model, strict=True):
        click.echo(f"BLEU, ROUGE-L and CIDEr of {len(judgements)} pairs of {judgements.name}", err=True)
        scores = own | metric_scores(judgements)
        outside = np.array([split_of[image] != "train" for image in judgements.images])
        result["sets"][judgements.name] = {
            "coefficient": judgements.coefficient,
            "pairs": len(judgements),
            "ratings": judgements.ratings.size,
            "own_captions_left_out": judgements.left_out,
            "pairs_without_features": len(before) - len(judgements),
            "pairs_outside_training": int(outside.sum()),
            "all": {name: agreement(values, judgements.ratings) for name, values in scores.items()},
            "outside_training": {
                name: agreement(values[outside], judgements.ratings[outside]) for name, values in scores.items()
            },
        }
    click.echo(json.dumps(result, indent=1) if as_json else table(result))


def score_with_model(
    trained: TrainedModel,
    cache: FeatureCache,
    judged: list[Judgements],
    *,
    normaliser_images: int,
    seed: int,
) -> list[dict[str, np.ndarray]]:
    """The model's scores of the pairs of each set; all images with all captions, since that is what is fast."""
    numbers = {image.id: i for i, image in enumerate(cache.images)}
    images = {image: row for row, image in enumerate(sorted({image for each in judged for image in each.images}))}
    captions = {text: place for place, text in enumerate(sorted({text for each in judged for text in each.captions}))}
    words = [trained.vocabulary.encode(tokenize(text)) for text in captions]
    priors = sample_training_images(cache, normaliser_images, seed=seed)
    rows = np.array([*(numbers[image] for image in images), *priors])
    pairs = captioner_pairs(trained.model, words, Features(cache))
    scores = np.empty((len(rows), len(captions)))
    label = f"scores of {len(images)} images and {len(priors)} for P(w) x {len(captions)} captions"
    with Progress(label, len(rows), unit="images") as progress:
        scored = in_order(pairs.score, rows.tolist(), threads=torch.get_num_threads(), device=pairs.device)
        for row, found in zip(scores, scored, strict=True):
            row[:] = found
            progress.add(1)
    log_priors = log_normaliser(scores[len(images) :]) if len(priors) else None
    lengths = np.array([len(sentence) for sentence in words])
    results = []
    for each in judged:
        row = np.array([images[image] for image in each.images])
        place = np.array([captions[text] for text in each.captions])
        results.append(
            model_scores(scores[row, place], None if log_priors is None else log_priors[place], lengths[place])
        )
    return results


def table(result: dict[str, Any]) -> str:
    """What the command prints without --json."""
    images = result["images"]
    training = images["by_split"].get("train", 0)
    splits = ", ".join(f"{count} {split}" for split, count in images["by_split"].items())
    lines = [
        f"{result['model']} ({result['checkpoint']}) on {result['features']}",
        f"judged images: {images['judged']}, of them {images['without_features']} left out for want of features; "
        f"by split: {splits}",
        f"in training: {training} of {images['judged'] - images['without_features']} judged images"
        + (", so the rows outside training are the fair ones" if training else ""),
    ]
    sets = result["sets"]
    for name, values in sets.items():
        lines.append(
            f"{name}: {values['pairs']} pairs, {values['ratings']} ratings, {values['pairs_outside_training']} pairs "
            f"outside training; left out: {values['own_captions_left_out']} with a caption of the image's own, "
            f"{values['pairs_without_features']} without features"
        )
    for part, title in (("all", "100 tau, all"), ("outside_training", "100 tau, outside training")):
        if part == "outside_training" and not training:
            lines.append("100 tau, outside training: the same, since no judged image is in it")
            continue
        columns = [
            (name, coefficient) for name, values in sets.items() for coefficient in coefficients(values["coefficient"])
        ]
        lines.append(f"{title:<28}" + "".join(f"{f'{name[9:]} {tau}':>15}" for name, tau in columns))
        for score in next(iter(sets.values()))[part]:
            found = [sets[name][part][score][tau] for name, tau in columns]
            cells = (f"{'-' if tau is None else f'{100 * tau:.1f}':>15}" for tau in found)
            lines.append(f"{score:<28}" + "".join(cells))
    return "\n".join(lines)


def coefficients(reported: str) -> tuple[str, str]:
    """The papers' coefficient of a set, then the other one."""
    return ("tau_c", "tau_b") if reported == "tau_c" else ("tau_b", "tau_c")

"""Does a model's score of an image-caption pair agree with people's judgements? Kendall's tau, beside caption metrics.

The pairs and the protocol are those of mrnn.evaluate.studies.judgements.
"""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mrnn.data.cache import STATE_DONE, FeatureCache
from mrnn.data.datasets import default_root
from mrnn.data.errors import EvaluationError
from mrnn.data.progress import Progress, silent
from mrnn.data.tokenize import tokenize
from mrnn.evaluate.fit import check_features, features_for
from mrnn.evaluate.metrics import names
from mrnn.evaluate.metrics.captions import score_captions
from mrnn.evaluate.retrieval.pair_scorer import in_order, log_normaliser
from mrnn.evaluate.retrieval.stage import sample_training_images
from mrnn.evaluate.retrieval.two_towers import moments, pairs_of
from mrnn.evaluate.studies.judgements import Judgements, read_judgements
from mrnn.train.checkpoint import TrainedModel
from mrnn.train.models.two_towers import TwoTowers

Report = Callable[[str], None]
METRICS = tuple(row.key for row in names.CAPTION_SCORES if row.in_gallery)
SCORE, STANDARDISED_SCORE = "score", "standardised score"
DEFINITIONS = {
    "Flickr8k-Expert": "each rating (1 to 4) is compared with the score of its pair; pairs of an image and one of its "
    "own captions are left out; the papers report tau_c",
    "Flickr8k-CF": "the share of yes votes; an image's own captions that were judged for it are not among its "
    "references; the papers report tau_b",
    "log P(w|I)": "natural logarithm, of the whole caption, END and <unk> counted",
    "log P(w|I) a word": "log P(w|I) divided by the number of words and END",
    "log P(w|I) - log P(w)": "P(w) is the mean of P(w|I') over training images I' drawn with the seed",
    SCORE: "the score of a model that matches pictures with sentences",
    STANDARDISED_SCORE: "the same less its mean over those training images, divided by its deviation over them",
    "outside_training": "the pairs whose image is not in the training split of the cache",
}


def measure_agreement(
    trained: TrainedModel,
    cache: FeatureCache,
    *,
    root: str | Path | None = None,
    normaliser_images: int = 1000,
    seed: int = 0,
    report: Report = silent,
) -> dict[str, Any]:
    """Rank correlation of the scores of a model, and of caption metrics, with people's judgements.

    trained : from `load_trained`
    cache : of Flickr8k, with features of the kind that the model was trained on
    root : folder of Flickr8k with its two files of judgements; None for $MRNN_DATA/flickr8k
    normaliser_images : number of training images that P(w) is averaged over; 0 leaves P(w) out
    seed : of their choice
    report : called with a line before each set is scored

    Returns what evaluate-agreement prints with --json. Raises EvaluationError without SciPy, or where model, cache and
    judgements do not fit together; CorpusError where a file of judgements is missing or not of the known form.
    """
    require_scipy()
    check_features(trained, cache)
    judged = read_judgements(default_root("flickr8k") if root is None else root)
    numbers = {image.id: i for i, image in enumerate(cache.images) if cache.states[i] == STATE_DONE}
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
        report(f"BLEU, ROUGE-L and CIDEr of {len(judgements)} pairs of {judgements.name}")
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
    return result


def score_with_model(
    trained: TrainedModel, cache: FeatureCache, judged: Sequence[Judgements], *, normaliser_images: int, seed: int
) -> list[dict[str, np.ndarray]]:
    """The scores of a model for the pairs of each set, see `model_scores`.

    trained, cache : as for `measure_agreement`
    judged : sets of pairs whose images all have features
    normaliser_images, seed : as for `measure_agreement`
    """
    numbers = {image.id: i for i, image in enumerate(cache.images)}
    images = {image: row for row, image in enumerate(sorted({image for each in judged for image in each.images}))}
    captions = {text: place for place, text in enumerate(sorted({text for each in judged for text in each.captions}))}
    words = [trained.vocabulary.encode(tokenize(text)) for text in captions]
    priors = sample_training_images(cache, normaliser_images, seed=seed)
    scores = all_pairs(trained, cache, np.array([*(numbers[image] for image in images), *priors]), words)
    of_priors = scores[len(images) :]
    towers = isinstance(trained.model, TwoTowers)
    mean, deviation = moments(of_priors)
    log_priors = log_normaliser(of_priors) if len(priors) and not towers else None
    lengths = np.array([len(sentence) for sentence in words])
    results = []
    for each in judged:
        row = np.array([images[image] for image in each.images])
        place = np.array([captions[text] for text in each.captions])
        if towers:
            score = scores[row, place]
            results.append({SCORE: score, STANDARDISED_SCORE: (score - mean[place]) / deviation[place]})
            continue
        results.append(
            model_scores(scores[row, place], None if log_priors is None else log_priors[place], lengths[place])
        )
    return results


def all_pairs(
    trained: TrainedModel, cache: FeatureCache, images: np.ndarray, sentences: Sequence[Sequence[int]]
) -> np.ndarray:
    """log P(w|I), natural, of every sentence under every image: (n, S) float64.

    images : (n,) numbers of images in the cache
    sentences : S sentences as word numbers

    All pairs are scored although not all are asked for: sentences share the work of their common beginnings, so this is
    the fastest way to score many captions per image.
    """
    pairs = pairs_of(trained.model, sentences, features_for(trained, cache))
    scores = np.empty((len(images), len(sentences)))
    with Progress(f"scores of {len(sentences)} captions", len(images), unit="images") as progress:
        scored = in_order(pairs.score, images.tolist(), threads=torch.get_num_threads(), device=pairs.device)
        for row, found in zip(scores, scored, strict=True):
            row[:] = found
            progress.add(1)
    return scores


def metric_scores(judgements: Judgements) -> dict[str, np.ndarray]:
    """METRICS of every pair's caption against its references, (P,) each.

    CIDEr's document frequencies are counted over the references of all pairs, so an image counts as often as it was
    judged, as in the papers' code.
    """
    candidates = {str(i): tokenize(text) for i, text in enumerate(judgements.captions)}
    words = {text: tokenize(text) for texts in set(judgements.references) for text in texts}
    references = {str(i): [words[text] for text in texts] for i, texts in enumerate(judgements.references)}
    each = score_captions(candidates, references).per_image
    return {name: np.array([each[pair][name] for pair in candidates]) for name in METRICS}


def agreement(scores: np.ndarray, ratings: np.ndarray) -> dict[str, float | None]:
    """Kendall's tau-b and tau-c, in [-1, 1], of (P,) scores with each of (P, K) ratings.

    None where there is no pair, or all scores or all ratings are equal, since nothing is ranked then. Raises
    EvaluationError without SciPy.
    """
    kendalltau = require_scipy()
    if not len(scores):
        return {"tau_b": None, "tau_c": None}
    repeated = np.repeat(scores, ratings.shape[1])
    values = {f"tau_{v}": float(kendalltau(repeated, ratings.ravel(), variant=v).statistic) for v in ("b", "c")}
    return {name: None if math.isnan(value) else value for name, value in values.items()}


def require_scipy() -> Callable[..., Any]:
    """scipy.stats.kendalltau. Raises EvaluationError if SciPy is not installed."""
    try:
        from scipy.stats import kendalltau
    except ImportError:
        raise EvaluationError("Kendall's tau needs scipy: pip install 'mrnn[analysis]'") from None
    return kendalltau


def model_scores(log_probs: np.ndarray, log_priors: np.ndarray | None, words: np.ndarray) -> dict[str, np.ndarray]:
    """The scores that a model gives P pairs, by name.

    log_probs : (P,) log P(w|I)
    log_priors : (P,) log P(w), None where it was not computed
    words : (P,) number of words
    """
    scores = {"log P(w|I)": log_probs, "log P(w|I) a word": log_probs / (words + 1)}  # END counts
    if log_priors is not None:
        scores["log P(w|I) - log P(w)"] = log_probs - log_priors
    return scores

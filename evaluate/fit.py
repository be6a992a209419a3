"""Checks that a model, a cache and a request match, and digests that identify finished work."""

import hashlib
from collections.abc import Callable, Collection
from pathlib import Path

import numpy as np

from mrnn.data.cache import FeatureCache, matching_settings, read_checksums
from mrnn.data.captions import NO_WORDS, SPLITS
from mrnn.data.errors import EvaluationError
from mrnn.data.settings import SAMPLING_SETTINGS
from mrnn.data.tokenize import tokenize
from mrnn.evaluate.generation.region_phrases import named_regions
from mrnn.evaluate.settings import STAGES
from mrnn.train.checkpoint import TrainedModel
from mrnn.train.features import Features
from mrnn.train.models import CAPTIONERS
from mrnn.train.models.alignment import Alignment
from mrnn.train.models.captioner import LateFusion, Predictor


def check_features(trained: TrainedModel, cache: FeatureCache, *, other_regions: bool = False) -> None:
    """Raise EvaluationError unless the cache has the kind of features that the model was trained on.

    other_regions : accept features of other regions, if those were computed in the same way.
    """
    regions = not other_regions and trained.model.config.rows(cache.rows_per_image) > 1
    different = matching_settings(trained.features, cache.provenance, regions=regions)
    if other_regions and "region_features" in trained.features:
        different += [name for name in SAMPLING_SETTINGS if trained.features.get(name) != cache.provenance.get(name)]
    if different:
        pairs = "; ".join(
            f"{name}: trained on {trained.features.get(name)}, the cache has {cache.provenance.get(name)}"
            for name in different
        )
        raise EvaluationError(
            f"{cache.path} holds other features than {trained.file} was trained on ({pairs}); "
            "give a cache extracted with the same settings"
        )
    if cache.feature_size != trained.model.config.features:
        raise EvaluationError(
            f"{cache.path} has features of size {cache.feature_size}, {trained.file} needs size "
            f"{trained.model.config.features}; give the cache that it was trained on or one like it"
        )


def features_for(trained: TrainedModel, cache: FeatureCache) -> Features:
    """The features of a cache with the rows of each image that a model looks at.

    Raises SettingError if the cache has fewer.
    """
    return Features(cache, rows=trained.model.config.rows(cache.rows_per_image))


def check_captioner(trained: TrainedModel) -> None:
    """Raise EvaluationError if the model cannot predict words."""
    if not isinstance(trained.model, Predictor):
        raise EvaluationError(
            f"{trained.file} is of the kind {trained.name}, which matches pictures and sentences and predicts no "
            f"words; give a run of the kind {', '.join(CAPTIONERS)}"
        )


def possible_stages(
    trained: TrainedModel,
    cache: FeatureCache,
    split: str,
    stages: Collection[str],
    *,
    segments: bool = False,
    report: Callable[[str], None],
) -> list[str]:
    """Those of some stages of an evaluation that a model and a cache can do.

    trained : the model
    cache, split : what it is measured on
    stages : names of stages
    segments : whether there are training segments to choose from
    report : called with a line for each reason to leave some out, unless regions were not asked for

    Raises EvaluationError if none is left.
    """
    reasons = {
        "grounding": why_no_grounding(trained, cache, split),
        "regions": why_no_regions(trained, cache, split, segments=segments),
    }
    captions = isinstance(trained.model, Predictor)
    possible = [stage for stage in stages if stage == "retrieval" or not reasons.get(stage, not captions)]
    if stages and not possible:
        if any(stage not in reasons for stage in stages):
            check_captioner(trained)
        first = next(iter(stages))
        raise EvaluationError(f"{first} cannot be measured: {reasons[first]}")
    if left_out := [stage for stage in stages if stage not in (*possible, *reasons)]:
        report(f"{trained.name} predicts no words; left out: {', '.join(left_out)}")
    # Whoever asks for everything on whole pictures does not ask for regions.
    told = cache.rows_per_image > 1 or not set(STAGES).issubset(stages)
    for stage, reason in reasons.items():
        if stage in stages and reason and told:
            report(f"{reason}; left out: {stage}")
    return possible


def why_no_regions(trained: TrainedModel, cache: FeatureCache, split: str, *, segments: bool) -> str:
    """Why captions of regions cannot be measured, '' where they can. segments : see `possible_stages`."""
    if not isinstance(trained.model, Predictor | Alignment):
        return f"{trained.name} describes no regions"
    if not isinstance(trained.model, Predictor) and not segments:
        return f"{trained.name} writes no captions, and there are no --segments to choose from"
    if cache.rows_per_image == 1:
        return f"{cache.path} has whole pictures alone"
    if not named_regions(cache, cache.done(split)):
        return (
            f"no region of the split {split!r} in {cache.path} is a box that a phrase names (extract-features "
            "--regions boxes:annotated)"
        )
    return ""


def why_no_grounding(trained: TrainedModel, cache: FeatureCache, split: str) -> str:
    """Why the grounding of phrases cannot be measured, '' where it can."""
    if not isinstance(trained.model, Alignment):
        return f"{trained.name} does not align words with regions"
    if trained.model.config.rows(cache.rows_per_image) == 1:
        return f"{trained.name} looks at whole pictures alone"
    if not np.any(cache.regions.rectangles):
        return f"{cache.path} does not say where its regions are"
    for name in dict.fromkeys((split, "val")):  # the coefficients of the corrections are chosen on val
        if not any(
            box.sentence >= 0 and box.words != NO_WORDS for i in cache.done(name) for box in cache.images[i].boxes
        ):
            return (
                f"no sentence of the split {name!r} in {cache.path} has a phrase with a box (extract-features --boxes)"
            )
    return ""


def check_fit(trained: TrainedModel, cache: FeatureCache, split: str, *, other_regions: bool = False) -> np.ndarray:
    """Numbers of the images of a split that have features: (N,) int64.

    trained : the model
    cache : must have the kind of features that the model was trained on
    split : must have an image with features and a caption
    other_regions : see `check_features`

    Raises EvaluationError otherwise.
    """
    check_features(trained, cache, other_regions=other_regions)
    chosen = cache.done(split)
    if not len(chosen):
        there = ", ".join(f"{name}: {len(cache.done(name))}" for name in SPLITS)
        raise EvaluationError(f"{cache.path} has no image with features in the split {split!r} ({there})")
    if not any(any(map(tokenize, cache.images[i].sentences)) for i in chosen):
        raise EvaluationError(f"the images of the split {split!r} in {cache.path} have no captions to measure against")
    return chosen


def cache_digest(cache: FeatureCache) -> str:
    """A hex digest that changes with the caption, the split, the state or the features of any image."""
    digest = hashlib.sha256(cache.corpus().sha256().encode())
    digest.update(cache.states.tobytes())
    digest.update(np.asarray(read_checksums(cache)).tobytes())
    return digest.hexdigest()


def sha256_of(file: Path) -> str:
    """The SHA-256 of a file, in hex."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def known_prefix(trained: TrainedModel, prefix: str) -> list[str]:
    """The words of a prefix. Raises EvaluationError if the model does not know one of them."""
    words = tokenize(prefix)
    unknown = [word for word in words if word not in trained.vocabulary.numbers]
    if unknown:
        raise EvaluationError(
            f"the model does not know the word {unknown[0]!r} of the prefix; its vocabulary has "
            f"{len(trained.vocabulary)} words"
        )
    return words


def searchable_model(trained: TrainedModel) -> LateFusion:
    """The model of a checkpoint, as a search needs it. Raises EvaluationError if it is of another kind."""
    check_captioner(trained)
    if not trained.model.sees_images:
        raise EvaluationError(
            f"{trained.file} is an {trained.name}, which does not look at images; search with an mrnn"
        )
    if not isinstance(trained.model, LateFusion):
        raise EvaluationError(
            f"{trained.file} is of the kind {trained.name}, which reads every sentence again for every image: too slow "
            "for a search; search with an mrnn, or rank a test set with evaluate-mrnn --pool"
        )
    return trained.model


def searchable_images(cache: FeatureCache, split: str | None) -> np.ndarray:
    """Numbers of the images that have features: (N,) int64. Raises EvaluationError if there are none.

    split : None for all.
    """
    chosen = cache.done(split)
    if not len(chosen):
        there = ", ".join(f"{name}: {len(cache.done(name))}" for name in SPLITS)
        where = f" in the split {split!r} ({there})" if split else ""
        raise EvaluationError(f"{cache.path} has no image with features{where} to search")
    return chosen


def searchable_words(trained: TrainedModel, sentence: str) -> tuple[list[str], list[str]]:
    """The words of a sentence to search with, and those among them that the model does not know.

    Raises EvaluationError if the sentence has no word, or the model knows none of them.
    """
    words = tokenize(sentence)
    unknown = [word for word in dict.fromkeys(words) if word not in trained.vocabulary.numbers]
    if not words:
        raise EvaluationError(f"there is no word in {sentence!r}; describe what the image should show")
    if len(unknown) == len(set(words)):
        raise EvaluationError(
            f"the model knows no word of {sentence!r}; its vocabulary has {len(trained.vocabulary)} words, so try more "
            "common ones"
        )
    return words, unknown


def unknown_notice(sentence: str, unknown: Collection[str]) -> str:
    """What to say of a sentence with words that the model does not know."""
    read = " ".join("<unk>" if word in unknown else word for word in tokenize(sentence))
    return f"the model does not know {', '.join(map(repr, unknown))}; it reads the sentence as {read!r}"

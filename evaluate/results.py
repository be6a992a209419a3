"""From what the stages measured to the files that programs read: metrics.json and captions.json."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np

from mrnn.data.captions import Image
from mrnn.data.tokenize import tokenize
from mrnn.evaluate.decode import Caption
from mrnn.evaluate.metrics.captions import DEFINITIONS, score_captions
from mrnn.evaluate.stages import Evaluation

OTHER_DEFINITIONS = {
    "perplexity": "2 ** (mean of -log2 P a word); END counted, START not, <unk> counted",
    "perplexity_known": "the same over the words that are not <unk>",
    "retrieval": "percent, ranks from 1; of several sentences of an image the best counts; ties count against us "
    "(best_of_ties: for us, where there are any); median of an even number: mean of the middle two",
    "image_to_sentence": "ranked by log P(w|I) - log P(w), P(w) the mean of P(w|I') over normaliser_images training "
    "images drawn with the seed (by log P(w|I) alone where that is 0)",
    "image_to_sentence_raw": "ranked by log P(w|I) alone",
    "sentence_to_image": "ranked by log P(w|I)",
}
ANSWERS = ("answers", "sentence_answers")  # of the retrieval part: for the report, too long for metrics.json


@dataclass
class Results:
    """What was measured; None where it was not asked for and not there from an earlier run.

    captions, greedy : one for each of evaluation.images. beams : several of each, captions the best of them. The
    other two are what their stages return.
    """

    perplexity: dict[str, Any] | None = None
    captions: list[Caption] | None = None
    beams: list[list[Caption]] | None = None
    greedy: list[Caption] | None = None
    retrieval: dict[str, Any] | None = None


def build_metrics(
    evaluation: Evaluation, results: Results, *, settings: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, dict[str, float]]]:
    """The content of metrics.json, and the scores of each image's caption by its id.

    settings : what the numbers depend on beside the model and the cache.
    """
    trained, cache = evaluation.trained, evaluation.cache
    metrics: dict[str, Any] = {}
    per_image: dict[str, dict[str, float]] = {}
    if results.perplexity:
        metrics["perplexity"] = results.perplexity["perplexity"]
        metrics["perplexity_known"] = results.perplexity["perplexity_known"]
        metrics["perplexity_counts"] = results.perplexity
    if results.captions is not None:
        scores = _caption_scores(evaluation, results.captions)
        metrics.update(scores.pop("scores"))
        per_image = scores.pop("per_image")
        metrics["generation"] = scores
    if results.greedy is not None:
        scores = _caption_scores(evaluation, results.greedy)
        del scores["per_image"]
        metrics["greedy"] = {**scores.pop("scores"), **scores}
    if results.retrieval:
        metrics["retrieval"] = {name: value for name, value in results.retrieval.items() if name not in ANSWERS}
    chosen = [cache.images[i] for i in evaluation.images]
    in_split = sum(image.split == evaluation.split for image in cache.images)
    metrics = {
        **metrics,
        "split": evaluation.split,
        "counts": {
            "images": len(chosen),
            "sentences": sum(len(image.sentences) for image in chosen),
            "images_without_features": in_split - len(chosen),
        },
        "vocabulary_size": len(trained.vocabulary),
        **settings,
        "definitions": {**DEFINITIONS, **OTHER_DEFINITIONS},
        "features": cache.provenance,
        "dataset": cache.dataset,
        "mrnn": version("mrnn"),
    }
    return metrics, per_image


def best_of(beams: Sequence[Sequence[Caption]] | None) -> list[Caption] | None:
    """The first caption of each image."""
    return None if beams is None else [best for best, *_ in beams]


def caption_list(evaluation: Evaluation, captions: Sequence[Caption]) -> list[dict[str, Any]]:
    """The content of captions.json: [{"image_id", "caption"}], the data set's own ids, integers for COCO."""
    return [
        {"image_id": int(image.id) if evaluation.cache.integer_ids else image.id, "caption": " ".join(words)}
        for image, words in zip(_images(evaluation), _words(evaluation, captions), strict=True)
    ]


def _images(evaluation: Evaluation) -> list[Image]:
    return [evaluation.cache.images[i] for i in evaluation.images]


def _words(evaluation: Evaluation, captions: Sequence[Caption]) -> list[list[str]]:
    return [evaluation.trained.vocabulary.decode(caption.words) for caption in captions]


def _caption_scores(evaluation: Evaluation, captions: Sequence[Caption]) -> dict[str, Any]:
    """Scores over the images that have a reference with a word in it, and facts about all the captions."""
    words = _words(evaluation, captions)
    candidates, references = {}, {}
    for image, said in zip(_images(evaluation), words, strict=True):
        sentences = [tokens for tokens in map(tokenize, image.sentences) if tokens]
        if sentences:
            candidates[image.id], references[image.id] = said, sentences
    result: dict[str, Any] = {
        "scores": {},
        "per_image": {},
        "captions": len(captions),
        "scored": len(candidates),
        "cut_at_max_steps": sum(not caption.complete for caption in captions),
        "empty": sum(not caption.words for caption in captions),
        "different": len({caption.words for caption in captions}),
        "mean_words": float(np.mean([len(caption.words) for caption in captions])),
    }
    if candidates:
        scores = score_captions(candidates, references)
        result["scores"], result["per_image"] = scores.corpus, scores.per_image
        result["ngram_precision"] = list(scores.ngram_precision)
        result["brevity_penalty"] = scores.brevity_penalty
    return result

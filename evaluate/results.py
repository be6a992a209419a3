"""From what the stages measured to the files people and programs read: metrics.json, captions.json, report.html."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from mrnn.data.captions import relative_path
from mrnn.data.errors import CorpusError
from mrnn.data.tokenize import tokenize
from mrnn.evaluate import report
from mrnn.evaluate.decode import Caption
from mrnn.evaluate.loss_curve import loss_curve, read_log
from mrnn.evaluate.metrics.captions import DEFINITIONS, score_captions
from mrnn.evaluate.metrics.tokenizers import TOKEN_DEFINITIONS, tokenize_all
from mrnn.evaluate.stages import Evaluation

OTHER_DEFINITIONS = {
    "ptb": f"the same scores, tokens {TOKEN_DEFINITIONS['ptb']}",
    "perplexity": "2 ** (mean of -log2 P a word); END counted, START not, <unk> counted",
    "perplexity_known": "the same over the words that are not <unk>",
    "retrieval": "percent, ranks from 1; of several sentences of an image the best counts; ties count against us "
    "(best_of_ties: for us, where there are any); median of an even number: mean of the middle two",
    "image_to_sentence": "ranked by log P(w|I) - log P(w), P(w) the mean of P(w|I') over normaliser_images training "
    "images drawn with the seed (by log P(w|I) alone where that is 0)",
    "image_to_sentence_raw": "ranked by log P(w|I) alone",
    "sentence_to_image": "ranked by log P(w|I)",
}


@dataclass
class Results:
    """What was measured; None where it was not asked for and not there from an earlier run.

    captions, greedy : one for each of evaluation.images. The other two are what their stages return.
    """

    perplexity: dict[str, Any] | None = None
    captions: list[Caption] | None = None
    greedy: list[Caption] | None = None
    retrieval: dict[str, Any] | None = None


def build_metrics(evaluation: Evaluation, results: Results, *, settings: dict[str, Any]) -> dict[str, Any]:
    """The content of metrics.json. settings : what the numbers depend on beside the model and the cache."""
    trained, cache = evaluation.trained, evaluation.cache
    metrics: dict[str, Any] = {}
    if results.perplexity:
        metrics["perplexity"] = results.perplexity["perplexity"]
        metrics["perplexity_known"] = results.perplexity["perplexity_known"]
        metrics["perplexity_counts"] = results.perplexity
    if results.captions is not None:
        scores = _caption_scores(evaluation, results.captions)
        metrics.update(scores.pop("scores"))
        metrics["generation"] = scores
    if results.greedy is not None:
        scores = _caption_scores(evaluation, results.greedy)
        metrics["greedy"] = {**scores.pop("scores"), **scores}
    if results.retrieval:
        metrics["retrieval"] = {name: value for name, value in results.retrieval.items() if name != "answers"}
    chosen = [cache.images[i] for i in evaluation.images]
    in_split = sum(image.split == evaluation.split for image in cache.images)
    return {
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


def caption_list(evaluation: Evaluation, captions: Sequence[Caption]) -> list[dict[str, Any]]:
    """The content of captions.json: [{"image_id", "caption"}], the data set's own ids, integers for COCO."""
    return [
        {"image_id": int(image.id) if evaluation.cache.integer_ids else image.id, "caption": " ".join(words)}
        for image, words in zip(_images(evaluation), _words(evaluation, captions), strict=True)
    ]


def build_report(
    evaluation: Evaluation, results: Results, metrics: dict[str, Any], *, pictures: Path, pictures_named: bool
) -> report.Report:
    """What the report shows. pictures : the folder that image paths are relative to; pictures_named : by the user."""
    trained, cache = evaluation.trained, evaluation.cache
    shown = report.evenly(len(evaluation.images), report.GALLERY)
    cards = [_card(evaluation, results, number, pictures) for number in shown]
    found = sum(bool(card.picture) for card in cards)
    notes = [
        f"{trained.name}, epoch {trained.progress.get('epoch', '?')}, vocabulary {len(trained.vocabulary):,}; "
        f"{len(evaluation.images):,} images of the split “{evaluation.split}” with features of "
        f"{cache.provenance.get('backbone', '?')} {cache.provenance.get('layer', '')}."
    ]
    if str(cache.provenance.get("weights", "")).startswith("random:"):
        notes.append(
            "The backbone has random weights, not trained ones: the numbers show that things run, not how well."
        )
    if len(shown) < len(evaluation.images):
        notes.append(f"Shown are {len(shown)} of the {len(evaluation.images):,} images, evenly spaced.")
    if found < len(cards):
        where = (
            pictures if pictures_named else f"{pictures} (the folder they were extracted from; --images names another)"
        )
        missing = "none of the pictures was" if not found else f"{len(cards) - found} of {len(cards)} pictures were not"
        notes.append(f"Text only where a picture should be: {missing} found below {where}.")
    settings: dict[str, Any] = {
        name: metrics[name] for name in ("checkpoint", "decoding", "seed", "counts", "features", "definitions")
    }
    return report.Report(
        title=f"{cache.dataset} {evaluation.split}: {trained.run.resolve().name}",
        metrics=metrics,
        cards=cards,
        notes=notes,
        curve=loss_curve(read_log(trained.run / "metrics.jsonl")),
        settings={**settings, "training": trained.settings, "mrnn": metrics["mrnn"]},
    )


def _images(evaluation: Evaluation) -> list[Any]:
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
        "captions": len(captions),
        "scored": len(candidates),
        "cut_at_max_steps": sum(not caption.complete for caption in captions),
        "empty": sum(not caption.words for caption in captions),
        "different": len({caption.words for caption in captions}),
        "mean_words": float(np.mean([len(caption.words) for caption in captions])),
    }
    if candidates:
        scores = score_captions(candidates, references)
        result["scores"] = scores.corpus
        result["ngram_precision"] = list(scores.ngram_precision)
        result["ngram_precision_penalised"] = list(scores.ngram_precision_penalised)
        result["brevity_penalty"] = scores.brevity_penalty
        raw = {image.id: image.sentences for image in _images(evaluation)}
        spoken = {image: " ".join(said) for image, said in candidates.items()}
        try:
            result["ptb"] = score_captions(*tokenize_all(spoken, raw, tokenizer="ptb")).corpus
        except ValueError:  # all that an image's sentences say is punctuation to this tokeniser
            result["ptb"] = None
    return result


def _card(evaluation: Evaluation, results: Results, number: int, pictures: Path) -> report.Card:
    image = evaluation.cache.images[evaluation.images[number]]
    try:
        picture = report.thumbnail(pictures / relative_path(image.path, where=str(evaluation.cache.path)))
    except CorpusError:  # a path that leads out of the folder is not followed
        picture = ""
    words: list[tuple[str, float]] = []
    ends = True
    if results.captions is not None:
        caption = results.captions[number]
        words = list(zip(_words(evaluation, [caption])[0], caption.log_probs[: len(caption.words)], strict=True))
        ends = caption.complete
    answer = (results.retrieval or {"answers": {}})["answers"].get(image.id, {"sentences": (), "rank": None})
    retrieved = [(sentence, right) for sentence, right in answer["sentences"]]
    return report.Card(image.id, picture, image.sentences, words, ends, retrieved, answer["rank"])

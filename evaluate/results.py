"""From what the stages measured to the files people and programs read: metrics.json, captions.json, report.html."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from mrnn.data.captions import Image, relative_path
from mrnn.data.errors import CorpusError
from mrnn.data.tokenize import tokenize
from mrnn.evaluate import report
from mrnn.evaluate.decode import Caption
from mrnn.evaluate.loss_curve import loss_curve, read_log
from mrnn.evaluate.metrics.bootstrap import LEVEL, RESAMPLES
from mrnn.evaluate.metrics.captions import DEFINITIONS, CaptionScores, score_captions
from mrnn.evaluate.metrics.diversity import DEFINITIONS as DIVERSITY_DEFINITIONS
from mrnn.evaluate.metrics.diversity import diversity
from mrnn.evaluate.per_image import Record, build_records, intervals
from mrnn.evaluate.stages import Evaluation
from mrnn.train.batches import tokenized_sentences

OTHER_DEFINITIONS = {
    "perplexity": "2 ** (mean of -log2 P a word); END counted, START not, <unk> counted",
    "perplexity_known": "the same over the words that are not <unk>",
    "by_length": "of the sentences with so many words, END not counted",
    "intervals": f"{LEVEL:.0%} of {RESAMPLES:,} bootstrap resamples of the images (percentiles); an image is "
    "drawn with all its sentences, captions and queries; held fixed: CIDEr's document frequencies, P(w), the pool",
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

    captions, greedy : one for each of evaluation.images; beams : all that each one's search ended with, best first.
    perplexity, retrieval : what their stages return; perplexity_splits : that of further splits.
    """

    perplexity: dict[str, Any] | None = None
    perplexity_splits: dict[str, dict[str, Any]] = field(default_factory=dict)
    beams: list[list[Caption]] | None = None
    captions: list[Caption] | None = None
    greedy: list[Caption] | None = None
    retrieval: dict[str, Any] | None = None


def build_metrics(
    evaluation: Evaluation, results: Results, *, settings: dict[str, Any]
) -> tuple[dict[str, Any], list[Record]]:
    """The content of metrics.json and of per_image.jsonl.

    settings : what the numbers depend on beside the model and the cache; its seed is also that of the bootstrap.
    """
    trained, cache = evaluation.trained, evaluation.cache
    metrics: dict[str, Any] = {}
    if results.perplexity:
        metrics["perplexity"] = results.perplexity["perplexity"]
        metrics["perplexity_known"] = results.perplexity["perplexity_known"]
        metrics["perplexity_counts"] = _without(results.perplexity, "per_image")
        metrics["perplexity_splits"] = {
            evaluation.split: metrics["perplexity_counts"],
            **{split: _without(found, "per_image") for split, found in results.perplexity_splits.items()},
        }
    scores = None
    if results.captions is not None:
        facts, scores = _caption_scores(evaluation, results.captions)
        metrics.update(scores.corpus if scores else {})
        metrics["generation"] = facts
    if results.greedy is not None:
        facts, greedy = _caption_scores(evaluation, results.greedy)
        metrics["greedy"] = {**(greedy.corpus if greedy else {}), **facts}
    metrics |= _diversity(evaluation, results)
    if results.retrieval:
        metrics["retrieval"] = _without(results.retrieval, "answers", "ranks")
    chosen = _images(evaluation)
    said = None if results.captions is None else [" ".join(words) for words in _words(evaluation, results.captions)]
    records = build_records(
        chosen,
        perplexity=results.perplexity,
        captions=None if said is None else list(zip(said, results.captions or (), strict=True)),
        scores=scores,
        retrieval=results.retrieval,
        integer_ids=cache.integer_ids,
    )
    seed = settings["seed"]
    metrics["intervals"] = intervals(records, generator=np.random.default_rng(seed))
    metrics["bootstrap"] = {"resamples": RESAMPLES, "level": LEVEL, "over": "images", "seed": seed}
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
        "definitions": {**DEFINITIONS, **OTHER_DEFINITIONS, **DIVERSITY_DEFINITIONS},
        "features": cache.provenance,
        "dataset": cache.dataset,
        "mrnn": version("mrnn"),
    }
    return metrics, records


def caption_list(evaluation: Evaluation, captions: Sequence[Caption]) -> list[dict[str, Any]]:
    """The content of captions.json: [{"image_id", "caption"}], the data set's own ids, integers for COCO."""
    return [
        {"image_id": image_id, "caption": " ".join(words)}
        for image_id, words in zip(_ids(evaluation), _words(evaluation, captions), strict=True)
    ]


def best_list(evaluation: Evaluation, beams: Sequence[Sequence[Caption]], count: int) -> list[dict[str, Any]]:
    """The content of nbest.json: the best `count` captions of each image with log P(words, END), best first."""
    return [
        {
            "image_id": image_id,
            "captions": [
                {"caption": " ".join(words), "log_prob": caption.log_prob, "complete": caption.complete}
                for words, caption in zip(_words(evaluation, beam[:count]), beam, strict=False)
            ],
        }
        for image_id, beam in zip(_ids(evaluation), beams, strict=True)
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


def _images(evaluation: Evaluation) -> list[Image]:
    return [evaluation.cache.images[i] for i in evaluation.images]


def _ids(evaluation: Evaluation) -> list[int | str]:
    """The data set's own ids, integers for COCO."""
    return [int(image.id) if evaluation.cache.integer_ids else image.id for image in _images(evaluation)]


def _without(found: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in found.items() if name not in names}


def _words(evaluation: Evaluation, captions: Sequence[Caption]) -> list[list[str]]:
    return [evaluation.trained.vocabulary.decode(caption.words) for caption in captions]


def _caption_scores(evaluation: Evaluation, captions: Sequence[Caption]) -> tuple[dict[str, Any], CaptionScores | None]:
    """Facts about all the captions, and scores over the images that have a reference with a word in it."""
    words = _words(evaluation, captions)
    candidates, references = {}, {}
    for image, said in zip(_images(evaluation), words, strict=True):
        sentences = [tokens for tokens in map(tokenize, image.sentences) if tokens]
        if sentences:
            candidates[image.id], references[image.id] = said, sentences
    facts: dict[str, Any] = {
        "captions": len(captions),
        "scored": len(candidates),
        "cut_at_max_steps": sum(not caption.complete for caption in captions),
        "empty": sum(not caption.words for caption in captions),
        "different": len({caption.words for caption in captions}),
        "mean_words": float(np.mean([len(caption.words) for caption in captions])),
    }
    if not candidates:
        return facts, None
    scores = score_captions(candidates, references)
    facts["ngram_precision"] = list(scores.ngram_precision)
    facts["ngram_precision_with_penalty"] = [value * scores.brevity_penalty for value in scores.ngram_precision]
    facts["brevity_penalty"] = scores.brevity_penalty
    return facts, scores


def _diversity(evaluation: Evaluation, results: Results) -> dict[str, Any]:
    """Diversity of our captions, of the greedy ones, and of people's."""
    cache = evaluation.cache
    training = {tuple(words) for words in tokenized_sentences(cache, cache.done("train"))[0]} or None
    first = (next(filter(None, map(tokenize, image.sentences)), None) for image in _images(evaluation))
    said = {"captions": results.captions, "greedy": results.greedy}
    texts = {name: _words(evaluation, captions) for name, captions in said.items() if captions is not None}
    if not texts:
        return {}
    texts["people"] = [words for words in first if words]
    return {"diversity": {name: asdict(diversity(words, training)) for name, words in texts.items() if words}}


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

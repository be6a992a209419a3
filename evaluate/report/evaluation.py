"""The report of an evaluation: from the model, the cache and what the stages measured to a page."""

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from mrnn.data.cache import FeatureCache
from mrnn.data.captions import Image, relative_path
from mrnn.data.errors import CorpusError
from mrnn.data.tokenize import tokenize
from mrnn.evaluate.decode import Caption
from mrnn.evaluate.loss_curve import loss_curve, read_log
from mrnn.evaluate.report import sections
from mrnn.evaluate.report.cards import END, Card, Question, Said, Score
from mrnn.evaluate.report.language import describe_language, language_section
from mrnn.evaluate.report.page import Page, section
from mrnn.evaluate.report.thumbnails import thumbnails
from mrnn.evaluate.results import Results
from mrnn.evaluate.stages import TOP, Evaluation
from mrnn.evaluate.why import reasons
from mrnn.train.batches import tokenized_sentences
from mrnn.train.checkpoint import TrainedModel

SCORES = (
    Score("CIDEr", "CIDEr"),
    Score("Bleu_4", "BLEU-4"),
    Score("Bleu_1", "BLEU-1"),
    Score("ROUGE_L", "ROUGE-L"),
    Score("log_prob", "log P a word"),
    Score("image_part", "the picture's part"),
    Score("rank", "rank of its sentence", 0, lower_is_better=True),
    Score("sentence_rank", "rank by its sentences", 1, lower_is_better=True),
)
SCORE_NOTES = {
    "CIDEr, BLEU, ROUGE-L": "of this caption alone, BLEU with its own brevity penalty",
    "log P a word": "natural logarithm of P(caption | image), END included, divided by the number of words and END",
    "the picture's part": "what the picture added to that logarithm, mean over words and END (mrnn.evaluate.why)",
    "rank of its sentence": "where the first of its own sentences came when the image asked for sentences",
    "rank by its sentences": "where the image came when its sentences asked for images, mean over them",
}


@dataclass(frozen=True)
class Pictures:
    """Where pictures lie: the folder that the paths of images are relative to, and whether the user named it."""

    folder: Path
    named: bool = False

    def path(self, image: Image, cache: FeatureCache) -> Path | None:
        """The file of an image; None for a path that leads out of the folder."""
        try:
            return self.folder / relative_path(image.path, where=str(cache.path))
        except CorpusError:
            return None


def evaluation_page(
    evaluation: Evaluation,
    results: Results,
    metrics: Mapping[str, Any],
    *,
    scores: Mapping[str, Mapping[str, float]],
    pictures: Pictures,
) -> Page:
    """What the report shows. metrics : the content of metrics.json. scores : of each image's caption, by image id."""
    trained, cache = evaluation.trained, evaluation.cache
    retrieval = results.retrieval or {}
    answers = retrieval.get("answers", {})
    asked = retrieval.get("sentence_answers", ())
    cards = _cards(evaluation, results, scores, pictures)
    sentence_ranks = [answer["rank"] for answer in asked]
    curve = loss_curve(read_log(trained.run / "metrics.jsonl"))
    language = _language(evaluation, results)
    lengths = sections.perplexity_by_length((metrics.get("perplexity_counts") or {}).get("by_length") or ())
    shown = {score for card in cards for score in card.scores}
    links = {
        "images": "Images",
        **({"retrieval": "Retrieval"} if answers else {}),
        **({"training": "Training"} if curve else {}),
        **({"language": "Words and lengths"} if language or lengths else {}),
        "run": "What was run",
    }
    return Page(
        title=f"{cache.dataset} {evaluation.split}: {trained.run.resolve().name}",
        notes=_notes(evaluation, cards, pictures),
        sections=[
            sections.navigation(links),
            section(
                "Overview",
                sections.headline(metrics) + sections.retrieval_table(metrics) + sections.intervals_note(metrics),
            ),
        ],
        cards=cards,
        scores=[score for score in SCORES if score.key in shown],
        questions=_questions(cards, list(answers), asked),
        after=[
            sections.retrieval_gallery([answer["rank"] for answer in answers.values()], sentence_ranks),
            section("Training", sections.training(curve), name="training"),
            section("Words and lengths", language + lengths, name="language"),
        ],
        settings=run_settings(trained, metrics),
    )


def _notes(evaluation: Evaluation, cards: Sequence[Card], pictures: Pictures) -> list[str]:
    trained, provenance = evaluation.trained, evaluation.cache.provenance
    notes = [
        f"{trained.name}, epoch {trained.progress.get('epoch', '?')}, vocabulary {len(trained.vocabulary):,}; "
        f"{len(cards):,} images of the split “{evaluation.split}” with features of "
        f"{provenance.get('backbone', '?')} {provenance.get('layer', '')}."
    ]
    if str(provenance.get("weights", "")).startswith("random:"):
        notes.append(
            "The backbone has random weights, not trained ones: the numbers show that things run, not how well."
        )
    found = sum(bool(card.picture) for card in cards)
    if found < len(cards):
        where = str(pictures.folder)
        if not pictures.named:
            where += " (the folder they were extracted from; --images names another)"
        missing = "none of the pictures was" if not found else f"{len(cards) - found} of {len(cards)} pictures were not"
        notes.append(f"Text only where a picture should be: {missing} found below {where}.")
    return notes


def _cards(
    evaluation: Evaluation, results: Results, scores: Mapping[str, Mapping[str, float]], pictures: Pictures
) -> list[Card]:
    cache = evaluation.cache
    images = [cache.images[i] for i in evaluation.images]
    retrieval = results.retrieval or {}
    answers = retrieval.get("answers", {})
    by_row = list(answers)
    sentence_ranks: dict[str, list[int]] = {}
    for answer in retrieval.get("sentence_answers", ()):
        sentence_ranks.setdefault(by_row[answer["image"]], []).append(answer["rank"])
    said: list[Said | None] = [None] * len(images)
    if results.beams is not None:
        said = [*say(evaluation.trained, evaluation.features[evaluation.images], results.beams)]
    small = thumbnails([pictures.path(image, cache) for image in images])
    cards = []
    for image, ours, picture in zip(images, said, small, strict=True):
        answer = answers.get(image.id, {"sentences": (), "rank": None})
        numbers = dict(scores.get(image.id, {}))
        if ours is not None and ours.parts is not None and len(ours.parts):
            numbers["log_prob"] = float(ours.parts.sum(1).mean())
            numbers["image_part"] = float(ours.parts[:, 2].mean())
        if answer["rank"] is not None:
            numbers["rank"] = answer["rank"]
        if image.id in sentence_ranks:
            numbers["sentence_rank"] = sum(sentence_ranks[image.id]) / len(sentence_ranks[image.id])
        cards.append(
            Card(
                image.id,
                picture,
                image.sentences,
                [] if ours is None else [ours],
                {score.key: numbers[score.key] for score in SCORES if score.key in numbers},
                [(sentence, right) for sentence, right in answer["sentences"]],
                answer["rank"],
            )
        )
    return cards


def say(trained: TrainedModel, features: Any, beams: Sequence[Sequence[Caption]]) -> list[Said]:
    """Captions with their reasons: features (B, D) and the captions of each image, best first."""
    decode = trained.vocabulary.decode
    why = reasons(trained.model, features, [best for best, *_ in beams])
    return [
        Said(
            words=[*decode(best.words), *([END] if best.complete else [])],
            parts=parts,
            others=[(" ".join(decode(other.words)), other.log_prob) for other in others[: TOP - 1]],
        )
        for (best, *others), parts in zip(beams, why, strict=True)
    ]


def _questions(cards: Sequence[Card], pool: Sequence[str], asked: Sequence[Mapping[str, Any]]) -> list[Question]:
    """Sentences that asked for images: rows of the pool become numbers of cards."""
    number = {card.image_id: place for place, card in enumerate(cards)}
    row = [number[image_id] for image_id in pool]
    return [
        Question(answer["sentence"], row[answer["image"]], answer["rank"], [row[i] for i in answer["images"]])
        for answer in asked
    ]


def _language(evaluation: Evaluation, results: Results) -> str:
    if not results.captions:
        return ""
    cache, vocabulary = evaluation.cache, evaluation.trained.vocabulary
    references = [words for words in tokenized_sentences(cache, evaluation.images)[0] if words]
    training = {tuple(words) for i in cache.done("train") for words in map(tokenize, cache.images[i].sentences)}
    captions = [vocabulary.decode(caption.words) for caption in results.captions]
    return language_section(describe_language(captions, references, vocabulary.numbers, training=training))


def run_settings(trained: TrainedModel, metrics: Mapping[str, Any]) -> dict[str, Any]:
    """What was run: names and values, groups of them to unfold."""
    names = ("checkpoint", "decoding", "seed", "counts", "features", "definitions")
    settings = {name: metrics[name] for name in names if name in metrics}
    versions = {name: version(name) for name in ("mrnn", "torch", "numpy", "pillow")}
    return {
        **settings,
        "training": trained.settings,
        "scores of an image": SCORE_NOTES,
        "versions": {**versions, "python": platform.python_version()},
    }

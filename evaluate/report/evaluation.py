"""The report of an evaluation: the page made from the model, the cache and what the stages measured."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mrnn.data.settings import name_features
from mrnn.evaluate.grounding.corrector import Corrector
from mrnn.evaluate.metrics import names
from mrnn.evaluate.metrics.diversity import Diversity
from mrnn.evaluate.per_image import Record, bits_per_word
from mrnn.evaluate.report import captioned, sections
from mrnn.evaluate.report.aligned import STYLE, alignment_section
from mrnn.evaluate.report.cards import Card, Question, Said, Score
from mrnn.evaluate.report.confidence import confidence_section
from mrnn.evaluate.report.grounding import grounding_section
from mrnn.evaluate.report.language import describe_language, language_section
from mrnn.evaluate.report.loss_curve import loss_curve
from mrnn.evaluate.report.page import Page, section
from mrnn.evaluate.report.pictures import Pictures, thumbnails
from mrnn.evaluate.report.region_captions import regions_section
from mrnn.evaluate.results import Results
from mrnn.evaluate.retrieval.result import SentenceAnswer
from mrnn.evaluate.stages import Evaluation
from mrnn.train.checkpoint import TrainedModel
from mrnn.train.models.alignment import Alignment
from mrnn.train.run_files import read_log


def gallery_scores() -> list[Score]:
    """What the gallery can be sorted by: the caption scores, the main ones first, then the model's own numbers."""
    captions = [row for row in reversed(names.CAPTION_SCORES) if row.in_gallery]
    return [
        *(Score(row.key, row.label, lower_is_better=row.lower_is_better) for row in captions),
        *captioned.SCORES,
        Score("bits", "bits per word of its sentences", lower_is_better=True),
        Score("rank", "rank of its sentence", 0, lower_is_better=True),
        Score("sentence_rank", "rank by its sentences", 1, lower_is_better=True),
    ]


SCORE_NOTES = {
    "caption scores": "of this caption alone, on plain words; BLEU with its own brevity penalty",
    **captioned.SCORE_NOTES,
    "bits per word of its sentences": "mean of -log2 P over the words and ENDs of the references",
    "rank of its sentence": "rank of the first of its own sentences when the image looks for sentences",
    "rank by its sentences": "rank of the image when its sentences look for images, mean over them",
}


def evaluation_page(
    evaluation: Evaluation,
    results: Results,
    metrics: Mapping[str, Any],
    records: Sequence[Record],
    *,
    corrector: Corrector | None,
    pictures: Pictures,
) -> Page:
    """What the report shows.

    evaluation, results : the model, the cache and what was measured
    metrics, records : the content of metrics.json and of per_image.jsonl
    corrector : of the regions that words choose, where grounding was measured
    pictures : where the pictures are
    """
    trained, cache = evaluation.trained, evaluation.cache
    answers, asked = (results.retrieval.images, results.retrieval.sentences) if results.retrieval else ((), ())
    cards = _cards(evaluation, results, records, pictures)
    image_ranks, sentence_ranks = ([answer.rank for answer in each] for each in (answers, asked))
    curve = loss_curve(read_log(trained.run, lenient=True), trained.cost)
    language = _language(evaluation, results, metrics)
    lengths = sections.perplexity_by_length((metrics.get("perplexity_counts") or {}).get("by_length") or ())
    alignments = _alignments(evaluation, corrector, pictures)
    described = regions_section(results.regions, cache, pictures)
    shown = {score for card in cards for score in card.scores}
    links = {
        "images": "Images",
        **({"alignments": "Regions and words"} if alignments else {}),
        **({"confidence": "Confidence"} if "confidence" in metrics else {}),
        **({"retrieval": "Retrieval"} if answers else {}),
        **({"grounding": "Grounding"} if "grounding" in metrics else {}),
        **({"regions": "Captions of regions"} if described else {}),
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
                sections.headline(metrics)
                + sections.retrieval_table(metrics)
                + sections.combined_table(metrics)
                + sections.intervals_note(metrics),
            ),
        ],
        cards=cards,
        scores=[score for score in gallery_scores() if score.key in shown],
        questions=_questions(cards, asked),
        after=[
            alignments,
            confidence_section(metrics.get("confidence")),
            sections.retrieval_gallery(image_ranks, sentence_ranks),
            grounding_section(metrics.get("grounding")),
            described,
            section("Training", sections.training(curve, trained.cost), name="training"),
            section("Words and lengths", language + lengths, name="language"),
        ],
        settings=run_settings(trained, metrics),
        style=STYLE if alignments or described else "",
    )


def _alignments(evaluation: Evaluation, corrector: Corrector | None, pictures: Pictures) -> str:
    trained, features = evaluation.trained, evaluation.features
    if not isinstance(trained.model, Alignment) or features.rows == 1:
        return ""
    return alignment_section(
        trained, evaluation.cache, evaluation.images, features, corrector=corrector, pictures=pictures
    )


def _notes(evaluation: Evaluation, cards: Sequence[Card], pictures: Pictures) -> list[str]:
    trained, provenance = evaluation.trained, evaluation.cache.provenance
    notes = [
        f"{trained.name}, epoch {trained.progress.get('epoch', '?')}, vocabulary {len(trained.vocabulary):,}; "
        f"{len(cards):,} images of the split “{evaluation.split}” with features of "
        f"{name_features(provenance)}."
    ]
    if str(provenance.get("weights", "")).startswith("random:"):
        notes.append(
            "The backbone has random weights, not trained ones: the numbers show that the pipeline runs, not how well."
        )
    return notes + pictures.missing([card.picture for card in cards])


def _cards(evaluation: Evaluation, results: Results, records: Sequence[Record], pictures: Pictures) -> list[Card]:
    cache = evaluation.cache
    images = [cache.images[i] for i in evaluation.images]
    answers = {answer.image_id: answer for answer in results.retrieval.images} if results.retrieval else {}
    keys = [score.key for score in gallery_scores()]
    said: list[Said | None] = [None] * len(images)
    if results.words is not None and results.beams is not None:
        said = [*captioned.say(evaluation.trained, results.words, results.beams)]
    small = thumbnails([pictures.file(image.path) for image in images])
    cards = []
    for image, record, ours, picture in zip(images, records, said, small, strict=True):
        answer = answers.get(image.id)
        scores = _scores(record, ours)
        cards.append(
            Card(
                image.id,
                picture,
                image.sentences,
                [] if ours is None else [ours],
                {key: scores[key] for key in keys if key in scores},
                [(found.text, found.right) for found in answer.sentences] if answer else [],
                answer.rank if answer else None,
            )
        )
    return cards


def _scores(record: Record, said: Said | None) -> dict[str, float]:
    """What an image is sorted by, as far as it was measured."""
    scores: dict[str, float] = dict(record.get("scores", {}))
    if said is not None:
        scores |= captioned.said_scores(said)
    if "perplexity" in record:
        scores["bits"] = bits_per_word(record)
    if "ranks" in record:
        scores["rank"] = record["ranks"]["image_to_sentence"]
        scores["sentence_rank"] = float(np.mean(record["ranks"]["sentence_to_image"]))
    return scores


def _questions(cards: Sequence[Card], asked: Sequence[SentenceAnswer]) -> list[Question]:
    """Sentences that asked for images: ids become numbers of cards."""
    number = {card.image_id: place for place, card in enumerate(cards)}
    return [
        Question(
            answer.text,
            number[answer.image_id],
            answer.rank,
            [number[image.image_id] for image in answer.images],
        )
        for answer in asked
    ]


def _language(evaluation: Evaluation, results: Results, metrics: Mapping[str, Any]) -> str:
    if not results.captions:
        return ""
    vocabulary = evaluation.trained.vocabulary
    captions = [vocabulary.decode(caption.words) for caption in results.captions]
    references = [sentence.words for sentence in evaluation.pool.sentences]
    varied = Diversity(**metrics["diversity"]["captions"])
    return language_section(describe_language(captions, references, vocabulary.numbers, diversity=varied))


def run_settings(trained: TrainedModel, metrics: Mapping[str, Any]) -> dict[str, Any]:
    """What was run: names and values, groups of them to unfold."""
    names = ("checkpoint", "decoding", "seed", "counts", "features", "definitions")
    settings = {name: metrics[name] for name in names if name in metrics}
    return {
        **settings,
        "training": trained.settings,
        "scores of an image": SCORE_NOTES,
        "versions": captioned.versions(),
    }

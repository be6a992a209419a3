"""From what the stages measured to the files that programs read: metrics.json and captions.json."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from typing import Any

import numpy as np

from mrnn.data.captions import Image
from mrnn.data.tokenize import tokenize
from mrnn.evaluate.evaluation import Evaluation
from mrnn.evaluate.generation.decode import Caption
from mrnn.evaluate.metrics.bootstrap import LEVEL, RESAMPLES
from mrnn.evaluate.metrics.captions import DEFINITIONS, CaptionScores, score_captions
from mrnn.evaluate.metrics.diversity import DEFINITIONS as DIVERSITY_DEFINITIONS
from mrnn.evaluate.metrics.diversity import diversity
from mrnn.evaluate.metrics.tokenizers import TOKEN_DEFINITIONS, tokenize_all
from mrnn.evaluate.per_image import Record, build_records, intervals
from mrnn.train.sentences import tokenized_sentences

OTHER_DEFINITIONS = {
    "ptb": f"the same scores, tokens {TOKEN_DEFINITIONS['ptb']}",
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
    "image_to_sentence_per_word": "ranked by log P(w|I) / (words + END)",
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
        metrics["retrieval"] = _without(results.retrieval, "answers", "sentence_answers", "ranks")
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
        "pictures": str(cache.root),
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
    facts["ngram_precision_with_penalty"] = list(scores.ngram_precision_with_penalty)
    facts["brevity_penalty"] = scores.brevity_penalty
    raw = {image.id: image.sentences for image in _images(evaluation)}
    spoken = {image: " ".join(said) for image, said in candidates.items()}
    try:
        facts["ptb"] = score_captions(*tokenize_all(spoken, raw, tokenizer="ptb")).corpus
    except ValueError:  # all that an image's sentences say is punctuation to this tokeniser
        facts["ptb"] = None
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

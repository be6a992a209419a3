"""From what the stages measured to metrics.json."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from typing import Any

import numpy as np

from mrnn.evaluate.caption_lists import images_of, words_of
from mrnn.evaluate.ensemble import DEFINITION as ENSEMBLE_DEFINITION
from mrnn.evaluate.ensemble import TrainedEnsemble
from mrnn.evaluate.generation import confidence
from mrnn.evaluate.generation.confidence import Calibration
from mrnn.evaluate.generation.decode import Caption
from mrnn.evaluate.generation.region_captions import DEFINITION as REGIONS_DEFINITION
from mrnn.evaluate.generation.words import CaptionWord
from mrnn.evaluate.grounding.stage import DEFINITION as GROUNDING_DEFINITION
from mrnn.evaluate.metrics import names
from mrnn.evaluate.metrics.bootstrap import LEVEL, RESAMPLES
from mrnn.evaluate.metrics.captions import CaptionScores, score_captions
from mrnn.evaluate.metrics.captions import definitions as caption_definitions
from mrnn.evaluate.metrics.diversity import DEFINITIONS as DIVERSITY_DEFINITIONS
from mrnn.evaluate.metrics.diversity import diversity
from mrnn.evaluate.metrics.tokenizers import TOKEN_DEFINITIONS, tokenize_all
from mrnn.evaluate.per_image import Record, build_records, intervals, sure_and_scored
from mrnn.evaluate.retrieval.combination import AVERAGED_DEFINITIONS
from mrnn.evaluate.retrieval.combination import DEFINITIONS as COMBINED_DEFINITIONS
from mrnn.evaluate.retrieval.combination_file import Recipe
from mrnn.evaluate.retrieval.result import RetrievalResult
from mrnn.evaluate.retrieval.two_towers import ranking_definitions
from mrnn.evaluate.stages import Evaluation
from mrnn.train.sentences import tokenized_sentences

OTHER_DEFINITIONS = {
    "ptb": f"the same scores, tokens {TOKEN_DEFINITIONS['ptb']}",
    "consensus": "mean similarity, CIDEr-D from 0 to 10 with document frequencies of the training captions, with the "
    "consensus_captions most similar captions of the consensus_images nearest training images, plus consensus_log_prob "
    "times the natural log-probability per word; it chose among the captions of the beam",
    "confidence": confidence.DEFINITION,
    "by_length": "of the sentences with so many words, END not counted",
    "intervals": f"{LEVEL:.0%} of {RESAMPLES:,} bootstrap resamples of the images (percentiles); an image is "
    "drawn with all its sentences, captions and queries; held fixed: document frequencies, P(w), the pool",
    "within_percent": "percent of the queries whose first right answer is ranked within the best r percent of the pool",
    "retrieval": "percent, ranks from 1; of several sentences of an image the best counts; ties count against us "
    "(best_of_ties: for us, where there are any); median of an even number: mean of the middle two",
}


@dataclass
class Results:
    """What was measured; None where it was not asked for and is not there from an earlier run.

    perplexity : what its stage returned
    perplexity_splits : the same for further splits
    beams : for each image all captions that its search ended with, best first
    captions, greedy : the best caption and the greedy one of each image
    words : those of the best captions, with the reason for each
    calibration : of the confidence in captions, where a file of one was given
    retrieval, grounding, regions : what their stages returned
    combined : which models retrieved together, and how they were weighted
    recipe : the same, as a search needs it
    """

    perplexity: dict[str, Any] | None = None
    perplexity_splits: dict[str, dict[str, Any]] = field(default_factory=dict)
    beams: list[list[Caption]] | None = None
    captions: list[Caption] | None = None
    words: list[tuple[CaptionWord, ...]] | None = None
    greedy: list[Caption] | None = None
    calibration: Calibration | None = None
    retrieval: RetrievalResult | None = None
    combined: dict[str, Any] | None = None
    recipe: Recipe | None = None
    grounding: dict[str, Any] | None = None
    regions: dict[str, Any] | None = None


def build_metrics(
    evaluation: Evaluation, results: Results, *, settings: dict[str, Any]
) -> tuple[dict[str, Any], list[Record]]:
    """The content of metrics.json and of per_image.jsonl.

    settings : what the numbers depend on besides the model and the cache; its seed is also that of the bootstrap
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
        metrics["retrieval"] = results.retrieval.summary()
    if results.combined:
        metrics["combined"] = results.combined
    if results.grounding:
        for key, (choice, measure, _) in names.GROUNDED.items():
            metrics[key] = results.grounding["choices"][choice][measure]["all"]
        metrics["grounding"] = _without(results.grounding, "per_image", "mean_word")
    if results.regions:
        metrics |= {f"region_{row.key}": results.regions["model"][row.key] for row in names.CAPTION_SCORES}
        metrics["regions"] = _without(results.regions, "per_image", "captions")
    chosen = images_of(evaluation)
    said = None if results.captions is None else [" ".join(words) for words in words_of(evaluation, results.captions)]
    records = build_records(
        chosen,
        perplexity=results.perplexity,
        captions=None if said is None else list(zip(said, results.captions or (), strict=True)),
        words=results.words,
        scores=scores,
        retrieval=results.retrieval,
        grounding=results.grounding,
        regions=results.regions,
        integer_ids=cache.integer_ids,
    )
    seed = settings["seed"]
    metrics["intervals"] = intervals(records, generator=np.random.default_rng(seed))
    metrics["bootstrap"] = {"resamples": RESAMPLES, "level": LEVEL, "over": "images", "seed": seed}
    metrics |= _confidence(evaluation, results, records, seed=seed)
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
        "definitions": {
            **caption_definitions(),
            **names.definitions(),
            **_ranking_definitions(evaluation, results),
            **OTHER_DEFINITIONS,
            **DIVERSITY_DEFINITIONS,
            **({"ensemble": ENSEMBLE_DEFINITION} if isinstance(trained, TrainedEnsemble) else {}),
            "grounding": GROUNDING_DEFINITION,
            "regions": REGIONS_DEFINITION,
        },
        "features": cache.provenance,
        "dataset": cache.dataset,
        "pictures": str(cache.root),
        "mrnn": version("mrnn"),
    }
    return metrics, records


def _ranking_definitions(evaluation: Evaluation, results: Results) -> dict[str, str]:
    if results.combined:
        return COMBINED_DEFINITIONS
    trained = evaluation.trained
    if isinstance(trained, TrainedEnsemble):
        return AVERAGED_DEFINITIONS
    local = results.retrieval is not None and results.retrieval.local_scaling
    return ranking_definitions(trained.model, local=local)


def _without(found: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in found.items() if name not in names}


def _caption_scores(evaluation: Evaluation, captions: Sequence[Caption]) -> tuple[dict[str, Any], CaptionScores | None]:
    """Facts about all the captions, and scores over the images that have a reference with a word."""
    references = evaluation.pool.references()
    said = dict(zip(evaluation.pool.ids, words_of(evaluation, captions), strict=True))
    candidates = {image: words for image, words in said.items() if image in references}
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
    raw = {image.id: image.sentences for image in images_of(evaluation)}
    spoken = {image: " ".join(words) for image, words in candidates.items()}
    try:
        facts["ptb"] = score_captions(*tokenize_all(spoken, raw, tokenizer="ptb")).corpus
    except ValueError:  # to this tokeniser an image's sentences consist of punctuation alone
        facts["ptb"] = None
    return facts, scores


def _confidence(evaluation: Evaluation, results: Results, records: Sequence[Record], *, seed: int) -> dict[str, Any]:
    """Whether the surer captions are the better ones, and what captions of the dev split as sure were worth."""
    sure, scored = sure_and_scored(records)
    if not len(sure):
        return {}
    found: dict[str, Any] = {"captions": len(sure), "rank_correlation": confidence.rank_correlation(sure, scored)}
    calibration, fitted_here = results.calibration, evaluation.split == confidence.SPLIT
    if fitted_here:
        calibration = confidence.fit_calibration(sure, scored)
    if calibration:
        generator = np.random.default_rng(seed)
        found |= {"fitted_here": fitted_here, "steps": [asdict(step) for step in calibration.steps]}
        found |= confidence.reliability(calibration, sure, scored, generator=generator)
    return {"confidence": found}


def _diversity(evaluation: Evaluation, results: Results) -> dict[str, Any]:
    """Diversity of the captions, of the greedy ones, and of one reference per image."""
    cache = evaluation.cache
    training = {tuple(words) for words in tokenized_sentences(cache, cache.done("train"))[0]} or None
    said = {"captions": results.captions, "greedy": results.greedy}
    texts = {name: words_of(evaluation, captions) for name, captions in said.items() if captions is not None}
    if not texts:
        return {}
    texts["people"] = [sentences[0] for sentences in evaluation.pool.references().values()]
    return {"diversity": {name: asdict(diversity(words, training)) for name, words in texts.items() if words}}

"""Retrieval among the images of a split, in both directions: the pools, their ranks, and the first answers by name."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from mrnn.data.cache import FeatureCache
from mrnn.data.errors import EvaluationError
from mrnn.data.tokenize import tokenize
from mrnn.evaluate.evaluation import Evaluation
from mrnn.evaluate.parts import ScoreFile
from mrnn.evaluate.retrieval.all_pairs import PairScoring
from mrnn.evaluate.retrieval.answers import Names, image_answers, sentence_answers
from mrnn.evaluate.retrieval.late_fusion import Tiles
from mrnn.evaluate.retrieval.pair_scorer import captioner_pairs
from mrnn.evaluate.retrieval.pruning import Scores, criteria, image_ranks, sentence_ranks
from mrnn.evaluate.retrieval.ranking import recalls
from mrnn.train.sentences import encode_sentences, tokenized_sentences


@dataclass(frozen=True)
class RetrievalConfig:
    """What is ranked, and how.

    pool : images of a pool, None for all that have sentences; the split's first. folds : pools, one after the other in
    the split's order; numbers are averaged over them. normaliser_images : J, training images that P(w) is averaged
    over, 0 to leave it out; seed : of their choice. top : length of the lists of first answers. per_word : rank
    sentences by log P(w|I) a word, too. words : of the bounds. full : score every pair; words and full change the time
    it takes and nothing else.
    """

    pool: int | None = None
    folds: int = 1
    normaliser_images: int = 1000
    seed: int = 0
    top: int = 5
    per_word: bool = False
    words: int = 64
    full: bool = False

    def __post_init__(self) -> None:
        for name, least in (("folds", 1), ("words", 1), ("top", 1), ("normaliser_images", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, not {getattr(self, name)}")
        if self.pool is not None and self.pool < 1:
            raise ValueError(f"a pool has at least one image, not {self.pool}")
        if self.folds > 1 and self.pool is None:
            raise ValueError("several folds need the size of a pool: --pool 1000 --folds 5")

    def changing_results(self) -> dict[str, Any]:
        """The settings that results depend on."""
        return {name: value for name, value in asdict(self).items() if name not in ("words", "full")}


def retrieval_stage(
    evaluation: Evaluation, config: RetrievalConfig, *, tiles: Tiles | None = None, run: bool = True
) -> dict[str, Any] | None:
    """Ranks in both directions, their summary, and the first answers; `one_pool` says what is in it.

    With several folds the summary is the mean of theirs and the rest is joined. run=False returns what an earlier run
    finished, or None. Raises EvaluationError without sentences or training images, or with too few images for the
    folds.
    """
    stored: dict[str, Any] | None = evaluation.parts.load("retrieval", config.changing_results())
    if stored is not None or not run:
        return stored
    images = np.array([i for i in evaluation.images if any(map(tokenize, evaluation.cache.images[i].sentences))])
    if not len(images):
        raise EvaluationError(f"the split {evaluation.split!r} has no image with a sentence to retrieve")
    size = config.pool or len(images)
    if config.folds > 1 and len(images) < config.folds * size:
        raise EvaluationError(
            f"the split {evaluation.split!r} has {len(images)} images with sentences, too few for {config.folds} folds "
            f"of {size}; give a smaller --pool or fewer --folds"
        )
    pools = [images[fold * size : (fold + 1) * size] for fold in range(config.folds)]
    result = merge([one_pool(evaluation, config, pool, fold=fold, tiles=tiles) for fold, pool in enumerate(pools)])
    evaluation.parts.save("retrieval", config.changing_results(), result)
    return result


def one_pool(
    evaluation: Evaluation, config: RetrievalConfig, images: np.ndarray, *, fold: int, tiles: Tiles | None
) -> dict[str, Any]:
    """The result of a pool of images, given by their numbers in the cache.

    Recalls by direction, see `summarise`. `ranks` : by direction, worst ones where there are ties, images and sentences
    in the cache's order. `course` : of a pruned pass, how it got there, see `Scores.state`. `answers` : by image id.
    `sentence_answers` : a list. Counts, and what they depend on.
    """
    cache = evaluation.cache
    priors = sample_training_images(cache, config.normaliser_images, seed=config.seed)
    encoded = encode_sentences(*tokenized_sentences(cache, images), evaluation.trained.vocabulary)
    words = list(map(tuple, np.split(encoded.tokens, encoded.starts[1:-1])))
    different = sorted(set(words))
    number = {sentence: place for place, sentence in enumerate(different)}
    rows = np.concatenate([images, priors])
    settings = {"pool": config.pool, "fold": fold, "normaliser_images": len(priors), "seed": config.seed}
    exact = ScoreFile(evaluation.parts, f"scores-{fold}", settings, (len(rows), len(different)))
    scores = Scores(
        upper=exact.values,
        known=~np.isnan(exact.values),
        sentences=np.array([number[sentence] for sentence in words]),
        owners=np.searchsorted(images, encoded.image),
        lengths=np.array([len(sentence) + 1 for sentence in different]),
        images=len(images),
        top=config.top,
        per_word=config.per_word,
    )
    pairs = captioner_pairs(evaluation.trained.model, different, evaluation.features, tiles=tiles)
    scoring = PairScoring(evaluation, pairs, rows, exact)
    if not scores.known.all():
        bounding = None if config.full else scoring.bounded(config.words)
        if bounding:
            bound_settings = {**settings, "words": config.words}
            bounds = ScoreFile(evaluation.parts, f"bounds-{fold}", bound_settings, (len(different), len(rows)))
            scoring.prune(scores, bounds, bounding, words=config.words)
        else:
            scoring.score_all(scores)
    names = Names(cache, images)
    return {
        **summarise(scores),
        "answers": image_answers(scores, names),
        "sentence_answers": sentence_answers(scores, names),
        "images": len(images),
        "sentences": len(words),
        "normaliser_images": len(priors),
        "seed": config.seed,
        "folds": 1,
        "prefix_states": len(pairs.scorer.tree.node_words),
        "words_and_ends": encoded.targets,
        "scored_exactly": float(scores.known.mean()),
        "course": scores.course,
    }


def summarise(scores: Scores) -> dict[str, Any]:
    """Recalls and ranks of both directions.

    image_to_sentence ranks by log P(w|I) - log P(w), image_to_sentence_raw by log P(w|I) alone (where J = 0 both do),
    image_to_sentence_per_word by log P(w|I) a word. Where there are ties, `best_of_ties` holds the same numbers with
    ties broken in our favour. `ranks` : lists of worst ranks.
    """
    found = {name: image_ranks(scores, criterion) for name, criterion in criteria(scores).items()}
    found["sentence_to_image"] = sentence_ranks(scores)
    summary: dict[str, Any] = {name: recalls(worst).to_json() for name, (worst, _) in found.items()}
    tied = {name: recalls(best).to_json() for name, (worst, best) in found.items() if (best != worst).any()}
    if tied:
        summary["best_of_ties"] = tied
    return {**summary, "ranks": {name: worst.tolist() for name, (worst, _) in found.items()}}


def merge(results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The result of several pools: numbers averaged, queries joined, counts added up where pools have parts of them."""
    if len(results) == 1:
        return results[0]
    means = ("image_to_sentence", "sentence_to_image", "image_to_sentence_raw", "image_to_sentence_per_word")
    first = results[0]
    tied = [name for name in means if any(name in result.get("best_of_ties", {}) for result in results)]

    def mean(parts: Sequence[dict[str, float]]) -> dict[str, float]:
        return {name: float(np.mean([part[name] for part in parts])) for name in parts[0]}

    merged: dict[str, Any] = {name: mean([result[name] for result in results]) for name in means if name in first}
    if tied:
        merged["best_of_ties"] = {
            name: mean([result.get("best_of_ties", {}).get(name, result[name]) for result in results]) for name in tied
        }
    return {
        **merged,
        "ranks": {name: [rank for result in results for rank in result["ranks"][name]] for name in first["ranks"]},
        "answers": {name: answer for result in results for name, answer in result["answers"].items()},
        "sentence_answers": [answer for result in results for answer in result["sentence_answers"]],
        **{name: sum(result[name] for result in results) for name in ("prefix_states", "words_and_ends")},
        **{name: [result[name] for result in results] for name in ("images", "sentences")},
        **{name: first[name] for name in ("normaliser_images", "seed", "course")},
        "folds": len(results),
        "scored_exactly": float(np.mean([result["scored_exactly"] for result in results])),
    }


def sample_training_images(cache: FeatureCache, count: int, *, seed: int) -> np.ndarray:
    """Numbers (rising) of `count` training images, all of them if there are fewer: the prior of P(w)."""
    training = cache.done("train")
    if count and not len(training):
        raise EvaluationError(
            f"{cache.path} has no training images to average P(w) over; give a cache that has them, or "
            "--normaliser-images 0 to rank sentences by P(w|I) alone"
        )
    return np.sort(np.random.default_rng(seed).permutation(training)[:count])

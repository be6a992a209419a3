"""Retrieval among the images of a split, in both directions: the pools, their ranks, and the first answers by name."""

from typing import Any

import numpy as np

from mrnn.data.cache import FeatureCache
from mrnn.data.errors import EvaluationError
from mrnn.evaluate.parts import ScoreFile
from mrnn.evaluate.pool import Pool, build_pool
from mrnn.evaluate.retrieval.all_pairs import PairScoring
from mrnn.evaluate.retrieval.answers import PoolRanks, image_answers, sentence_answers
from mrnn.evaluate.retrieval.late_fusion import Tiles
from mrnn.evaluate.retrieval.result import RetrievalResult, join
from mrnn.evaluate.retrieval.scores import Scores
from mrnn.evaluate.retrieval.two_towers import TowerPairs, pairs_of, ranking_definitions, ranking_of
from mrnn.evaluate.settings import RetrievalConfig
from mrnn.evaluate.stages import Evaluation


def retrieval_stage(
    evaluation: Evaluation, config: RetrievalConfig, *, tiles: Tiles | None = None, run: bool = True
) -> RetrievalResult | None:
    """Ranks in both directions and the first answers, over one pool or joined over several.

    run : False to return what an earlier run finished, or None

    A stored result that cannot be read, such as one of an older version, is measured anew from the stored scores.
    Raises EvaluationError without sentences or training images, or with too few images for the folds.
    """
    # A result of an earlier version that ranked otherwise is not used.
    settings = {
        **config.changing_results(),
        "definitions": ranking_definitions(evaluation.trained.model, local=config.local_scaling),
    }
    stored = stored_result(evaluation.parts.load("retrieval", settings))
    if stored is not None or not run:
        return stored
    result = join(
        [
            one_pool(evaluation, config, part, fold=fold, tiles=tiles)
            for fold, part in enumerate(pools_of(evaluation, config))
        ]
    )
    evaluation.parts.save("retrieval", settings, result.to_json())
    return result


def pools_of(evaluation: Evaluation, config: RetrievalConfig) -> list[Pool]:
    """The pools to retrieve in, of images that have sentences.

    Raises EvaluationError without sentences, or with too few images for the folds.
    """
    pool = evaluation.pool.part(evaluation.pool.rows_with_sentences())
    if not len(pool.images):
        raise EvaluationError(f"the split {evaluation.split!r} has no image with a sentence to retrieve")
    size = config.pool or len(pool.images)
    if config.folds > 1 and len(pool.images) < config.folds * size:
        raise EvaluationError(
            f"the split {evaluation.split!r} has {len(pool.images)} images with sentences, too few for {config.folds} "
            f"folds of {size}; give a smaller --pool or fewer --folds"
        )
    rows = np.arange(len(pool.images))
    return [pool.part(rows[fold * size : (fold + 1) * size]) for fold in range(config.folds)]


def stored_result(content: Any) -> RetrievalResult | None:
    """A part of an earlier run; None where there is none, or this version cannot read it."""
    try:
        return None if content is None else RetrievalResult.from_json(content)
    except (KeyError, TypeError, ValueError, AttributeError):
        return None


def one_pool(
    evaluation: Evaluation, config: RetrievalConfig, pool: Pool, *, fold: int, tiles: Tiles | None
) -> RetrievalResult:
    """The result of one pool.

    pool : images that all have sentences
    fold : number of the pool, which its files are named by
    tiles : sizes of the matrix products; None for the usual ones
    """
    scores, size = pool_scores(evaluation, config, pool, name=str(fold), tiles=tiles)
    return pool_result(scores, pool, config, prefix_states=size)


def pool_scores(
    evaluation: Evaluation,
    config: RetrievalConfig,
    pool: Pool,
    *,
    name: str,
    priors: np.ndarray | None = None,
    tiles: Tiles | None = None,
) -> tuple[Scores, int]:
    """The scores of a pool, exact where they matter, and what its sentences come to (PairScorer.size).

    pool : images that all have sentences
    name : of the pool, which its files are named by
    priors : numbers of the training images that scores are normalised over; None to draw them
    tiles : sizes of the matrix products; None for the usual ones
    """
    trained = evaluation.trained
    if priors is None:
        priors = sample_training_images(evaluation.cache, config.normaliser_images, seed=config.seed)
    words = [tuple(trained.vocabulary.encode(sentence.words)) for sentence in pool.sentences]
    different = sorted(set(words))
    number = {sentence: place for place, sentence in enumerate(different)}
    rows = np.concatenate([pool.images, priors])
    settings = {"pool": config.pool, "fold": name, "normaliser_images": len(priors), "seed": config.seed}
    exact = ScoreFile(evaluation.parts, f"scores-{name}", settings, (len(rows), len(different)))
    scores = Scores(
        upper=exact.values,
        known=~np.isnan(exact.values),
        sentences=np.array([number[sentence] for sentence in words]),
        owners=pool.owners,
        lengths=np.array([len(sentence) + 1 for sentence in different]),
        images=len(pool.images),
        top=config.top,
        per_word=config.per_word,
        ranking=ranking_of(trained.model, local=config.local_scaling),
    )
    pairs = pairs_of(trained.model, different, evaluation.features, tiles=tiles)
    scoring = PairScoring(evaluation, pairs, rows, exact)
    scoring.complete(scores, config, name=name, settings=settings)
    if isinstance(pairs, TowerPairs) and len(priors):
        said = build_pool(evaluation.cache, priors).sentences
        training = pairs_of(
            trained.model, [trained.vocabulary.encode(each.words) for each in said], evaluation.features
        )
        local = config.local_scaling
        table = ScoreFile(evaluation.parts, f"standard-{name}", {**settings, "local": local}, (len(rows), 2))
        scoring.standardise(scores, table, training, local=local)
    return scores, pairs.size


def pool_result(scores: Scores, pool: Pool, config: RetrievalConfig, *, prefix_states: int) -> RetrievalResult:
    """Ranks, recalls and answers of a pool from its scores; prefix_states as in `RetrievalResult`."""
    ranks = PoolRanks.of(scores)
    found, tied = ranks.recalls()
    return RetrievalResult(
        recalls=found,
        best_of_ties=tied,
        images=image_answers(scores, pool, ranks),
        sentences=sentence_answers(scores, pool, ranks),
        pool_images=(len(pool.images),),
        pool_sentences=(len(pool.sentences),),
        normaliser_images=len(scores.upper) - scores.images,
        seed=config.seed,
        local_scaling=config.local_scaling,
        prefix_states=prefix_states,
        words_and_ends=int(scores.lengths[scores.sentences].sum()),
        scored_exactly=float(scores.known.mean()),
        course=tuple(scores.course),
    )


def sample_training_images(cache: FeatureCache, count: int, *, seed: int) -> np.ndarray:
    """Numbers (rising) of `count` training images, all of them if there are fewer: the prior of P(w)."""
    training = cache.done("train")
    if count and not len(training):
        raise EvaluationError(
            f"{cache.path} has no training images to average P(w) over; give a cache that has them, or "
            "--normaliser-images 0 to rank sentences by P(w|I) alone"
        )
    return np.sort(np.random.default_rng(seed).permutation(training)[:count])

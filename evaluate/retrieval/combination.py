"""Retrieval by several models together: a weighted sum of what each of them ranks by.

An ensemble of captioners (mrnn.evaluate.ensemble) ranks by the plain mean of log P(w | I) - log P(w). Models of any
kind are combined by

    V(I, w) = sum over models m of  weight_m / scale_m * V_m(I, w)

V_m is the value by which images rank sentences for that model: log P(w | I) - log P(w) of a captioner, the standardised
score of a model that matches (mrnn.evaluate.retrieval.two_towers). scale_m is its standard deviation over the pairs of
a pool of dev images, so that weights of different kinds of model compare. The first model has the weight 1; the others
are chosen to maximise the sum of R@1, R@5 and R@10 in both directions on that pool, one after the other, twice.

Where the first model is a captioner that has bounds (mrnn.evaluate.retrieval.bounds), they bound the sum as well: the
other models are computed first, and its own scores only where they can still change a rank or a list.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mrnn.data.cache import STATE_DONE, FeatureCache
from mrnn.data.errors import EvaluationError
from mrnn.evaluate.parts import Parts
from mrnn.evaluate.pool import Pool
from mrnn.evaluate.retrieval.answers import PoolRanks
from mrnn.evaluate.retrieval.ranking import Recalls
from mrnn.evaluate.retrieval.result import RetrievalResult, join
from mrnn.evaluate.retrieval.scores import Criterion, Others, Ranking, Scores, bracket
from mrnn.evaluate.retrieval.stage import pool_result, pool_scores, pools_of, sample_training_images, stored_result
from mrnn.evaluate.settings import RetrievalConfig
from mrnn.evaluate.stages import Evaluation
from mrnn.train.models.captioner import LateFusion

AVERAGED_DEFINITIONS = {
    "image_to_sentence": "ranked by the mean of log P(w|I) - log P(w) over the members of the ensemble",
    "sentence_to_image": "ranked by the same mean, up to a constant for each sentence",
}
WEIGHTS = (0.0, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.4, 2.0, 3.0, 5.0)
SWEEPS = 2
DEFINITIONS = {
    "image_to_sentence": "ranked by the sum of weight / scale * value over the members of `combined`, the value being "
    "log P(w|I) - log P(w) of a captioner and the standardised score of a model that matches",
    "sentence_to_image": "ranked by the same sum, up to a constant for each sentence",
}


@dataclass(frozen=True)
class Combined:
    """What models retrieve together, how each was weighted, and what both came to on the dev pool, for metrics.json."""

    result: RetrievalResult
    summary: dict[str, Any]


def together(scores: Scores) -> dict[str, Criterion]:
    """The one criterion of a combination; see `Ranking`."""
    zero, one = np.zeros(len(scores.counts)), np.ones(len(scores.counts))
    return {"image_to_sentence": Criterion(zero, zero, one)}


TOGETHER = Ranking(together, lambda scores, row, column, between: {"combined": list(between)})


def together_pruned(scores: Scores) -> dict[str, Criterion]:
    """The same where `scores.others` holds all models but a captioner, whose P(w) is bracketed."""
    assert scores.others is not None
    low, high = bracket(scores.upper[scores.prior], scores.known[scores.prior])
    factor = scores.others.factor
    return {"image_to_sentence": Criterion(factor * low, factor * high, np.ones(len(scores.counts)))}


TOGETHER_PRUNED = replace(TOGETHER, criteria=together_pruned)


def combined_stage(members: Sequence[Evaluation], dev: Sequence[Evaluation], config: RetrievalConfig) -> Combined:
    """Ranks by several models together.

    members : of the split that is measured, the first model first; each with `parts` of its own settings in one folder
    dev : the same of the dev split, with the images that the weights are chosen on

    Raises EvaluationError if a member's cache lacks a picture of the first one's, or has it in another split or with
    other sentences.
    """
    first = members[0]
    training = sample_training_images(first.cache, config.normaliser_images, seed=config.seed)
    settings = {
        **config.changing_results(),
        "definitions": DEFINITIONS,
        "members": [each.parts.settings for each in members],
        "dev": [str(number) for number in dev[0].images],
    }
    content = first.parts.load("combined", settings)
    stored = stored_result(content and content["result"])
    if stored is not None:
        return Combined(stored, content["summary"])
    (dev_pool,) = pools_of(dev[0], replace(config, pool=None, folds=1))
    for other in members[1:]:
        for images in (first.images, dev_pool.images, training):
            joined(images, first.cache, other.cache)
    values = [member_values(each, config, dev_pool, dev[0], training, name=f"{n}-dev") for n, each in enumerate(dev)]
    scales = np.array([max(float(value.std(dtype=np.float64)), 1e-12) for value in values])
    weights = choose_weights(values, scales, dev_pool)
    result = _ranked(members, config, training, weights=weights, scales=scales)
    summary = {
        "members": [
            {
                "run": str(each.trained.run),
                "model": each.trained.name,
                "features": str(each.cache.path),
                **each.parts.settings,
                "scale": float(scale),
                "weight": float(weight),
                "dev": _recalls(value, dev_pool),
            }
            for each, value, weight, scale in zip(members, values, weights, scales, strict=True)
        ],
        "dev": _recalls(weighted_sum(values, weights, scales), dev_pool),
        "dev_images": len(dev_pool.images),
        "normaliser_images": len(training),
    }
    combined = Combined(result, summary)
    first.parts.save("combined", settings, {"result": combined.result.to_json(), "summary": summary})
    return combined


def averaged_stage(
    members: Sequence[Evaluation], config: RetrievalConfig, *, run: bool = True
) -> RetrievalResult | None:
    """Ranks by the mean of what captioners rank by.

    members : on the same split of the same cache; each with `parts` of its own settings in one folder
    run : False to return what an earlier run finished, or None
    """
    first = members[0]
    settings = {
        **config.changing_results(),
        "definitions": AVERAGED_DEFINITIONS,
        "members": [each.parts.settings for each in members],
    }
    stored = stored_result(first.parts.load("averaged", settings))
    if stored is not None or not run:
        return stored
    training = sample_training_images(first.cache, config.normaliser_images, seed=config.seed)
    every = np.ones(len(members))
    result = _ranked(members, config, training, weights=every / len(members), scales=every)
    first.parts.save("averaged", settings, result.to_json())
    return result


def _ranked(
    members: Sequence[Evaluation],
    config: RetrievalConfig,
    training: np.ndarray,
    *,
    weights: np.ndarray,
    scales: np.ndarray,
) -> RetrievalResult:
    """Ranks by the weighted sum, joined over the pools of the first member; training as for `member_values`."""
    first, config = members[0], replace(config, per_word=False)
    bounded = isinstance(first.trained.model, LateFusion) and weights[0] > 0
    results = []
    for fold, pool in enumerate(pools_of(first, config)):
        # Those of weight 0 count for nothing; the first one waits where it can be pruned.
        counted = [n for n in range(1 if bounded else 0, len(members)) if weights[n]]
        found = [member_values(members[n], config, pool, first, training, name=f"{n}-{fold}") for n in counted]
        shape = (len(pool.images), len(pool.sentences))
        total = weighted_sum(found, weights[counted], scales[counted], shape)
        if bounded:
            others = Others(float(weights[0] / scales[0]), total)
            scores, size = pool_scores(
                first, config, pool, name=f"0-{fold}", priors=training, others=others, ranking=TOGETHER_PRUNED
            )
        else:
            scores, size = pool_of_values(total, pool, top=config.top), 0
        results.append(pool_result(scores, pool, config, prefix_states=size))
    return replace(join(results), normaliser_images=len(training))


def member_values(
    member: Evaluation, config: RetrievalConfig, pool: Pool, first: Evaluation, training: np.ndarray, *, name: str
) -> np.ndarray:
    """The value of every image with every sentence of a pool by one model: (N, S) float32.

    pool : images that all have sentences, numbered in the cache of `first`
    first : the first model, on the split of the pool
    training : numbers in its cache of the training images that scores are normalised over
    name : of the pool, which the member's files are named by
    """
    own = replace(pool, images=joined(pool.images, first.cache, member.cache))
    priors = joined(training, first.cache, member.cache)
    # Kept scores have the images and the sentences in the order of the first cache, so they depend on it.
    parts = Parts(member.parts.folder.parent, {**member.parts.settings, "ranked_for": first.parts.settings})
    config = replace(config, full_pass=True, per_word=False)
    scores, _ = pool_scores(replace(member, parts=parts), config, own, name=name, priors=priors)
    criterion = next(iter(scores.criteria().values()))
    _, values = criterion.brackets(scores.compared(criterion)[scores.pool], scores.known[scores.pool])
    return values[:, scores.sentences]


def pool_of_values(values: np.ndarray, pool: Pool, *, top: int) -> Scores:
    """The scores of a pool of which everything is known, (N, S): each sentence has its own column."""
    return Scores(
        upper=values,
        known=np.ones(values.shape, dtype=bool),
        sentences=np.arange(len(pool.sentences)),
        owners=pool.owners,
        lengths=np.array([len(sentence.words) + 1 for sentence in pool.sentences]),
        images=len(pool.images),
        top=top,
        ranking=TOGETHER,
    )


def weighted_sum(
    values: Sequence[np.ndarray], weights: np.ndarray, scales: np.ndarray, shape: tuple[int, ...] | None = None
) -> np.ndarray:
    """V of the module's docstring from the (N, S) values of all models: (N, S) float32; `shape` where there is none."""
    parts = (value.astype(np.float64) * (w / s) for value, w, s in zip(values, weights, scales, strict=True) if w)
    return sum(parts, np.zeros(shape or values[0].shape)).astype(np.float32)


def choose_weights(values: Sequence[np.ndarray], scales: np.ndarray, pool: Pool) -> np.ndarray:
    """The weights that maximise the sum of the six recalls on a pool; of equally good ones the smallest."""
    weights = np.array([1.0, *[0.0] * (len(values) - 1)])
    for _ in range(SWEEPS):
        for place in range(1, len(values)):
            tried = []
            for weight in WEIGHTS:
                weights[place] = weight
                found = _recalls(weighted_sum(values, weights, scales), pool)
                tried.append(sum(each[f"R@{k}"] for each in found.values() for k in (1, 5, 10)))
            weights[place] = WEIGHTS[int(np.argmax(tried))]
    return weights


def _recalls(values: np.ndarray, pool: Pool) -> dict[str, dict[str, float]]:
    found: dict[str, Recalls] = PoolRanks.of(pool_of_values(values, pool, top=1)).recalls()[0]
    return {name: recalls.to_json() for name, recalls in found.items()}


def joined(images: np.ndarray, cache: FeatureCache, other: FeatureCache) -> np.ndarray:
    """The numbers in another cache of some images of a cache, in the same order.

    Raises EvaluationError if the other one lacks features of an image, or has it in another split or with other
    sentences.
    """
    number = {image.id: place for place, image in enumerate(other.images)}
    found = []
    for image in (cache.images[i] for i in images):
        place = number.get(image.id)
        if place is None or other.states[place] != STATE_DONE:
            difference = "has no features of it"
        elif (twin := other.images[place]).split != image.split:
            difference = f"has it in the split {twin.split!r}, not in {image.split!r}"
        elif sorted(twin.sentences) != sorted(image.sentences):
            difference = "has other sentences of it"
        else:
            found.append(place)
            continue
        raise EvaluationError(
            f"{cache.path} and {other.path} cannot be combined: of the image {image.id!r}, the second {difference}; "
            "models are combined on caches of the same pictures, splits and sentences"
        )
    return np.array(found, dtype=np.int64)

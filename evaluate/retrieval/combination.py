"""Retrieval by several models together: a weighted sum of what each of them ranks by.

An ensemble of captioners (mrnn.evaluate.ensemble) ranks by the plain mean of log P(w | I) - log P(w). Models of any
kind are combined by

    V(I, w) = sum over models m of  weight_m / scale_m * V_m(I, w)

V_m is the value by which images rank sentences for that model: log P(w | I) - log P(w) of a captioner, the standardised
score of a model that matches (mrnn.evaluate.retrieval.two_towers). scale_m is its standard deviation over the pairs of
a pool of dev images, so that weights of different kinds of model compare; weight_m is chosen on that pool
(mrnn.evaluate.retrieval.weights).

Captioners that have bounds (mrnn.evaluate.retrieval.bounds) are scored last and together, only where they can still
change a rank or a list (mrnn.evaluate.retrieval.joint).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mrnn.data.cache import STATE_DONE, FeatureCache
from mrnn.data.errors import EvaluationError
from mrnn.evaluate.parts import Parts
from mrnn.evaluate.pool import Pool
from mrnn.evaluate.retrieval.joint import JointCaptioner, joint_scores
from mrnn.evaluate.retrieval.result import RetrievalResult, join
from mrnn.evaluate.retrieval.stage import pool_result, pool_scores, pools_of, sample_training_images, stored_result
from mrnn.evaluate.retrieval.weights import TOGETHER, choose_weights, pool_of_values, recalls_of, weighted_sum
from mrnn.evaluate.settings import RetrievalConfig
from mrnn.evaluate.stages import Evaluation
from mrnn.train.models.captioner import LateFusion

AVERAGED_DEFINITIONS = {
    "image_to_sentence": "ranked by the mean of log P(w|I) - log P(w) over the members of the ensemble",
    "sentence_to_image": "ranked by the same mean, up to a constant for each sentence",
}
DEFINITIONS = {
    "image_to_sentence": "ranked by the sum of weight / scale * value over the members of `combined`, the value being "
    "log P(w|I) - log P(w) of a captioner and the standardised score of a model that matches, with local scaling where "
    "`local_scaling` says so",
    "sentence_to_image": "ranked by the same sum, up to a constant for each sentence",
}


@dataclass(frozen=True)
class Combined:
    """What models retrieve together, how each was weighted, and what both came to on the dev pool, for metrics.json."""

    result: RetrievalResult
    summary: dict[str, Any]


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
                "dev": recalls_of(value, dev_pool),
            }
            for each, value, weight, scale in zip(members, values, weights, scales, strict=True)
        ],
        "dev": recalls_of(weighted_sum(values, weights, scales), dev_pool),
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
    counted = [n for n in range(len(members)) if weights[n]]
    joint = [n for n in counted if isinstance(members[n].trained.model, LateFusion)]
    others = [n for n in counted if n not in joint]
    factors = (weights / scales).tolist()
    settings = {
        **{name: getattr(config, name) for name in ("pool", "normaliser_images", "seed", "local_scaling")},
        "together": [{**members[n].parts.settings, "factor": factors[n]} for n in counted],
    }
    results = []
    for fold, pool in enumerate(pools_of(first, config)):
        found = [member_values(members[n], config, pool, first, training, name=f"{n}-{fold}") for n in others]
        shape = (len(pool.images), len(pool.sentences))
        total = weighted_sum(found, weights[others], scales[others], shape)
        if not joint:
            results.append(pool_result(pool_of_values(total, pool, top=config.top), pool, config, prefix_states=0))
            continue
        captioners = [
            JointCaptioner(
                members[n],
                joined(pool.images, first.cache, members[n].cache),
                joined(training, first.cache, members[n].cache),
                factors[n],
            )
            for n in joint
        ]
        scores, size = joint_scores(
            captioners, total, config, pool, name=f"joint-{fold}", settings=settings, values=TOGETHER.values
        )
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

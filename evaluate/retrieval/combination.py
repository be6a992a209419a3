"""Retrieval by several models together: a weighted sum of what each of them ranks by.

    V(I, w) = sum over models m of  weight_m / scale_m * V_m(I, w)

V_m is the value by which images rank sentences for that model: log P(w | I) - log P(w) of a captioner, the standardised
score of a model that matches (mrnn.evaluate.retrieval.two_towers). scale_m is its standard deviation over the pairs of
a pool of dev images, so that weights of different kinds of model compare. The first model has the weight 1; the others
are chosen to maximise the sum of R@1, R@5 and R@10 in both directions on that pool, one after the other, twice.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mrnn.data.cache import FeatureCache
from mrnn.data.errors import EvaluationError
from mrnn.evaluate.pool import Pool
from mrnn.evaluate.retrieval.answers import PoolRanks
from mrnn.evaluate.retrieval.ranking import Recalls
from mrnn.evaluate.retrieval.result import RetrievalResult, join
from mrnn.evaluate.retrieval.scores import Criterion, Ranking, Scores
from mrnn.evaluate.retrieval.stage import pool_result, pool_scores, pools_of, stored_result
from mrnn.evaluate.settings import RetrievalConfig
from mrnn.evaluate.stages import Evaluation

WEIGHTS = (0.0, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.4, 2.0, 3.0, 5.0)
SWEEPS = 2
DEFINITIONS = {
    "image_to_sentence": "ranked by the sum of weight / scale * value over the members of `combined`, the value being "
    "log P(w|I) - log P(w) of a captioner and the standardised score of a model that matches",
    "sentence_to_image": "ranked by the same sum",
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


TOGETHER = Ranking(together, lambda scores, row, column, between: {"combined": between[0]})


def combined_stage(members: Sequence[Evaluation], dev: Sequence[Evaluation], config: RetrievalConfig) -> Combined:
    """Ranks by several models together.

    members : of the split that is measured, the first model first; each with `parts` of its own settings in one folder
    dev : the same of the dev split, with the images that the weights are chosen on

    Raises EvaluationError if a member's cache lacks a picture of the first one's, or has it in another split.
    """
    first = members[0]
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
    for other in (*members[1:], *dev[1:]):
        _check_pictures(first.cache, other.cache, other.split)
    values = [member_values(each, config, dev_pool, first.cache, name=f"{n}-dev") for n, each in enumerate(dev)]
    scales = np.array([max(float(value.std(dtype=np.float64)), 1e-12) for value in values])
    weights = choose_weights(values, scales, dev_pool)
    results = []
    for fold, pool in enumerate(pools_of(first, config)):
        found = [member_values(each, config, pool, first.cache, name=f"{n}-{fold}") for n, each in enumerate(members)]
        scores = pool_of_values(weighted_sum(found, weights, scales), pool, top=config.top)
        results.append(pool_result(scores, pool, config, prefix_states=0))
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
        "normaliser_images": config.normaliser_images,
    }
    combined = Combined(replace(join(results), normaliser_images=config.normaliser_images), summary)
    first.parts.save("combined", settings, {"result": combined.result.to_json(), "summary": summary})
    return combined


def member_values(
    member: Evaluation, config: RetrievalConfig, pool: Pool, cache: FeatureCache, *, name: str
) -> np.ndarray:
    """The value of every image with every sentence of a pool by one model: (N, S) float32.

    pool : images that all have sentences, numbered in `cache`
    name : of the pool, which the member's files are named by
    """
    numbers = {image.id: number for number, image in enumerate(member.cache.images)}
    own = replace(pool, images=np.array([numbers[cache.images[image].id] for image in pool.images]))
    scores, _ = pool_scores(member, replace(config, full_pass=True, per_word=False), own, name=name)
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


def weighted_sum(values: Sequence[np.ndarray], weights: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """V of the module's docstring from the (N, S) values of all models: (N, S) float32."""
    parts = (value.astype(np.float64) * (w / s) for value, w, s in zip(values, weights, scales, strict=True) if w)
    return sum(parts, np.zeros(values[0].shape)).astype(np.float32)


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


def _check_pictures(first: FeatureCache, other: FeatureCache, split: str) -> None:
    """Raise EvaluationError unless the other cache has the pictures of a split of the first one, in that split."""
    theirs = {other.images[number].id for number in other.done(split)}
    lacking = [first.images[number].id for number in first.done(split) if first.images[number].id not in theirs]
    if lacking:
        raise EvaluationError(
            f"{other.path} has no features of {lacking[0]!r} in the split {split!r} ({len(lacking)} such pictures), "
            f"but {first.path} has; models are combined on caches of the same pictures and splits"
        )

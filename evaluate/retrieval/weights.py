"""The weights of models that retrieve together, chosen on a pool of which everything is known.

The first model has the weight 1; the others are chosen to maximise the sum of R@1, R@5 and R@10 in both directions, one
after the other, twice.
"""

from collections.abc import Sequence

import numpy as np

from mrnn.evaluate.pool import Pool
from mrnn.evaluate.retrieval.answers import PoolRanks
from mrnn.evaluate.retrieval.ranking import Recalls
from mrnn.evaluate.retrieval.scores import Criterion, Ranking, Scores

WEIGHTS = (0.0, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.4, 2.0, 3.0, 5.0)
SWEEPS = 2


def together(scores: Scores) -> dict[str, Criterion]:
    """The one criterion of a combination; see `Ranking`."""
    zero, one = np.zeros(len(scores.counts)), np.ones(len(scores.counts))
    return {"image_to_sentence": Criterion(zero, zero, one)}


TOGETHER = Ranking(together, lambda scores, row, column, between: {"combined": list(between)})


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
                found = recalls_of(weighted_sum(values, weights, scales), pool)
                tried.append(sum(each[f"R@{k}"] for each in found.values() for k in (1, 5, 10)))
            weights[place] = WEIGHTS[int(np.argmax(tried))]
    return weights


def recalls_of(values: np.ndarray, pool: Pool) -> dict[str, dict[str, float]]:
    found: dict[str, Recalls] = PoolRanks.of(pool_of_values(values, pool, top=1)).recalls()[0]
    return {name: recalls.to_json() for name, recalls in found.items()}

"""Several captioners scored as one, so that the bounds of all of them decide which pairs are scored exactly.

    T(I, w) = added(I, w) + sum over captioners k of  factor_k * log P_k(w | I)

are the scores of a pool, and images rank sentences by T(I, w) - sum_k factor_k * log P_k(w). The sum of the captioners'
bounds bounds T, since the factors are positive; `added` is what models without bounds say.

Each P_k(w) is the mean of P_k(w | I') over J images, so a table of scores has N + K J rows: T of the N images of the
pool, then log P_k(w | I') of the J images for one captioner after the other. Bounds and scores are added up in the same
order, and rounding is monotonic, so a sum of bounds is not below the sum of the scores.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

from mrnn.evaluate.parts import ScoreFile
from mrnn.evaluate.pool import Pool
from mrnn.evaluate.retrieval.all_pairs import PairScoring
from mrnn.evaluate.retrieval.pair_scorer import Bounder, PairScorer
from mrnn.evaluate.retrieval.scores import Criterion, Ranking, Scores, bracket
from mrnn.evaluate.retrieval.two_towers import pairs_of
from mrnn.evaluate.settings import RetrievalConfig
from mrnn.evaluate.stages import Evaluation


@dataclass(frozen=True)
class JointCaptioner:
    """A captioner of the sum.

    evaluation : its model, features and options
    images, priors : (N,) and (J,) numbers in its cache of the images of the pool and of those of P(w)
    factor : above 0
    """

    evaluation: Evaluation
    images: np.ndarray
    priors: np.ndarray
    factor: float


class JointPairs:
    """The PairScorer of several captioners. An image's number is that of its row in the table of scores."""

    def __init__(self, captioners: Sequence[JointCaptioner], pairs: Sequence[PairScorer], added: np.ndarray) -> None:
        """
        captioners : at least one, with equally many images.
        pairs : the scorer of each, of the same sentences in the same order.
        added : (N, S).
        """
        self._captioners, self._pairs, self._added = captioners, pairs, added

    @property
    def size(self) -> int:
        """See `PairScorer`: of the first captioner."""
        return self._pairs[0].size

    @property
    def device(self) -> torch.device:
        """See `PairScorer`."""
        return self._pairs[0].device

    def score(
        self, image: int, sentences: np.ndarray | None = None, *, check: Callable[[], None] | None = None
    ) -> np.ndarray:
        """See `PairScorer`."""
        beyond = image - len(self._added)
        if beyond >= 0:
            number, place = divmod(beyond, len(self._captioners[0].priors))
            prior = int(self._captioners[number].priors[place])
            return self._pairs[number].score(prior, sentences, check=check)
        found = [
            pairs.score(int(captioner.images[image]), sentences, check=check)
            for captioner, pairs in zip(self._captioners, self._pairs, strict=True)
        ]
        return self._total(self._added[image], found)

    def work(self, sentences: np.ndarray | None = None) -> int:
        """See `PairScorer`, for a row of the pool."""
        return sum(pairs.work(sentences) for pairs in self._pairs)

    def bounder(self, images: np.ndarray, *, words: int) -> "JointBounder | None":
        """See `PairScorer`. images : all rows, in order."""
        found = []
        for captioner, pairs in zip(self._captioners, self._pairs, strict=True):
            bounder = pairs.bounder(np.concatenate([captioner.images, captioner.priors]), words=words)
            if bounder is None:
                return None
            found.append(bounder)
        return JointBounder(found, self._added, self._total)

    def _total(self, added: np.ndarray, values: Sequence[np.ndarray]) -> np.ndarray:
        """T of what each captioner says, float64."""
        total = np.zeros(added.shape)
        for captioner, value in zip(self._captioners, values, strict=True):
            total += captioner.factor * value.astype(np.float32)
        return total + added


@dataclass(frozen=True)
class JointBounder:
    """Upper bounds of all rows of a table.

    bounders : of each captioner, of its images of the pool and then those of P(w)
    added : (N, S)
    total : the sum of what each says, as for the scores
    """

    bounders: Sequence[Bounder]
    added: np.ndarray
    total: Callable[[np.ndarray, Sequence[np.ndarray]], np.ndarray]

    @property
    def share(self) -> float:
        """See `Bounder`."""
        return max(bounder.share for bounder in self.bounders)

    def bounds(self, sentences: np.ndarray, *, check: Callable[[], None] | None = None) -> np.ndarray:
        """See `Bounder`."""
        found = [bounder.bounds(sentences, check=check) for bounder in self.bounders]
        pool = len(self.added)
        sums = self.total(self.added[:, sentences].T, [bounds[:, :pool] for bounds in found])
        return np.concatenate([sums.astype(np.float32), *(bounds[:, pool:] for bounds in found)], axis=1)


def joint_scores(
    captioners: Sequence[JointCaptioner],
    added: np.ndarray,
    config: RetrievalConfig,
    pool: Pool,
    *,
    name: str,
    settings: dict[str, Any],
    values: Callable[[Scores, int, int, tuple[float, float]], dict[str, Any]],
) -> tuple[Scores, int]:
    """The sums of a pool, exact where they matter, and what its sentences come to (PairScorer.size).

    captioners : at least one; the evaluation of the first keeps the files
    added : (N, S) float32, what other models say of the pool's images and sentences
    pool : images that all have sentences
    name : of the pool, which its files are named by
    settings : what the scores depend on beside the settings of the first evaluation
    values : see `Ranking`
    """
    first = captioners[0].evaluation
    said = [
        [tuple(each.evaluation.trained.vocabulary.encode(sentence.words)) for sentence in pool.sentences]
        for each in captioners
    ]
    # In alphabetical order, so that neighbours share their beginnings. A model may tell sentences apart that are the
    # same to another, so each keeps its own column.
    order = np.array(sorted(range(len(pool.sentences)), key=said[0].__getitem__))
    pairs = [
        pairs_of(each.evaluation.trained.model, [words[place] for place in order], each.evaluation.features)
        for each, words in zip(captioners, said, strict=True)
    ]
    factors = [each.factor for each in captioners]
    rows = np.arange(len(pool.images) + sum(len(each.priors) for each in captioners))
    exact = ScoreFile(first.parts, f"scores-{name}", settings, (len(rows), len(order)))
    scores = Scores(
        upper=exact.values,
        known=~np.isnan(exact.values),
        sentences=np.argsort(order),
        owners=pool.owners,
        lengths=np.array([len(said[0][place]) + 1 for place in order]),
        images=len(pool.images),
        top=config.top,
        ranking=Ranking(partial(joint_criteria, factors=factors), values),
        captioners=len(captioners),
    )
    joint = JointPairs(captioners, pairs, added[:, order])
    PairScoring(first, joint, rows, exact).complete(scores, config, name=name, settings=settings)
    return scores, joint.size


def joint_criteria(scores: Scores, *, factors: Sequence[float]) -> dict[str, Criterion]:
    """The one criterion of sums; see `Ranking`. factors : of the captioners."""
    low, high = np.zeros(len(scores.counts)), np.zeros(len(scores.counts))
    for factor, rows in zip(factors, scores.priors, strict=bool(scores.priors)):
        lowest, highest = bracket(scores.upper[rows], scores.known[rows])
        low, high = low + factor * lowest, high + factor * highest
    return {"image_to_sentence": Criterion(low, high, np.ones(len(scores.counts)))}

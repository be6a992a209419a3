"""Scores of an image and many sentences: what retrieval, agreement and search ask of a model, whatever its kind."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from mrnn.evaluate.retrieval.late_fusion import LateFusionScorer, Tiles
from mrnn.evaluate.retrieval.prefix_tree import PrefixTree, build_prefix_tree
from mrnn.evaluate.retrieval.stepping import SteppingScorer
from mrnn.train.features import Features
from mrnn.train.models.captioner import Captioner, LateFusion

Item = TypeVar("Item")
Result = TypeVar("Result")


class PairScorer(Protocol):
    """Scores of some sentences under the images of a cache. Threads may share it."""

    @property
    def device(self) -> torch.device:
        """Where it computes."""

    def score(
        self, image: int, sentences: np.ndarray | None = None, *, check: Callable[[], None] | None = None
    ) -> np.ndarray:
        """Scores of the sentences under an image.

        image : its number in the cache. sentences : numbers of those wanted, all by default; what is returned for the
        others is not a number. check : called now and then; what it raises ends the work. Returns (S,) float64.
        """

    def work(self, sentences: np.ndarray | None = None) -> int:
        """How much there is to do for some sentences, all by default, in units that take equally long."""


class FeatureScorer(Protocol):
    """log P(w | I), natural, END counted, of some sentences under an image given by its stored feature, (D,)."""

    device: torch.device
    tree: PrefixTree

    def score(
        self, feature: Tensor, sentences: np.ndarray | None = None, *, check: Callable[[], None] | None = None
    ) -> np.ndarray:
        """See `PairScorer.score`."""

    def work(self, sentences: np.ndarray | None = None) -> int:
        """See `PairScorer.work`."""


@dataclass(frozen=True)
class CaptionerPairs:
    """The PairScorer of a captioner: log P(w | I) by `scorer`, with the features of a cache."""

    scorer: FeatureScorer
    features: Features

    @property
    def device(self) -> torch.device:
        """See `PairScorer`."""
        return self.scorer.device

    def score(
        self, image: int, sentences: np.ndarray | None = None, *, check: Callable[[], None] | None = None
    ) -> np.ndarray:
        """See `PairScorer`."""
        return self.scorer.score(self.feature(image), sentences, check=check)

    def feature(self, image: int) -> Tensor:
        """The stored feature of an image, (D,)."""
        return self.features[np.array([image])][0]

    def work(self, sentences: np.ndarray | None = None) -> int:
        """See `PairScorer`."""
        return self.scorer.work(sentences)


def captioner_pairs(
    model: Captioner,
    sentences: Sequence[Sequence[int] | np.ndarray],
    features: Features,
    *,
    tiles: Tiles | None = None,
) -> CaptionerPairs:
    """How a captioner scores sentences, given as word numbers without signs: fast where its language half is separate.

    tiles : of a late-fusion model. Raises ValueError for a model in training mode.
    """
    tree = build_prefix_tree(sentences)
    if isinstance(model, LateFusion):
        return CaptionerPairs(LateFusionScorer(model, tree, tiles=tiles), features)
    return CaptionerPairs(SteppingScorer(model, tree), features)


def in_order(
    work: Callable[[Item], Result], items: Iterable[Item], *, device: torch.device, threads: int = 1
) -> Iterator[Result]:
    """work(item) of one item after the other, in order.

    On a processor `threads` items are worked on at a time, each by one thread, so results do not depend on their
    number. torch's own threads are set to one meanwhile. On an accelerator `threads` has no meaning.
    """
    if device.type != "cpu":
        yield from map(work, items)
        return
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    waiting: deque[Future[Result]] = deque()
    pool = ThreadPoolExecutor(threads)
    try:
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) > threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(before)


def log_normaliser(scores: np.ndarray) -> np.ndarray:
    """log P(w) = logsumexp_j log P(w | I'_j) - log J, a uniform prior over J sampled images: (J, S) -> (S,) float64."""
    largest = scores.max(axis=0).astype(np.float64)
    total = np.zeros_like(largest)
    for row in scores:
        total += np.exp(row - largest)
    return largest + np.log(total / len(scores))

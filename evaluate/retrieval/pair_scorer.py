"""Scores of many sentences under an image, by any kind of model, for retrieval, agreement and search."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from mrnn.evaluate.retrieval.bounds import BoundScorer
from mrnn.evaluate.retrieval.late_fusion import LateFusionScorer, Tiles
from mrnn.evaluate.retrieval.prefix_tree import PrefixTree, build_prefix_tree
from mrnn.evaluate.retrieval.stepping import SteppingScorer
from mrnn.train.features import RegionRows
from mrnn.train.models.captioner import Captioner, LateFusion

Item = TypeVar("Item")
Result = TypeVar("Result")

WORTH = 4  # bounds by K words are used if the vocabulary has at least WORTH * K words; else they cost too much


class Bounder(Protocol):
    """Upper bounds of the scores of some images; see mrnn.evaluate.retrieval.bounds. Threads may share it."""

    @property
    def share(self) -> float:
        """Fraction of the output layer's words that the bounds take."""

    def bounds(self, sentences: np.ndarray, *, check: Callable[[], None] | None = None) -> np.ndarray:
        """Upper bounds for some sentences under all images: (n,) -> (n, N) float32. See `BoundScorer.bounds`."""


class PairScorer(Protocol):
    """Scores of some sentences under the images of a cache. Threads may share it."""

    @property
    def size(self) -> int:
        """What the sentences come to: nodes of their prefix tree, or words."""

    @property
    def device(self) -> torch.device:
        """The device of the computation."""

    def score(
        self, image: int, sentences: np.ndarray | None = None, *, check: Callable[[], None] | None = None
    ) -> np.ndarray:
        """Scores of the sentences under an image.

        image : its number in the cache.
        sentences : numbers of the sentences to score, all by default; the scores of the others are NaN.
        check : called from time to time; an exception that it raises ends the computation.

        Returns (S,) float64.
        """

    def work(self, sentences: np.ndarray | None = None) -> int:
        """Amount of work for some sentences, all by default, in units that take equally long."""

    def bounder(self, images: np.ndarray, *, words: int) -> Bounder | None:
        """Upper bounds of the scores of images, or None if there are none or they would save no time.

        images : their numbers.
        words : number of words per node that are kept in the bounds.
        """


class FeatureScorer(Protocol):
    """Natural log P(w | I) of some sentences, END counted, under an image given by its stored feature, (D,)."""

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
    features: RegionRows

    @property
    def size(self) -> int:
        """See `PairScorer`: nodes of the prefix tree."""
        return len(self.scorer.tree.node_words)

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

    def bounder(self, images: np.ndarray, *, words: int) -> BoundScorer | None:
        """See `PairScorer`: for a late-fusion model with a large vocabulary, on a CPU."""
        # Bounds need exact scores that do not depend on which others are computed. They consist of many small products,
        # which would leave an accelerator idle.
        scorer = self.scorer
        if not isinstance(scorer, LateFusionScorer) or scorer.device.type != "cpu":
            return None
        if len(scorer.bias) < WORTH * words or not scorer.is_stable():
            return None
        return BoundScorer(scorer, torch.stack([scorer.image(self.feature(n)) for n in images.tolist()]), words=words)


def captioner_pairs(
    model: Captioner,
    sentences: Sequence[Sequence[int] | np.ndarray],
    features: RegionRows,
    *,
    tiles: Tiles | None = None,
) -> CaptionerPairs:
    """The scorer of a captioner: tiled for a late-fusion model, step by step for any other.

    model : the model in eval mode.
    sentences : word numbers of each sentence, without START and END.
    features : features by image number.
    tiles : size of the tiles of a late-fusion model.

    Raises ValueError for a model in training mode.
    """
    tree = build_prefix_tree(sentences)
    if isinstance(model, LateFusion):
        return CaptionerPairs(LateFusionScorer(model, tree, tiles=tiles), features)
    return CaptionerPairs(SteppingScorer(model, tree), features)


def in_order(
    work: Callable[[Item], Result], items: Iterable[Item], *, device: torch.device, threads: int = 1
) -> Iterator[Result]:
    """Yield work(item) for each item, in order.

    work : called with one item.
    items : the items.
    device : device that `work` computes on.
    threads : number of items processed at a time on a CPU; ignored on an accelerator.
    """
    # On a CPU each item is processed by one thread, with torch's own threads set to one: results then do not depend on
    # `threads`.
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
            if len(waiting) > threads:  # one more than can run, so that no thread waits while a result is consumed
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(before)


def log_normaliser(scores: np.ndarray) -> np.ndarray:
    """log P(w) = logsumexp_j log P(w | I'_j) - log J, a uniform prior over J sampled images: (J, S) -> (S,) float64."""
    # Row by row, since `scores` may be mapped from a file, and a float64 copy of all of it can be large.
    largest = scores.max(axis=0).astype(np.float64)
    total = np.zeros_like(largest)
    for row in scores:
        total += np.exp(row - largest)
    return largest + np.log(total / len(scores))

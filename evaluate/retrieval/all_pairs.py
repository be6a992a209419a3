"""The work of retrieval: bounds and exact scores of a pool, kept in files, with progress, stopped and taken up again.

By default a pruned pass: every pair gets an upper bound (mrnn.evaluate.retrieval.bounds), and only what can still
change a rank or a list of first answers is scored exactly (mrnn.evaluate.retrieval.pruning). The full pass scores every
pair. Both end in the same ranks and lists, since an exact score does not depend on which others are computed
(RetrievalScorer).

Memory beside that of scorer and bounds: three float32 matrices of (images + those of P(w)) x sentences, two of them
mapped from files, and about 30 bytes for each pair of ranking.CHUNK queries and their candidates.
"""

from collections.abc import Iterator
from itertools import count
from time import perf_counter

import click
import numpy as np
import torch
from torch import Tensor

from mrnn.data.errors import EvaluationError
from mrnn.data.progress import Progress
from mrnn.evaluate.evaluation import Evaluation
from mrnn.evaluate.parts import ScoreFile
from mrnn.evaluate.retrieval.bounds import BoundScorer, blocks
from mrnn.evaluate.retrieval.late_fusion import RetrievalScorer, in_order
from mrnn.evaluate.retrieval.pruning import wanted
from mrnn.evaluate.retrieval.scores import Scores

WORTH = 4  # below so many times `words` a vocabulary is scored in full: the bounds would cost too large a part of it
USUAL_SHARE = 0.15  # of the pairs' cost that is scored exactly beside the bounds; for the estimate of time alone


class PairScoring:
    """Scores of some images, `rows` in the cache, under all sentences of `scorer`, as far as they are needed."""

    def __init__(self, evaluation: Evaluation, scorer: RetrievalScorer, rows: np.ndarray, exact: ScoreFile) -> None:
        """exact : (rows, sentences), what is known of the scores."""
        self._evaluation, self._scorer, self._rows, self._exact = evaluation, scorer, rows, exact

    def prunes(self, words: int) -> bool:
        """Whether bounds with so many words pay here, and exact scores are the same alone and among others.

        Not on an accelerator: the bounds are many small products, which leave it idle.
        """
        vocabulary = len(self._scorer.bias)
        return self._scorer.device.type == "cpu" and vocabulary >= WORTH * words and self._scorer.is_stable()

    def score_all(self, scores: Scores) -> None:
        """The full pass."""
        click.echo(f"scoring every pair: about {duration(self._seconds())}", err=True)
        self._score(scores, ~scores.known, "scores")

    def prune(self, scores: Scores, bounds: ScoreFile, *, words: int) -> None:
        """The pruned pass. bounds : (sentences, rows). scores.upper is replaced by what has bounds everywhere."""
        full = self._seconds()
        share = min(1.0, words / len(self._scorer.bias) * 1.5 + USUAL_SHARE)
        click.echo(
            f"bounds, then exact scores where they matter: about {duration(share * full)} "
            f"(scoring every pair: {duration(full)})",
            err=True,
        )
        self._bound(bounds, words=words)
        scores.upper = np.where(scores.known, scores.upper, bounds.values.T)
        for number in count(1):
            pairs = wanted(scores)
            scores.course.append(scores.state())
            if not pairs.any():
                return
            self._score(scores, pairs, f"exact scores, round {number}")

    def _bound(self, bounds: ScoreFile, *, words: int) -> None:
        evaluation, scorer = self._evaluation, self._scorer
        images = torch.stack([scorer.image(feature) for feature in self._features(np.arange(len(self._rows)))])
        bounder = BoundScorer(scorer, images, words=words)
        done = ~np.isnan(bounds.values).any(axis=1)
        todo = [block for block in blocks(len(done), len(images)) if not done[block].all()]
        left = sum(map(len, todo))

        def work(block: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            return block, bounder.bounds(block, check=evaluation.check_stop)

        with Progress("retrieval, bounds", len(done), unit="sentences", done=len(done) - left) as progress:
            try:
                for block, values in in_order(work, todo, threads=evaluation.threads, device=scorer.device):
                    bounds.values[block] = refuse_nan(values)
                    bounds.mark()
                    progress.add(len(block))
            finally:
                bounds.mark(now=True)

    def _score(self, scores: Scores, pairs: np.ndarray, label: str) -> None:
        """Score these pairs, (rows, sentences) bool, exactly."""
        evaluation, scorer = self._evaluation, self._scorer
        images = np.flatnonzero(pairs.any(axis=1))

        def work(item: tuple[int, Tensor]) -> tuple[int, np.ndarray]:
            row, feature = item
            chosen = None if pairs[row].all() else np.flatnonzero(pairs[row])
            return row, scorer.score(feature, chosen, check=evaluation.check_stop).astype(np.float32)

        with Progress(f"retrieval, {label}", int(pairs.sum()), unit="pairs") as progress:
            try:
                items = zip(images.tolist(), self._features(images), strict=True)
                for row, values in in_order(work, items, threads=evaluation.threads, device=scorer.device):
                    chosen = pairs[row]
                    found = refuse_nan(values[chosen])
                    if (found > scores.upper[row, chosen]).any():
                        raise EvaluationError(
                            "a score lies above its bound, which rounding should not make possible; give --full-pass"
                        )
                    self._exact.values[row, chosen] = scores.upper[row, chosen] = found
                    scores.known[row, chosen] = True
                    self._exact.mark()
                    progress.add(len(found))
            finally:
                self._exact.mark(now=True)

    def _features(self, numbers: np.ndarray) -> Iterator[Tensor]:
        return (self._evaluation.features[self._rows[n : n + 1]][0] for n in numbers.tolist())

    def _seconds(self) -> float:
        """What scoring every pair that is missing would take, from a few tiles."""
        scorer, sentences = self._scorer, np.arange(min(20, self._exact.values.shape[1]))
        nodes = -(-len(np.unique(scorer.tree.edge_nodes[scorer.tree.paths(sentences)])) // scorer.tiles.rows)
        feature = next(self._features(np.arange(1)))
        scorer.score(feature, sentences)
        start = perf_counter()
        scorer.score(feature, sentences)
        tile = (perf_counter() - start) / nodes
        missing = float(np.isnan(self._exact.values).mean()) * len(self._rows)
        threads = self._evaluation.threads if scorer.device.type == "cpu" else 1
        return tile * len(scorer.language) / scorer.tiles.rows * missing / threads


def refuse_nan(values: np.ndarray) -> np.ndarray:
    """The values as they are. Raises EvaluationError if one is not a number."""
    if np.isnan(values).any():
        raise EvaluationError("a score is not a number: the checkpoint's weights or the cache's features are damaged")
    return values


def duration(seconds: float) -> str:
    """Seconds in words a person reads at once."""
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} minutes"

"""The work of retrieval: bounds and exact scores of a pool, kept in files, with progress, stopped and taken up again.

By default a pruned pass: every pair gets an upper bound (mrnn.evaluate.retrieval.bounds), and only what can still
change a rank or a list of first answers is scored exactly (mrnn.evaluate.retrieval.pruning). The full pass scores every
pair. Both end in the same ranks and lists, since an exact score does not depend on which others are computed
(LateFusionScorer).

Memory beside that of scorer and bounds: three float32 matrices of (images + those of P(w)) x sentences, two of them
mapped from files, and about 30 bytes for each pair of ranking.CHUNK queries and their candidates.
"""

from itertools import count
from time import perf_counter

import click
import numpy as np
import torch

from mrnn.data.errors import EvaluationError
from mrnn.data.progress import Progress
from mrnn.evaluate.evaluation import Evaluation
from mrnn.evaluate.parts import ScoreFile
from mrnn.evaluate.retrieval.bounds import BoundScorer, blocks
from mrnn.evaluate.retrieval.late_fusion import LateFusionScorer
from mrnn.evaluate.retrieval.pair_scorer import CaptionerPairs, PairScorer, in_order
from mrnn.evaluate.retrieval.pruning import Scores, wanted

WORTH = 4  # below so many times `words` a vocabulary is scored in full: the bounds would cost too large a part of it
SAMPLE = 100  # sentences by which the time of all pairs is estimated
USUAL_SHARE = 0.15  # of the pairs' cost that is scored exactly beside the bounds; for the estimate of time alone


class PairScoring:
    """Scores of some images, `rows` in the cache, under all sentences of `pairs`, as far as they are needed."""

    def __init__(self, evaluation: Evaluation, pairs: PairScorer, rows: np.ndarray, exact: ScoreFile) -> None:
        """exact : (rows, sentences), what is known of the scores."""
        self._evaluation, self._pairs, self._rows, self._exact = evaluation, pairs, rows, exact

    def bounded(self, words: int) -> LateFusionScorer | None:
        """The scorer to bound scores with by this many words; None where bounds do not pay or cannot be had.

        They need a late-fusion model, a vocabulary large enough, and exact scores that are the same alone and among
        others. On an accelerator they do not pay: they are many small products, which leave it idle.
        """
        scorer = self._pairs.scorer if isinstance(self._pairs, CaptionerPairs) else None
        if not isinstance(scorer, LateFusionScorer) or scorer.device.type != "cpu":
            return None
        return scorer if len(scorer.bias) >= WORTH * words and scorer.is_stable() else None

    def score_all(self, scores: Scores) -> None:
        """The full pass."""
        click.echo(f"scoring every pair: about {duration(self._seconds())}", err=True)
        self._score(scores, ~scores.known, "scores")

    def prune(self, scores: Scores, bounds: ScoreFile, scorer: LateFusionScorer, *, words: int) -> None:
        """The pruned pass.

        scores : its `upper` is replaced by what has bounds everywhere. bounds : (sentences, rows), filled here.
        scorer : what `bounded` returned for these words.
        """
        full = self._seconds()
        share = min(1.0, words / len(scorer.bias) * 1.5 + USUAL_SHARE)
        click.echo(
            f"bounds, then exact scores where they matter: about {duration(share * full)} "
            f"(scoring every pair: {duration(full)})",
            err=True,
        )
        self._bound(bounds, scorer, words=words)
        scores.upper = np.where(scores.known, scores.upper, bounds.values.T)
        for number in count(1):
            pairs = wanted(scores)
            scores.course.append(scores.state())
            if not pairs.any():
                return
            self._score(scores, pairs, f"exact scores, round {number}")

    def _bound(self, bounds: ScoreFile, scorer: LateFusionScorer, *, words: int) -> None:
        evaluation = self._evaluation
        images = torch.stack([scorer.image(evaluation.features[self._rows[[n]]][0]) for n in range(len(self._rows))])
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
        evaluation, scorer = self._evaluation, self._pairs
        images = np.flatnonzero(pairs.any(axis=1)).tolist()

        def work(row: int) -> tuple[int, np.ndarray]:
            chosen = None if pairs[row].all() else np.flatnonzero(pairs[row])
            scored = scorer.score(int(self._rows[row]), chosen, check=evaluation.check_stop)
            return row, scored.astype(np.float32)

        with Progress(f"retrieval, {label}", int(pairs.sum()), unit="pairs") as progress:
            try:
                for row, values in in_order(work, images, threads=evaluation.threads, device=scorer.device):
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

    def _seconds(self) -> float:
        """What scoring every pair that is missing would take, from a sample of the sentences."""
        pairs, image = self._pairs, int(self._rows[0])
        sample = np.arange(min(SAMPLE, self._exact.values.shape[1]))
        threads = 1
        if pairs.device.type == "cpu":  # as `in_order` works: every image by one thread
            threads, before = self._evaluation.threads, torch.get_num_threads()
            torch.set_num_threads(1)
        pairs.score(image, sample)
        start = perf_counter()
        pairs.score(image, sample)
        each = (perf_counter() - start) / pairs.work(sample)
        if pairs.device.type == "cpu":
            torch.set_num_threads(before)
        missing = float(np.isnan(self._exact.values).mean()) * len(self._rows)
        return each * pairs.work() * missing / threads


def refuse_nan(values: np.ndarray) -> np.ndarray:
    """The values as they are. Raises EvaluationError if one is not a number."""
    if np.isnan(values).any():
        raise EvaluationError("a score is not a number: the checkpoint's weights or the cache's features are damaged")
    return values


def duration(seconds: float) -> str:
    """Seconds in words a person reads at once."""
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} minutes"

"""The computation of retrieval: bounds and exact scores of a pool, kept in files so that it can be stopped and resumed.

The default is the pruned pass: every pair gets an upper bound (mrnn.evaluate.retrieval.bounds), and only pairs that can
still change a rank or a list of best answers are scored exactly (mrnn.evaluate.retrieval.pruning). The full pass scores
every pair. Both give the same ranks and lists, since an exact score does not depend on which others are computed
(LateFusionScorer).

Memory in addition to scorer and bounds: three float32 matrices of (images + images of P(w)) x sentences, two of them
mapped from files, and about 30 bytes for each pair of ranking.CHUNK queries and their candidates.
"""

from itertools import count
from time import perf_counter
from typing import Any

import numpy as np
import torch

from mrnn.data.errors import EvaluationError
from mrnn.data.progress import Progress
from mrnn.evaluate.parts import ScoreFile
from mrnn.evaluate.retrieval.bounds import blocks
from mrnn.evaluate.retrieval.pair_scorer import Bounder, PairScorer, in_order
from mrnn.evaluate.retrieval.pruning import wanted
from mrnn.evaluate.retrieval.scores import Scores
from mrnn.evaluate.retrieval.two_towers import IMAGES, TowerPairs, standardise_images
from mrnn.evaluate.settings import RetrievalConfig
from mrnn.evaluate.stages import Evaluation

SAMPLE = 100  # number of sentences from which the time of all pairs is estimated
USUAL_SHARE = 0.15  # fraction of the pairs that is usually scored exactly; used only to estimate the time


class PairScoring:
    """Scores all sentences of `pairs` under the images `rows` of the cache, as far as they are needed."""

    def __init__(self, evaluation: Evaluation, pairs: PairScorer, rows: np.ndarray, exact: ScoreFile) -> None:
        """
        evaluation : model, cache and options of the evaluation.
        pairs : scorer of the sentences.
        rows : (n,) int, numbers of the images, as `pairs` counts them.
        exact : (n, sentences), the scores computed so far; NaN elsewhere.
        """
        self._evaluation, self._pairs, self._rows, self._exact = evaluation, pairs, rows, exact

    def complete(self, scores: Scores, config: RetrievalConfig, *, name: str, settings: dict[str, Any]) -> None:
        """Score what is missing: every pair, or those that matter where there are bounds that save time.

        name, settings : of the pool, which the file of bounds is kept by.
        """
        if scores.known.all():
            return
        words = config.bound_words
        bounder = None if config.full_pass else self._pairs.bounder(self._rows, words=words)
        if bounder is None:
            self.score_all(scores)
            return
        shape = self._exact.values.shape[::-1]
        bounds = ScoreFile(self._evaluation.parts, f"bounds-{name}", {**settings, "words": words}, shape)
        self.prune(scores, bounds, bounder)

    def score_all(self, scores: Scores) -> None:
        """Score every pair (the full pass)."""
        if isinstance(self._pairs, TowerPairs):
            self._score_blocks(scores, self._pairs)
            return
        self._evaluation.report(f"scoring every pair: about {duration(self._seconds())}")
        self._score(scores, ~scores.known, "scores")

    def prune(self, scores: Scores, bounds: ScoreFile, bounder: Bounder) -> None:
        """Compute bounds, then score the pairs that matter (the pruned pass).

        scores : known scores and upper bounds; `upper` is replaced by a matrix with bounds everywhere.
        bounds : (sentences, rows), filled by this method.
        bounder : of all rows.
        """
        full = self._seconds()
        share = min(1.0, bounder.share * 1.5 + USUAL_SHARE)
        self._evaluation.report(
            f"bounds, then exact scores where they matter: about {duration(share * full)} "
            f"(scoring every pair: {duration(full)})"
        )
        self._bound(bounds, bounder)
        scores.upper = np.where(scores.known, scores.upper, bounds.values.T)
        for number in count(1):
            pairs = wanted(scores)
            scores.course.append(scores.state())
            if not pairs.any():
                return
            self._score(scores, pairs, f"exact scores, round {number}")

    def _bound(self, bounds: ScoreFile, bounder: Bounder) -> None:
        evaluation = self._evaluation
        done = ~np.isnan(bounds.values).any(axis=1)
        todo = [block for block in blocks(len(done), len(self._rows)) if not done[block].all()]
        left = sum(map(len, todo))

        def work(block: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            return block, bounder.bounds(block, check=evaluation.check_stop)

        with Progress("retrieval, bounds", len(done), unit="sentences", done=len(done) - left) as progress:
            try:
                for block, values in in_order(work, todo, threads=evaluation.threads, device=self._pairs.device):
                    bounds.values[block] = refuse_nan(values)
                    bounds.mark()
                    progress.add(len(block))
            finally:
                bounds.mark(now=True)

    def _score(self, scores: Scores, pairs: np.ndarray, label: str) -> None:
        """Score the pairs selected by `pairs`, (rows, sentences) bool, exactly."""
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
                    # A guard for the argument of `bounds.word_margin`: a wrong bound would give wrong ranks silently.
                    if (found > scores.upper[row, chosen]).any():
                        raise EvaluationError(
                            "a score is above its bound, which rounding cannot explain; use --full-pass"
                        )
                    self._exact.values[row, chosen] = scores.upper[row, chosen] = found
                    scores.known[row, chosen] = True
                    self._exact.mark()
                    progress.add(len(found))
            finally:
                self._exact.mark(now=True)

    def _score_blocks(self, scores: Scores, pairs: TowerPairs) -> None:
        """Score the images that are not finished, many at a time."""
        every, missing = len(scores.known), np.flatnonzero(~scores.known.all(axis=1))
        with Progress("retrieval, scores", every, unit="images", done=every - len(missing)) as progress:
            try:
                for start in range(0, len(missing), IMAGES):
                    rows = missing[start : start + IMAGES]
                    found = refuse_nan(pairs.score_images(self._rows[rows], check=self._evaluation.check_stop))
                    self._exact.values[rows] = scores.upper[rows] = found
                    scores.known[rows] = True
                    self._exact.mark()
                    progress.add(len(rows))
            finally:
                self._exact.mark(now=True)

    def standardise(self, scores: Scores, table: ScoreFile, training: PairScorer, *, local: bool) -> None:
        """Standardise the scores of a model of two towers by image (mrnn.evaluate.retrieval.two_towers).

        table : (rows, 2), filled by this method. training : the scorer of the training sentences. local : whether with
        local scaling.
        """
        assert isinstance(training, TowerPairs)

        def score(rows: np.ndarray) -> np.ndarray:
            return refuse_nan(training.score_images(self._rows[rows], check=self._evaluation.check_stop))

        every = len(table.values)
        left = int(np.isnan(table.values).any(axis=1).sum())
        with Progress("retrieval, standardising", every, unit="images", done=every - left) as progress:
            try:
                for done in standardise_images(scores, table.values, score, local=local):
                    table.mark()
                    progress.add(done)
            finally:
                table.mark(now=True)

    def _seconds(self) -> float:
        """Estimated seconds for scoring every missing pair, from a sample of the sentences."""
        pairs, image = self._pairs, int(self._rows[0])
        sample = np.arange(min(SAMPLE, self._exact.values.shape[1]))
        threads = 1
        if pairs.device.type == "cpu":  # as in `in_order`: each image is scored by one thread
            threads, before = self._evaluation.threads, torch.get_num_threads()
            torch.set_num_threads(1)
        pairs.score(image, sample)  # untimed: the first call builds kernels and touches memory
        start = perf_counter()
        pairs.score(image, sample)
        each = (perf_counter() - start) / pairs.work(sample)
        if pairs.device.type == "cpu":
            torch.set_num_threads(before)
        missing = float(np.isnan(self._exact.values).mean()) * len(self._rows)
        return each * pairs.work() * missing / threads


def refuse_nan(values: np.ndarray) -> np.ndarray:
    """The values unchanged. Raises EvaluationError if one is NaN."""
    if np.isnan(values).any():
        raise EvaluationError("a score is not a number: the checkpoint's weights or the cache's features are damaged")
    return values


def duration(seconds: float) -> str:
    """A number of seconds as text, in minutes if it is long."""
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} minutes"

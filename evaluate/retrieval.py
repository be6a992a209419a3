"""log P(w | I) of every sentence under every image, exactly.

    log P(w | I) = sum over t of  o_t . m + b_t - log sum_v exp(o_v . m + b_v),     m = g(A + V_I I)

A = V_w w + V_r r is the language half: one row for each node of the prefix tree (mrnn.evaluate.prefix_tree), computed
once. What is left for a pair is a matrix product of (nodes x images, M) with (M, V), by far the largest cost, and an
exp for each of its elements. So the work goes image by image through tiles of `rows` nodes and `columns` words: a tile
of logits is made, exponentiated and summed while it lies in the processor's cache, and never leaves it. Constants are
folded away beforehand: 2/3 of g (doubled, as tanh x is taken as 2 sigmoid(2x) - 1, five times as fast in torch) into A
and V_I I, 1.7159 into O, and exp(b) into the weights of the row sum,

    sum_v exp(o_v . m) exp(b_v),

which makes the bias free. The sum is taken without subtracting the maximum first. Where that leaves the range of
float32 (checked on every row: the sum is not finite, or so small that its largest terms were rounded) the row is done
again with the maximum subtracted, so the shortcut never shows in the result.

Memory: N x M float32 for the tree (82 MB for the Flickr8k test sentences), one row of scores, and a tile per thread.
Rounding: scores near 100 agree within 1e-3 with float64, whatever the tile; the tests hold it to that.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mrnn.evaluate.prefix_tree import PrefixTree
from mrnn.train.models.mrnn import MRNN
from mrnn.train.products import product

SMALLEST_SUM = 1e-25  # float32 rounds terms below 1e-38 to multiples of 1e-45; here they are 1e-13 of the sum at most


@dataclass(frozen=True)
class Tiles:
    """How much is worked on at once; it changes the speed, not the result beyond rounding.

    rows : nodes. columns : words of the vocabulary. 512 x 512 logits are 1 MB: they fit the second-level cache of one
    core. On an accelerator larger tiles are better; see `for_device`.
    """

    rows: int = 512
    columns: int = 512

    def __post_init__(self) -> None:
        if self.rows < 1 or self.columns < 1:
            raise ValueError(f"a tile has at least one row and one column, not {self.rows} x {self.columns}")

    @classmethod
    def for_device(cls, device: torch.device) -> "Tiles":
        """Small tiles for a processor's cache, large ones to fill an accelerator."""
        return cls() if device.type == "cpu" else cls(rows=16384, columns=4096)


class RetrievalScorer:
    """Scores of all sentences of a prefix tree under one image at a time. Threads may share it."""

    @torch.inference_mode()
    def __init__(self, model: MRNN, tree: PrefixTree, *, tiles: Tiles | None = None) -> None:
        """model : in eval mode, on the device to compute on. Raises ValueError in training mode."""
        if model.training:
            raise ValueError("retrieval needs the model in eval mode: dropout would change the scores")
        self.tree = tree
        self.device = model.output.weight.device
        self.tiles = tiles or Tiles.for_device(self.device)
        self._model = model
        self._language = language_half(model, tree) * (4 / 3)
        self._output = 1.7159 * model.output.weight
        self._bias = model.output.bias
        self._blocks = self._output.split(self.tiles.columns)
        self._bias_exps = self._bias.exp().split(self.tiles.columns)
        self._edge_bias = self._bias[torch.from_numpy(tree.edge_targets).to(self.device)]
        self._edge_nodes = torch.from_numpy(tree.edge_nodes).to(self.device)
        self._targets = self._sort_targets()

    @torch.inference_mode()
    def score(self, feature: Tensor) -> np.ndarray:
        """log P(w | I), natural, END counted, of every sentence: (D,) feature of the image -> (S,) float64."""
        image = self._model.image(feature.to(self._bias)) * (4 / 3)
        log_totals = self._bias.new_zeros(len(self._language))
        edge_logits = self._edge_bias.clone()
        buffer = torch.empty_like(self._language[: self.tiles.rows])
        starts = range(0, len(self._language), self.tiles.rows)
        for start, targets in zip(starts, self._targets, strict=True):
            language = self._language[start : start + self.tiles.rows]
            total = log_totals[start : start + self.tiles.rows]
            multimodal = torch.add(language, image, out=buffer[: len(language)]).sigmoid_().mul_(2).sub_(1)
            for block, bias_exp, (edges, places) in zip(self._blocks, self._bias_exps, targets, strict=True):
                logits = product(multimodal, block)
                edge_logits[edges] += logits.take(places)
                total.addmv_(logits.exp_(), bias_exp)
            wrong = ~((total > SMALLEST_SUM) & (total < torch.inf))
            total.log_()
            if wrong.any():
                total[wrong] = self._safe_log_total(multimodal[wrong])
        edge_log_probs = edge_logits.sub_(log_totals[self._edge_nodes])
        return self.tree.sentence_sums(edge_log_probs.cpu().numpy())

    def _safe_log_total(self, multimodal: Tensor) -> Tensor:
        """log sum exp of whole rows of logits, for any logits: (n, M) -> (n,)."""
        pieces = multimodal.split(64)
        return torch.cat([torch.addmm(self._bias, rows, self._output.T).logsumexp(1) for rows in pieces])

    def _sort_targets(self) -> list[list[tuple[Tensor, Tensor]]]:
        """The edges whose target lies in each tile, and where in it: [row tile][column tile] -> (edges, places)."""
        tiles = []
        for start in range(0, len(self.tree.node_words), self.tiles.rows):
            first, last = np.searchsorted(self.tree.edge_nodes, (start, start + self.tiles.rows))
            rows = self.tree.edge_nodes[first:last] - start
            numbers, columns = np.divmod(self.tree.edge_targets[first:last], self.tiles.columns)
            row_of_tiles = []
            for number, block in enumerate(self._blocks):
                inside = np.flatnonzero(numbers == number)
                places = rows[inside] * len(block) + columns[inside]
                row_of_tiles.append(
                    (torch.from_numpy(first + inside).to(self.device), torch.from_numpy(places).to(self.device))
                )
            tiles.append(row_of_tiles)
        return tiles


@torch.inference_mode()
def language_half(model: MRNN, tree: PrefixTree) -> Tensor:
    """A = V_w w + V_r r of every node of the tree, level by level: (N, M)."""
    device = model.output.weight.device
    words = torch.from_numpy(tree.node_words).to(device)
    parents = torch.from_numpy(tree.node_parents).to(device)
    language, before, first_before = [], model.output.weight.new_zeros(1, model.config.recurrent), -1
    for start, stop in zip(tree.node_levels[:-1].tolist(), tree.node_levels[1:].tolist(), strict=True):
        word = model.words(words[start:stop])
        before = model.recur(word, before[parents[start:stop] - first_before])
        language.append(model.language(word, before))
        first_before = start
    return torch.cat(language)


def score_images(scorer: RetrievalScorer, features: Iterable[Tensor], *, threads: int = 1) -> Iterator[np.ndarray]:
    """Scores of one image after the other, in order: (D,) features of each -> (S,) float64 of each.

    On a processor `threads` images are worked on at a time, each by one thread, so the scores do not depend on their
    number. torch's own threads are set to one meanwhile. On an accelerator `threads` has no meaning.
    """
    if scorer.device.type != "cpu":
        yield from map(scorer.score, features)
        return
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    waiting: deque[Future[np.ndarray]] = deque()
    pool = ThreadPoolExecutor(threads)
    try:
        for feature in features:
            waiting.append(pool.submit(scorer.score, feature))
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

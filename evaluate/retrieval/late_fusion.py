"""log P(w | I) of every sentence under every image, exactly.

    log P(w | I) = sum over t of  o_t . m + b_t - log sum_v exp(o_v . m + b_v),     m = g(A + V_I I)

A = V_w w + V_r r is the language half: one row per node of the prefix tree (mrnn.evaluate.retrieval.prefix_tree),
computed once. What remains is a matrix product of (nodes x images, M) with (M, V), by far the largest cost, and an exp
of each of its elements. So the images are processed one by one, in tiles of `rows` nodes and `columns` words: a tile of
logits is computed, exponentiated and summed while it is in the CPU's cache, and is never written to memory. Constants
are folded in beforehand: 2/3 of g into A and V_I I (doubled, since tanh x is computed as 2 sigmoid(2x) - 1, five times
as fast in torch), 1.7159 into O, and exp(b) into the weights of the row sum,

    sum_v exp(o_v . m) exp(b_v),

which makes the bias free. The maximum is not subtracted before the sum is taken. Every row is checked: if its sum is
not finite, or so small that its largest terms were rounded, it left the range of float32 and is computed again with the
maximum subtracted. So the shortcut does not affect the result.

Memory: N x M float32 for the tree (82 MB for the Flickr8k test sentences), one row of scores, and a tile per thread.
Rounding: scores near 100 agree with float64 within 1e-3 for any tile size; the tests check this.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mrnn.evaluate.retrieval.prefix_tree import PrefixTree
from mrnn.train.models.captioner import LateFusion
from mrnn.train.products import product

# float32 rounds terms below 1e-38 to multiples of 1e-45; in a sum above this, such terms are at most 1e-13 of it.
SMALLEST_SUM = 1e-25


@dataclass(frozen=True)
class Tiles:
    """Size of the tiles of logits; it affects the speed, and the result by rounding only.

    rows : nodes per tile.
    columns : words of the vocabulary per tile.
    """

    # 256 x 512 logits are half a megabyte, which fits the second-level cache of one core.

    rows: int = 256
    columns: int = 512

    def __post_init__(self) -> None:
        if self.rows < 1 or self.columns < 1:
            raise ValueError(f"a tile has at least one row and one column, not {self.rows} x {self.columns}")

    @classmethod
    def for_device(cls, device: torch.device) -> "Tiles":
        """Small tiles, which fit the cache of a CPU, or large ones, which keep an accelerator busy."""
        return cls() if device.type == "cpu" else cls(rows=16384, columns=4096)


class LateFusionScorer:
    """Scores of the sentences of a prefix tree under one image at a time. Threads may share it.

    Every tile is full (the last one is padded with node 0), so that products always have the same shape and a row of
    the result does not depend on the other rows. So a score is equal bit for bit whether a sentence is scored alone or
    with all others, on which the pruned pass relies; `is_stable` checks this for the installed library.
    """

    @torch.inference_mode()
    def __init__(self, model: LateFusion, tree: PrefixTree, *, tiles: Tiles | None = None) -> None:
        """
        model : the model in eval mode, on the device to compute on.
        tree : prefix tree of the sentences.
        tiles : size of the tiles; by default it depends on the device.

        Raises ValueError in training mode.
        """
        if model.training:
            raise ValueError("retrieval needs the model in eval mode: dropout would change the scores")
        self.tree = tree
        self.device = model.output.weight.device
        self.tiles = tiles or Tiles.for_device(self.device)
        self._factor = 2 * model.fusion.inner  # doubled for tanh(x / 2) in `activate`
        self.language = language_half(model, tree) * self._factor
        self.output = model.fusion.outer * model.output.weight
        self.bias = model.output.bias
        self._model = model
        self._blocks = self.output.split(self.tiles.columns)
        self._bias_exps = [piece[None] for piece in self.bias.exp().split(self.tiles.columns)]
        self._everything = self._plan(np.arange(len(tree.edge_nodes)))

    @torch.inference_mode()
    def image(self, feature: Tensor) -> Tensor:
        """V_I I of one image, multiplied by the inner factor of g as the scores need it: (D,) -> (M,)."""
        return self._model.image(feature.to(self.bias)) * self._factor

    @torch.inference_mode()
    def score(
        self, feature: Tensor, sentences: np.ndarray | None = None, *, check: Callable[[], None] | None = None
    ) -> np.ndarray:
        """Natural log P(w | I) of every sentence, END counted.

        feature : (D,), stored feature of the image.
        sentences : numbers of the sentences to score, all by default; the scores of the others are NaN.
        check : called for every tile; an exception that it raises ends the computation.

        Returns (S,) float64.
        """
        plan = self._everything if sentences is None else self._plan(self.tree.paths(sentences))
        image = self.image(feature)
        rows, blocks = self.tiles.rows, len(self._blocks)
        log_totals = self.bias.new_zeros(len(plan.nodes))
        edge_logits = self.bias.new_empty(len(plan.edges))
        buffer = torch.empty_like(self.language[:1].expand(rows, -1))
        for tile, start in enumerate(range(0, len(plan.nodes), rows)):
            if check is not None:
                check()
            total = log_totals[start : start + rows]
            torch.index_select(self.language, 0, plan.nodes[start : start + rows], out=buffer)
            multimodal = activate(buffer.add_(image))
            for number, (block, bias_exp) in enumerate(zip(self._blocks, self._bias_exps, strict=True)):
                logits = product(multimodal, block)
                first, last = plan.cuts[tile * blocks + number : tile * blocks + number + 2]
                # The targets' logits are read before exp_ overwrites the tile.
                if first < last:
                    edge_logits[plan.order[first:last]] = logits.take(plan.places[first:last])
                # Not by addmv: MKL's result for a row depends on the position of the row in the tile.
                total.add_(product(logits.exp_(), bias_exp)[:, 0])
            # Subtracting the maximum would take a second pass over every tile. It is rarely needed, and these checks
            # find the rows that need it: overflow gives inf or NaN, and underflow that matters a tiny sum.
            fine = (total > SMALLEST_SUM) & (total < torch.inf)
            total.log_()
            if not fine.all():
                total.copy_(torch.where(fine, total, self._safe_log_total(multimodal)))
        edge_log_probs = edge_logits.add_(self.bias[plan.targets]).sub_(log_totals[plan.rows])
        values = np.full(len(self.tree.edge_nodes), np.nan)
        values[plan.edges] = edge_log_probs.cpu().numpy()
        return self.tree.sentence_sums(values)

    def work(self, sentences: np.ndarray | None = None) -> int:
        """Number of tiles that some sentences need, all by default; every tile takes equally long."""
        edges = slice(None) if sentences is None else self.tree.paths(sentences)
        return -(-len(np.unique(self.tree.edge_nodes[edges])) // self.tiles.rows)

    @torch.inference_mode()
    def is_stable(self) -> bool:
        """Whether the rows of a tile are equal bit for bit in any order, tried on one tile by both ways of summing."""
        # With an odd number of rows they are not: torch computes the last few elements of a vector by other functions.
        order = torch.randperm(self.tiles.rows, generator=torch.Generator().manual_seed(0)).to(self.device)
        nodes = torch.arange(self.tiles.rows, device=self.device) % len(self.language)

        def tried(rows: Tensor) -> list[Tensor]:
            multimodal = activate(self.language[rows])
            logits = [product(multimodal, block) for block in self._blocks]
            sums = [product(part.exp(), exps)[:, 0].log() for part, exps in zip(logits, self._bias_exps, strict=True)]
            return [*logits, *sums, self._safe_log_total(multimodal)]

        return all(torch.equal(one[order], two) for one, two in zip(tried(nodes), tried(nodes[order]), strict=True))

    def _safe_log_total(self, multimodal: Tensor) -> Tensor:
        """log sum exp of whole rows of logits of any size: (n, M) -> (n,)."""
        # In pieces of 64 rows, since whole rows of logits are wider than a tile.
        pieces = multimodal.split(64)
        return torch.cat([product(rows, self.output, self.bias).logsumexp(1) for rows in pieces])

    def _plan(self, edges: np.ndarray) -> "Plan":
        """The plan for scoring these edges, given in increasing order."""
        nodes, rows = np.unique(self.tree.edge_nodes[edges], return_inverse=True)
        targets = self.tree.edge_targets[edges]
        number, column = np.divmod(targets, self.tiles.columns)
        tile, row = np.divmod(rows, self.tiles.rows)
        place = tile * len(self._blocks) + number
        widths = np.array([len(block) for block in self._blocks])
        order = np.argsort(place, kind="stable")
        tiles = -(-len(nodes) // self.tiles.rows)
        cuts = np.searchsorted(place[order], np.arange(tiles * len(self._blocks) + 1))
        padded = np.zeros(tiles * self.tiles.rows, dtype=np.int64)
        padded[: len(nodes)] = nodes

        def on_device(numbers: np.ndarray) -> Tensor:
            return torch.from_numpy(numbers).to(self.device)

        return Plan(
            edges,
            nodes=on_device(padded),
            rows=on_device(rows),
            targets=on_device(targets),
            order=on_device(order),
            places=on_device((row * widths[number] + column)[order]),
            cuts=cuts.tolist(),
        )


@dataclass(frozen=True)
class Plan:
    """Which nodes each tile contains, and where in the logits of the tiles the targets of the edges are.

    edges : (e,) int, edges to score, numbers in the tree.
    nodes : (n,) int64, their nodes, padded to a whole number of tiles.
    rows : (e,) int64, row of each edge's node in `nodes`.
    targets : (e,) int64, word to predict at each edge.
    order : (e,) int64, the edges sorted by tile and block of columns.
    places : (e,) int64, position of each of these in the flattened logits of its block.
    cuts : start of each block of each tile within `order`; the last entry is e.
    """

    edges: np.ndarray
    nodes: Tensor
    rows: Tensor
    targets: Tensor
    order: Tensor
    places: Tensor
    cuts: list[int]


def activate(inputs: Tensor) -> Tensor:
    """tanh(x / 2), in place. Five times as fast as torch's tanh."""
    return inputs.sigmoid_().mul_(2).sub_(1)


@torch.inference_mode()
def language_half(model: LateFusion, tree: PrefixTree) -> Tensor:
    """A = V_w w + V_r r of every node of the tree: (N, M)."""
    # Level by level, so that each step is one batched product and only the memory of the level before is kept.
    device = model.output.weight.device
    words = torch.from_numpy(tree.node_words).to(device)
    parents = torch.from_numpy(tree.node_parents).to(device)
    language, memory, first_before = [], model.output.weight.new_zeros(1, model.memory_size), -1
    for start, stop in zip(tree.node_levels[:-1].tolist(), tree.node_levels[1:].tolist(), strict=True):
        part, memory = model.language(words[start:stop], memory[parents[start:stop] - first_before])
        language.append(part)
        first_before = start
    return torch.cat(language)

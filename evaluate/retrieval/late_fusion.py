"""log P(w | I) of every sentence under every image, exactly.

    log P(w | I) = sum over t of  o_t . m + b_t - log sum_v exp(o_v . m + b_v),     m = g(A + V_I I)

A = V_w w + V_r r is the language half: one row for each node of the prefix tree (mrnn.evaluate.retrieval.prefix_tree),
computed once. What is left for a pair is a matrix product of (nodes x images, M) with (M, V), by far the largest cost,
and an exp for each of its elements. So the work goes image by image through tiles of `rows` nodes and `columns` words:
a tile of logits is made, exponentiated and summed while it lies in the processor's cache, and never leaves it.
Constants are folded away beforehand: 2/3 of g (doubled, as tanh x is taken as 2 sigmoid(2x) - 1, five times as fast in
torch) into A and V_I I, 1.7159 into O, and exp(b) into the weights of the row sum,

    sum_v exp(o_v . m) exp(b_v),

which makes the bias free. The sum is taken without subtracting the maximum first. Where that leaves the range of
float32 (checked on every row: the sum is not finite, or so small that its largest terms were rounded) the row is done
again with the maximum subtracted, so the shortcut never shows in the result.

Memory: N x M float32 for the tree (82 MB for the Flickr8k test sentences), one row of scores, and a tile per thread.
Rounding: scores near 100 agree within 1e-3 with float64, whatever the tile; the tests hold it to that.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mrnn.evaluate.retrieval.prefix_tree import PrefixTree
from mrnn.train.models.captioner import LateFusion
from mrnn.train.products import product

SMALLEST_SUM = 1e-25  # float32 rounds terms below 1e-38 to multiples of 1e-45; here they are 1e-13 of the sum at most


@dataclass(frozen=True)
class Tiles:
    """How much is worked on at once; it changes the speed, not the result beyond rounding.

    rows : nodes. columns : words of the vocabulary. 256 x 512 logits are half a megabyte: they fit the second-level
    cache of one core. On an accelerator larger tiles are better; see `for_device`.
    """

    rows: int = 256
    columns: int = 512

    def __post_init__(self) -> None:
        if self.rows < 1 or self.columns < 1:
            raise ValueError(f"a tile has at least one row and one column, not {self.rows} x {self.columns}")

    @classmethod
    def for_device(cls, device: torch.device) -> "Tiles":
        """Small tiles for a processor's cache, large ones to fill an accelerator."""
        return cls() if device.type == "cpu" else cls(rows=16384, columns=4096)


class LateFusionScorer:
    """Scores of the sentences of a prefix tree under one image at a time. Threads may share it.

    Every tile is full (the last one is filled up with node 0), so a product always has the same shape, and a row of it
    does not depend on what the other rows are. So some sentences scored by themselves get the very bits that they get
    among all; `is_stable` looks whether that holds for the library at hand.
    """

    @torch.inference_mode()
    def __init__(self, model: LateFusion, tree: PrefixTree, *, tiles: Tiles | None = None) -> None:
        """model : in eval mode, on the device to compute on. Raises ValueError in training mode."""
        if model.training:
            raise ValueError("retrieval needs the model in eval mode: dropout would change the scores")
        self.tree = tree
        self.device = model.output.weight.device
        self.tiles = tiles or Tiles.for_device(self.device)
        self._factor = 2 * model.fusion.inner
        self.language = language_half(model, tree) * self._factor
        self.output = model.fusion.outer * model.output.weight
        self.bias = model.output.bias
        self._model = model
        self._blocks = self.output.split(self.tiles.columns)
        self._bias_exps = [piece[None] for piece in self.bias.exp().split(self.tiles.columns)]
        self._everything = self._plan(np.arange(len(tree.edge_nodes)))

    @torch.inference_mode()
    def image(self, feature: Tensor) -> Tensor:
        """V_I I of one image as the scores use it, with the factor of g in it: (D,) -> (M,)."""
        return self._model.image(feature.to(self.bias)) * self._factor

    @torch.inference_mode()
    def score(
        self, feature: Tensor, sentences: np.ndarray | None = None, *, check: Callable[[], None] | None = None
    ) -> np.ndarray:
        """log P(w | I), natural, END counted, of every sentence: (D,) feature of the image -> (S,) float64.

        sentences : numbers of the ones wanted; what is returned for the others is not a number. check : called for
        every tile; what it raises ends the work.
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
                if first < last:
                    edge_logits[plan.order[first:last]] = logits.take(plan.places[first:last])
                # not by addmv: what MKL makes of a row depends on the row's place
                total.add_(product(logits.exp_(), bias_exp)[:, 0])
            fine = (total > SMALLEST_SUM) & (total < torch.inf)
            total.log_()
            if not fine.all():
                total.copy_(torch.where(fine, total, self._safe_log_total(multimodal)))
        edge_log_probs = edge_logits.add_(self.bias[plan.targets]).sub_(log_totals[plan.rows])
        values = np.full(len(self.tree.edge_nodes), np.nan)
        values[plan.edges] = edge_log_probs.cpu().numpy()
        return self.tree.sentence_sums(values)

    def work(self, sentences: np.ndarray | None = None) -> int:
        """How much there is to do for some sentences, all by default, in units that take equally long: tiles."""
        edges = slice(None) if sentences is None else self.tree.paths(sentences)
        return -(-len(np.unique(self.tree.edge_nodes[edges])) // self.tiles.rows)

    @torch.inference_mode()
    def is_stable(self) -> bool:
        """Whether the rows of a tile get the same bits in another order: tried on one, by both ways of summing.

        They do not with an odd number of rows: torch takes the last few elements of a vector by other functions.
        """
        order = torch.randperm(self.tiles.rows, generator=torch.Generator().manual_seed(0)).to(self.device)
        nodes = torch.arange(self.tiles.rows, device=self.device) % len(self.language)

        def tried(rows: Tensor) -> list[Tensor]:
            multimodal = activate(self.language[rows])
            logits = [product(multimodal, block) for block in self._blocks]
            sums = [product(part.exp(), exps)[:, 0].log() for part, exps in zip(logits, self._bias_exps, strict=True)]
            return [*logits, *sums, self._safe_log_total(multimodal)]

        return all(torch.equal(one[order], two) for one, two in zip(tried(nodes), tried(nodes[order]), strict=True))

    def _safe_log_total(self, multimodal: Tensor) -> Tensor:
        """log sum exp of whole rows of logits, for any logits: (n, M) -> (n,)."""
        pieces = multimodal.split(64)
        return torch.cat([product(rows, self.output, self.bias).logsumexp(1) for rows in pieces])

    def _plan(self, edges: np.ndarray) -> "Plan":
        """How to score these edges, given rising."""
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
    """Which nodes go into which tiles, and where in the logits of the tiles the edges find their targets.

    edges : (e,) numbers in the tree. nodes : (n,), n a whole number of tiles. rows : (e,) into nodes. targets : (e,).
    order, places : (e,) the edges by tile and block of columns, and the place of each in the logits of its block.
    cuts : where in `order` each block of each tile begins; the last is e.
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
    """A = V_w w + V_r r of every node of the tree, level by level: (N, M)."""
    device = model.output.weight.device
    words = torch.from_numpy(tree.node_words).to(device)
    parents = torch.from_numpy(tree.node_parents).to(device)
    language, memory, first_before = [], model.output.weight.new_zeros(1, model.memory_size), -1
    for start, stop in zip(tree.node_levels[:-1].tolist(), tree.node_levels[1:].tolist(), strict=True):
        part, memory = model.language(words[start:stop], memory[parents[start:stop] - first_before])
        language.append(part)
        first_before = start
    return torch.cat(language)

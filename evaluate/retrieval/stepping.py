"""log P(w | I) of every sentence under an image for any captioner, by the whole recurrence for each image.

A model whose states depend on the image, such as the DVSA generator, has no language half to compute once. Common
prefixes are still read once per image: the computation follows the prefix tree, level by level.
"""

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from mrnn.evaluate.retrieval.prefix_tree import PrefixTree
from mrnn.train.models.captioner import Captioner, State, select
from mrnn.train.products import product

ROWS = 1024  # nodes whose logits are held at a time: 10 MB at V = 2,538


class SteppingScorer:
    """Scores of the sentences of a prefix tree under one image at a time. Threads may share it."""

    def __init__(self, model: Captioner, tree: PrefixTree) -> None:
        """
        model : the model in eval mode, on the device to compute on.
        tree : prefix tree of the sentences.

        Raises ValueError in training mode.
        """
        if model.training:
            raise ValueError("retrieval needs the model in eval mode: dropout would change the scores")
        self.tree, self.device = tree, model.output.weight.device
        self._model = model

    def work(self, sentences: np.ndarray | None = None) -> int:
        """Number of nodes of the tree that some sentences need, all by default."""
        edges = slice(None) if sentences is None else self.tree.paths(sentences)
        return len(np.unique(self.tree.edge_nodes[edges]))

    @torch.inference_mode()
    def score(
        self, feature: Tensor, sentences: np.ndarray | None = None, *, check: Callable[[], None] | None = None
    ) -> np.ndarray:
        """Natural log P(w | I) of every sentence, END counted.

        feature : (D,), stored feature of the image.
        sentences : numbers of the sentences to score, all by default; the scores of the others are NaN.
        check : called for every level of the tree; an exception that it raises ends the computation.

        Returns (S,) float64.
        """
        tree, model = self.tree, self._model
        edges = np.arange(len(tree.edge_nodes)) if sentences is None else tree.paths(sentences)
        nodes, first_edge = np.unique(tree.edge_nodes[edges], return_index=True)
        last_edge = np.append(first_edge[1:], len(edges))
        values = np.full(len(tree.edge_nodes), np.nan)
        state: State = model.start(feature.to(model.output.weight)[None])
        parents = np.zeros(1, dtype=np.int64)
        levels = np.searchsorted(nodes, tree.node_levels)
        for begin, end in pairwise(levels):
            if begin == end:
                break
            if check is not None:
                check()
            level = nodes[begin:end]
            # The rows of the state are the wanted nodes of the level before; each node continues its parent's row.
            before = np.searchsorted(parents, tree.node_parents[level].clip(min=0)) if begin else np.zeros(1, np.int64)
            words = torch.from_numpy(tree.node_words[level]).to(self.device)
            hidden, state = model.step(words, select(state, torch.from_numpy(before).to(self.device)))
            for start in range(0, len(level), ROWS):
                rows = slice(begin + start, min(begin + start + ROWS, end))
                of_rows = edges[first_edge[rows.start] : last_edge[rows.stop - 1]]
                place = np.searchsorted(level[start : start + ROWS], tree.edge_nodes[of_rows])
                logits = product(hidden[start : start + ROWS], model.output.weight, model.output.bias)
                row, target = (torch.from_numpy(n).to(self.device) for n in (place, tree.edge_targets[of_rows]))
                values[of_rows] = (logits[row, target] - logits.logsumexp(1)[row]).double().cpu().numpy()
            parents = level
        return tree.sentence_sums(values)

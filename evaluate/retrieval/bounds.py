"""Upper bounds of log P(w | I), at a small part of what the exact scores cost.

The cost of a score is its normalisers, log Z = log sum_v exp(l_v) with l_v = o_v . m + b_v over the whole vocabulary. A
sum over some of the words is less than the whole, so a target's logit minus its logarithm is more than log p. For each
node of the prefix tree we keep the K words most likely under a reference image (V_I I averaged over the images at
hand), the node's own target words always among them. The rest is not dropped but becomes one word more: by Jensen's
inequality, for any weights q_v that sum to one over the rest,

    sum_rest exp(l_v) >= exp( sum_rest q_v (l_v - log q_v) ) = exp( (sum_rest q_v o_v) . m + c ),

a word with the output vector sum q_v o_v. With q_v = the rest's own softmax under the reference image the two sides
are equal there, and it is the tangent of a convex function everywhere else. On Flickr8k, with 128 words, this takes the
mean gap from 0.078 to 0.055 nats a word (dev, node by node); it costs one column.

So a node asks for one small product, (N, M) with (M, K + 1), for all images at once. Sentences are worked on in blocks
of neighbours in alphabetical order, which share most of their nodes.

Rounding: a bound is raised by what float32 can do at worst to the products of both sides, `margin`, so that it holds
against the scores of mrnn.evaluate.retrieval.late_fusion as computed. Memory: for each thread two matrices of N x M
float32, and a block's bounds.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from mrnn.evaluate.retrieval.late_fusion import SMALLEST_SUM, LateFusionScorer, activate
from mrnn.train.products import product

NODES = 128  # whose words are chosen at a time
PAIRS = 200_000  # of a block; a second or two of work


class BoundScorer:
    """Upper bounds of what `scorer` computes, for some images. Threads may share it."""

    @torch.inference_mode()
    def __init__(self, scorer: LateFusionScorer, images: Tensor, *, words: int) -> None:
        """images : (N, M), scorer.image of each. words : K, at most V."""
        self._scorer = scorer
        self._images = images
        self._reference = images.mean(0)
        self._words = min(words, len(scorer.output))
        self.margin = word_margin(scorer.output, scorer.bias)

    @torch.inference_mode()
    def bounds(self, sentences: np.ndarray, *, check: Callable[[], None] | None = None) -> np.ndarray:
        """No score of these sentences (numbers in the scorer's tree) is above these: (n,) -> (n, N) float32.

        check : called for every node; what it raises ends the work.
        """
        tree = self._scorer.tree
        edges = tree.paths(sentences)
        nodes, first_edge = np.unique(tree.edge_nodes[edges], return_index=True)
        last_edge = np.append(first_edge[1:], len(edges))
        before = np.searchsorted(edges, tree.edge_before[edges])  # where there is one
        targets = torch.from_numpy(tree.edge_targets[edges]).to(self._images.device)
        sums = self._images.new_empty(len(edges), len(self._images))
        inputs, weight = torch.empty_like(self._images), self._images.new_empty(0)
        for start in range(0, len(nodes), NODES):
            some = slice(start, start + NODES)
            rows = np.repeat(np.arange(len(nodes[some])), last_edge[some] - first_edge[some])
            of_some = targets[first_edge[start] : first_edge[start] + len(rows)]
            chosen, places, rest, biases = self._choose(nodes[some], of_some, torch.from_numpy(rows).to(targets.device))
            if weight.shape[:1] != biases.shape[1:]:
                weight = self._images.new_empty(biases.shape[1], self._images.shape[1])
            for number, (node, edge, stop) in enumerate(
                zip(nodes[some], first_edge[some], last_edge[some], strict=True)
            ):
                if check is not None:
                    check()
                torch.index_select(self._scorer.output, 0, chosen[number], out=weight[:-1])
                weight[-1] = rest[number]
                torch.add(self._images, self._scorer.language[node], out=inputs)
                logits = product(activate(inputs), weight, biases[number])
                at = places[edge - first_edge[start] : stop - first_edge[start]]
                own = sums[edge:stop]
                torch.sub(logits[:, at].T, log_total(logits), out=own)
                if node:
                    own += sums[before[edge]]
        ends = np.searchsorted(edges, tree.sentence_edges[sentences])
        result = sums[torch.from_numpy(ends).to(sums.device)]
        lengths = torch.from_numpy(self._lengths(sentences)).to(result)
        return result.add_(lengths[:, None] * self.margin).add_(result.abs() * 2.0**-21).float().cpu().numpy()

    def _choose(self, nodes: np.ndarray, targets: Tensor, rows: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Words of some nodes and what stands for the rest.

        nodes : (n,). targets, rows : (e,) words that follow them and the row in `nodes` of each. Returns chosen (n, K)
        words, places (e,) of the targets among them, rest (n, M) the vector of the word that stands for the rest,
        biases (n, K + 1). Logits are shifted so that at the reference image the sum over all words is 1.
        """
        scorer = self._scorer
        reference = activate(scorer.language[torch.from_numpy(nodes).to(targets.device)] + self._reference)
        logits = product(reference, scorer.output, scorer.bias)
        shift = logits.logsumexp(1, keepdim=True)
        probabilities = logits.sub_(shift).exp_()
        first = probabilities.clone()
        first[rows, targets] = 2.0  # before all others
        most = int(torch.bincount(rows).max())
        chosen = first.topk(max(self._words, most), dim=1).indices
        places = (chosen[rows] == targets[:, None]).to(torch.uint8).argmax(1)
        weights = probabilities.scatter_(1, chosen, 0.0)
        mass = weights.sum(1, keepdim=True)
        there = mass > SMALLEST_SUM
        weights = torch.where(there, weights / mass, 0.0)
        rest = product(weights, scorer.output.T)
        rest_bias = torch.where(there[:, 0], mass[:, 0].log() - (rest * reference).sum(1), -torch.inf)
        return chosen, places, rest, torch.cat([scorer.bias[chosen] - shift, rest_bias[:, None]], 1)

    def _lengths(self, sentences: np.ndarray) -> np.ndarray:
        """Words and END of each sentence."""
        tree = self._scorer.tree
        return 1 + np.searchsorted(tree.edge_levels, tree.sentence_edges[sentences], side="right") - 1


def log_total(logits: Tensor) -> Tensor:
    """log sum exp of each row, without the maximum where that is safe: (n, k) -> (n,)."""
    total = logits.exp().sum(1)
    if ((total > SMALLEST_SUM) & (total < torch.inf)).all():
        return total.log_()
    return logits.logsumexp(1)


def word_margin(output: Tensor, bias: Tensor) -> float:
    """What rounding can do at worst to log p of a word, in two computations together.

    A logit is a sum of M products with |m| <= 1: it is off by at most (M + 2) u (|o_v|_1 + |b_v|), u half the spacing
    of floats at 1. There are two of them on each side (the target's and, in effect, the normaliser's), and each sum
    over V words adds V u.
    """
    unit = torch.finfo(output.dtype).eps / 2
    largest = float((output.abs().sum(1) + bias.abs()).max())
    return unit * (4 * (output.shape[1] + 2) * largest + 2 * len(output))


def blocks(sentences: int, images: int) -> list[np.ndarray]:
    """Numbers 0 .. sentences - 1 in blocks of neighbours with about PAIRS pairs each."""
    size = max(1, PAIRS // max(images, 1))
    return [np.arange(start, min(start + size, sentences)) for start in range(0, sentences, size)]

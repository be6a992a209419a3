"""Upper bounds of log P(w | I), at a small fraction of the cost of the exact scores.

The cost of a score is its normalisers, log Z = log sum_v exp(l_v) with l_v = o_v . m + b_v over the whole vocabulary. A
sum over some of the words is smaller, so a target's logit minus the logarithm of that sum is an upper bound of log p.
For each node of the prefix tree, the K most probable words under a reference image (the mean of V_I I over the images)
are kept, always including the node's target words. The other words are not dropped but replaced by one additional word:
by Jensen's inequality, for any weights q_v that sum to one over these words,

    sum_rest exp(l_v) >= exp( sum_rest q_v (l_v - log q_v) ) = exp( (sum_rest q_v o_v) . m + c ),

a word with the output vector sum q_v o_v. If q is the softmax over the rest under the reference image, the two sides
are equal there, and log of the right side is the tangent of a convex function everywhere else. On Flickr8k, with 128
words, the additional word reduces the mean gap from 0.078 to 0.055 nats per word (dev split, per node), for the cost of
one column.

So each node needs one small product, (N, M) with (M, K + 1), for all images at once. Sentences are processed in blocks
of neighbours in alphabetical order, which share most of their nodes.

Rounding: a bound is raised by `margin`, the largest effect that float32 rounding can have on both sides, so that it
holds for the scores of mrnn.evaluate.retrieval.late_fusion as they are computed. Memory: two matrices of N x M float32
and the bounds of a block, per thread.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from mrnn.evaluate.retrieval.late_fusion import SMALLEST_SUM, LateFusionScorer, activate
from mrnn.train.products import product

NODES = 128  # nodes whose words are chosen at a time
PAIRS = 200_000  # pairs per block, which take a second or two


class BoundScorer:
    """Upper bounds of the scores that `scorer` computes, for some images. Threads may share it."""

    @torch.inference_mode()
    def __init__(self, scorer: LateFusionScorer, images: Tensor, *, words: int) -> None:
        """
        scorer : scorer of the sentences.
        images : (N, M), scorer.image of each image.
        words : K, number of words kept per node; V if it is larger.
        """
        self._scorer = scorer
        self._images = images
        self._reference = images.mean(0)
        self._words = min(words, len(scorer.output))
        self.margin = word_margin(scorer.output, scorer.bias)
        self.share = self._words / len(scorer.output)

    @torch.inference_mode()
    def bounds(self, sentences: np.ndarray, *, check: Callable[[], None] | None = None) -> np.ndarray:
        """Upper bounds of the scores of some sentences under all images: (n,) -> (n, N) float32.

        sentences : (n,) int, numbers in the scorer's tree.
        check : called for every node; an exception that it raises ends the computation.
        """
        tree = self._scorer.tree
        edges = tree.paths(sentences)
        nodes, first_edge = np.unique(tree.edge_nodes[edges], return_index=True)
        last_edge = np.append(first_edge[1:], len(edges))
        before = np.searchsorted(edges, tree.edge_before[edges])  # meaningless for edges that leave node 0
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
                # Nodes are in level order, so the edge that leads here already holds the sum of its path.
                if node:
                    own += sums[before[edge]]
        ends = np.searchsorted(edges, tree.sentence_edges[sentences])
        result = sums[torch.from_numpy(ends).to(sums.device)]
        lengths = torch.from_numpy(self._lengths(sentences)).to(result)
        # The second term allows for rounding in the sum over the path and in the conversion of scores to float32:
        # 2**-21 is eight times the unit roundoff of float32.
        return result.add_(lengths[:, None] * self.margin).add_(result.abs() * 2.0**-21).float().cpu().numpy()

    def _choose(self, nodes: np.ndarray, targets: Tensor, rows: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Choose the words of some nodes, and compute the word that replaces the others.

        nodes : (n,) int, nodes of the tree.
        targets : (e,) int64, the words that follow these nodes.
        rows : (e,) int64, row in `nodes` of each target.

        Returns chosen (n, K), the words; places (e,) of the targets among them; rest (n, M), the output vector of the
        word that replaces the others; biases (n, K + 1). The biases shift the logits so that, at the reference image,
        exp of all logits sums to 1.
        """
        scorer = self._scorer
        reference = activate(scorer.language[torch.from_numpy(nodes).to(targets.device)] + self._reference)
        logits = product(reference, scorer.output, scorer.bias)
        shift = logits.logsumexp(1, keepdim=True)
        probabilities = logits.sub_(shift).exp_()
        first = probabilities.clone()
        # Above every probability, so that topk always keeps the targets, whose logits the bounds need exactly.
        first[rows, targets] = 2.0
        most = int(torch.bincount(rows).max())
        chosen = first.topk(max(self._words, most), dim=1).indices
        places = (chosen[rows] == targets[:, None]).to(torch.uint8).argmax(1)
        weights = probabilities.scatter_(1, chosen, 0.0)
        mass = weights.sum(1, keepdim=True)
        there = mass > SMALLEST_SUM
        weights = torch.where(there, weights / mass, 0.0)
        # The additional word of Jensen's inequality. Its bias c = sum q_v (b_v - log q_v) is simply log mass minus
        # rest . reference, since log q_v = l_v - log mass at the reference image. Where the rest has too little mass
        # for float32 it is left out (bias -inf): a sum over fewer words still bounds the normaliser from below.
        rest = product(weights, scorer.output.T)
        rest_bias = torch.where(there[:, 0], mass[:, 0].log() - (rest * reference).sum(1), -torch.inf)
        return chosen, places, rest, torch.cat([scorer.bias[chosen] - shift, rest_bias[:, None]], 1)

    def _lengths(self, sentences: np.ndarray) -> np.ndarray:
        """Number of words of each sentence, END included."""
        tree = self._scorer.tree
        return 1 + np.searchsorted(tree.edge_levels, tree.sentence_edges[sentences], side="right") - 1


def log_total(logits: Tensor) -> Tensor:
    """log sum exp of each row, without subtracting the maximum where that is safe: (n, k) -> (n,)."""
    total = logits.exp().sum(1)
    if ((total > SMALLEST_SUM) & (total < torch.inf)).all():
        return total.log_()
    return logits.logsumexp(1)


def word_margin(output: Tensor, bias: Tensor) -> float:
    """The largest effect of rounding on log p of a word, in bound and exact score together.

    A logit is a sum of M products with |m| <= 1, so its error is at most (M + 2) u (|o_v|_1 + |b_v|), where u is half
    the spacing of floats at 1. Each side has two of them (the target's and, in effect, the normaliser's), and each sum
    over V words adds V u.

    output : (V, M) output vectors, as the scorer multiplies them.
    bias : (V,).
    """
    unit = torch.finfo(output.dtype).eps / 2
    largest = float((output.abs().sum(1) + bias.abs()).max())
    return unit * (4 * (output.shape[1] + 2) * largest + 2 * len(output))


def blocks(sentences: int, images: int) -> list[np.ndarray]:
    """The numbers 0 .. sentences - 1 in consecutive blocks of about PAIRS pairs each."""
    size = max(1, PAIRS // max(images, 1))
    return [np.arange(start, min(start + size, sentences)) for start in range(0, sentences, size)]

"""First-order scores: log P(w | I) as one dot product, for galleries too large to score exactly.

For a fixed sentence, log P(w | I) is a smooth function f of the image's vector x = V_I I alone. Around an anchor a,

    f(x) = f(a) + f'(a) . (x - a) + ...,     f'(a) = sum over t of g'(A_t + a) * (o_t - sum_v p_tv o_v),

with A_t the language half (mrnn.evaluate.retrieval.late_fusion), g' the slope of the multimodal layer, o_t the output
row of the word to predict and p_tv the model's probabilities at the anchor. So a sentence becomes a number and a vector
per anchor, computed once for the cost of about two exact scores each, and a first-order score is a dot product. The
anchors are k-means centres of the images' vectors, and every image uses the nearest one: the more anchors, the more
accurate the scores.

First-order scores only select what is scored exactly (mrnn.evaluate.search.numbers). They give a shortlist, not an
answer.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mrnn.evaluate.retrieval.late_fusion import language_half
from mrnn.evaluate.retrieval.prefix_tree import build_prefix_tree
from mrnn.train.models.captioner import LateFusion
from mrnn.train.products import product

NODES = 512  # pairs of state and anchor expanded at a time: 5 MB of logits at V = 2,538
KMEANS_SAMPLE = 20_000  # number of vectors that the centres are fitted to
KMEANS_ROUNDS = 20
BLOCK = 65_536  # images whose distances to the anchors are held at a time


@dataclass(frozen=True)
class Expansions:
    """Sentences as functions of the image's vector, to first order.

    values : (C, S) float32, values[c, s] is the natural log P(w_s | I) at V_I I = anchor c.
    gradients : (C, S, M) float32, gradients[c, s] is its gradient with respect to V_I I there.
    """

    values: np.ndarray
    gradients: np.ndarray


@torch.inference_mode()
def expand(model: LateFusion, sentences: Sequence[Sequence[int] | np.ndarray], anchors: Tensor) -> Expansions:
    """Expand sentences at each anchor, in the model's precision.

    Memory: about (C + 10) x S x M numbers, so pass many sentences in parts.

    model : the model in eval mode.
    sentences : S sentences, word numbers without START and END.
    anchors : (C, M), vectors to expand at.
    """
    tree = build_prefix_tree(sentences)
    language, output, bias = language_half(model, tree), model.output.weight, model.output.bias
    device, fusion = output.device, model.fusion
    nodes, targets = (torch.from_numpy(a).to(device) for a in (tree.edge_nodes, tree.edge_targets))
    starts = range(0, len(language), NODES)
    bounds = np.searchsorted(tree.edge_nodes, [*starts, len(language)])
    values, gradients = [], []
    # One sentence has a dozen states: at many anchors together they are enough for an efficient matrix product.
    for some in anchors.to(output).split(max(1, NODES // len(language))):
        edge_values, edge_gradients = [], []
        for start, first, last in zip(starts, bounds[:-1], bounds[1:], strict=True):
            tanh = torch.tanh((language[start : start + NODES, None] + some) * fusion.inner)
            logits = product((fusion.outer * tanh).flatten(0, 1), output, bias)
            totals = logits.logsumexp(1, keepdim=True)
            row, target = nodes[first:last] - start, targets[first:last]
            log_probs = logits.sub_(totals).view(*tanh.shape[:2], -1)
            edge_values.append(log_probs[row, :, target])
            # The gradient by hand: one product with the transposed output layer gives sum_v p_v o_v for all states,
            # where autograd would need a backward pass for each sentence.
            expected = product(logits.exp_(), output.t()).view_as(tanh)
            slope = (1 - tanh.square()).mul_(fusion.outer * fusion.inner)
            edge_gradients.append(slope[row] * (output[target][:, None] - expected[row]))
        values.append(tree.sentence_sums(torch.cat(edge_values).cpu().numpy()).swapaxes(0, 1))
        gradients.append(tree.sentence_sums(torch.cat(edge_gradients).cpu().numpy()).swapaxes(0, 1))
    kind = torch.empty(0, dtype=output.dtype).numpy().dtype
    return Expansions(np.concatenate(values).astype(kind), np.concatenate(gradients).astype(kind))


def choose_anchors(vectors: Tensor, count: int, *, seed: int = 0) -> Tensor:
    """k-means centres of image vectors: Lloyd's algorithm with k-means++ starts, on at most KMEANS_SAMPLE vectors.

    vectors : (N, M), V_I I of the images.
    count : number of centres; with 1, the centre is the mean.
    seed : seed of the sample and the starts.

    Returns (C, M), where C is `count`, or less if there are fewer distinct vectors.
    """
    generator = torch.Generator().manual_seed(seed)
    if len(vectors) > KMEANS_SAMPLE:
        vectors = vectors[torch.randperm(len(vectors), generator=generator)[:KMEANS_SAMPLE].to(vectors.device)]
    if count == 1:
        return vectors.mean(0, keepdim=True)
    centres = vectors[:1]
    closest = vectors.new_full((len(vectors),), torch.inf)  # squared distance to the nearest centre so far
    while len(centres) < count:
        closest = torch.minimum(closest, (vectors - centres[-1]).square().sum(1))
        if not closest.max() > 0:
            break
        # k-means++: a far vector is a likelier start, since first order is less accurate farther from an anchor.
        centres = torch.cat([centres, vectors[torch.multinomial(closest.cpu(), 1, generator=generator)]])
    for _ in range(KMEANS_ROUNDS):
        members = nearest_anchors(vectors, centres)
        sizes = torch.bincount(members, minlength=len(centres))
        sums = torch.zeros_like(centres).index_add_(0, members, vectors)
        # A centre without members keeps its place, rather than becoming 0 / 0.
        centres = torch.where(sizes[:, None] > 0, sums / sizes.clamp(min=1)[:, None], centres)
    return centres


def nearest_anchors(vectors: Tensor, anchors: Tensor) -> Tensor:
    """Number of the anchor nearest to each vector: (N, M), (C, M) -> (N,) int64."""
    # |x - a|^2 / 2 without |x|^2 / 2, which is the same for all anchors: one product instead of all differences.
    halves = anchors.square().sum(1) / 2
    return torch.cat([(halves - part @ anchors.t()).argmin(1) for part in vectors.split(BLOCK)])


class ImageVectors:
    """The vectors V_I I of the images of a gallery, grouped by anchor, for sentence -> image search.

    anchors : (C, M), the anchors.
    order : (N,) int64, gallery number of each image in the grouped order.
    sizes : (C,) int64, number of images of each anchor.
    vectors : (N, M) in the grouped order, float32 or float16.
    """

    def __init__(self, anchors: Tensor, order: Tensor, sizes: Tensor, vectors: Tensor) -> None:
        self.anchors, self.order, self.sizes, self.vectors = anchors, order, sizes, vectors

    @classmethod
    def build(cls, vectors: Tensor, *, anchors: int, seed: int = 0) -> "ImageVectors":
        """Choose anchors for some vectors and group the vectors by anchor.

        vectors : (N, M), V_I I of the images.
        anchors : number of anchors.
        seed : seed of the choice.
        """
        chosen = choose_anchors(vectors, anchors, seed=seed)
        members = nearest_anchors(vectors, chosen)
        order = torch.argsort(members, stable=True)
        return cls(chosen, order, torch.bincount(members, minlength=len(chosen)), vectors[order])

    def __len__(self) -> int:
        return len(self.order)

    def first_order(self, expansions: Expansions) -> Tensor:
        """First-order scores of S sentences, expanded at `anchors`, under every image: (S, N) float32."""
        # The images of an anchor are contiguous, so each anchor is one product into a slice, without gathering.
        grouped = torch.empty(expansions.values.shape[1], len(self))
        start = 0
        for anchor, size, value, gradient in zip(
            self.anchors, self.sizes.tolist(), expansions.values, expansions.gradients, strict=True
        ):
            slopes = torch.from_numpy(gradient).float()
            part = self.vectors[start : start + size].float()
            offsets = torch.from_numpy(value).float() - slopes @ anchor
            torch.addmm(offsets[:, None], slopes, part.t(), out=grouped[:, start : start + size])
            start += size
        return torch.empty_like(grouped).index_copy_(1, self.order, grouped)


def first_order_of_sentences(expansions: Expansions, anchors: Tensor, vectors: Tensor) -> np.ndarray:
    """First-order scores of S sentences under some images, each expanded at its nearest anchor.

    expansions : the sentences, expanded at `anchors`.
    anchors : (C, M), the anchors.
    vectors : (n, M), V_I I of the images.

    Returns (n, S) float32.
    """
    members = nearest_anchors(vectors, anchors)
    scores = np.empty((len(vectors), expansions.values.shape[1]), dtype=np.float32)
    for number in members.unique().tolist():
        of_anchor = (members == number).cpu()
        offsets = (vectors[members == number] - anchors[number]).cpu().numpy()
        scores[of_anchor.numpy()] = expansions.values[number] + offsets @ expansions.gradients[number].T
    return scores

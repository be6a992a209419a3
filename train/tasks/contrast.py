"""The contrastive term of captioners: m-RNN's own retrieval scores (A6 of its re-implementation notes) as an objective.

A batch compares n of its sentences, w_1 .. w_n, with K of its images, I_1 .. I_K. Sentence l belongs to image l:

    a(k, l) = log P(w_l | I_k) - log sum_k' P(w_l | I_k')          K images; up to a constant log P(w|I) - log P(w)
    C = -(1/n) sum_l a(l, l)                                        sentence -> image: softmax over the K images
        -(1/n) sum_k [a(k, k) - log sum_l exp a(k, l)]              image -> sentence: softmax over the n sentences

In bits. A sentence is ranked for an image by a because retrieval divides by P(w), the mean of P(w|I') over images; for
a sentence the images are ranked by P(w|I), which a orders alike.

In a late-fusion model the language half of the sentences is what the captions of the batch need anyway, and the image
half too. What the term costs is the output layer for K n sentences, beside the B sentences of the batch.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from mrnn.train.batches import NOTHING, CaptionBatch
from mrnn.train.losses import LN2
from mrnn.train.models.captioner import LateFusion
from mrnn.train.products import linear


@dataclass(frozen=True, kw_only=True)
class ContrastBatch(CaptionBatch):
    """A batch of captions, and which of its sentences and images the contrastive term compares.

    images : (K,) int64, rows of `features`: different images, first those of the n sentences in their order.
    rows : (n, T) int64, the rows of each sentence's words in the batch; 0 after its end.
    words : (n, T) int64, the targets there; NOTHING after its end.
    """

    images: Tensor
    rows: Tensor
    words: Tensor


def contrast_batches(
    batches: Iterable[CaptionBatch],
    image: np.ndarray,
    *,
    images: int,
    sentences: int,
    seed: list[int],
    skip: int,
) -> Iterator[ContrastBatch]:
    """Draw the images and sentences that each batch of an epoch compares.

    batches : the batches.
    image : (S,) int64, image number of every sentence.
    images, sentences : how many to compare; fewer if a batch has fewer images.
    seed : the draws depend on this and on the number of the batch in the epoch.
    skip : number of the first batch.
    """
    for number, batch in enumerate(batches, start=skip):
        draw = np.random.default_rng([*seed, number])
        # pack() numbers the images of a batch by rising image number, as np.unique does.
        _, first = np.unique(image[batch.sentences], return_index=True)
        chosen = draw.permutation(len(first))[:images]
        columns = first[chosen[:sentences]]  # a sentence of each of the first images
        sizes = np.array(batch.sizes)
        inside = columns[:, None] < sizes
        rows = np.where(inside, np.cumsum(sizes) - sizes + columns[:, None], 0)
        at = batch.targets.device
        places, present = torch.from_numpy(rows).to(at), torch.from_numpy(inside).to(at)
        yield ContrastBatch(
            **{each.name: getattr(batch, each.name) for each in fields(batch)},
            images=torch.from_numpy(chosen).to(at),
            rows=places,
            words=batch.targets[places].masked_fill(~present, NOTHING),
        )


def contrast_bits(model: LateFusion, batch: ContrastBatch, *, language: Tensor, image: Tensor) -> Tensor:
    """C of a batch in bits: a scalar.

    language : (P, M), the language half of its rows.
    image : (I, M), the image half of its images.
    """
    words, images = language[batch.rows.flatten()], image[batch.images, None]
    # Without the dropout of `fuse`: draws that differ from image to image would drown what tells the images apart.
    hidden = model.fusion(words + images.to(words.dtype))  # (K, n T, M)
    logits = linear(hidden.flatten(0, 1), model.output.weight) + model.output.bias
    targets = batch.words.flatten().expand(len(hidden), -1).flatten()
    costs = functional.cross_entropy(logits, targets, ignore_index=NOTHING, reduction="none")
    return contrast_of_scores(-costs.view(len(hidden), *batch.rows.shape).sum(2)) / LN2


def contrast_of_scores(scores: Tensor) -> Tensor:
    """C in nats of scores[k, l] = log P(w_l | I_k), (K, n) with K >= n: sentence l belongs to image l."""
    normalised = torch.log_softmax(scores, 0)
    own = normalised[: scores.shape[1]]
    return -own.diagonal().mean() - torch.log_softmax(own, 1).diagonal().mean()

"""The index of a gallery: image vectors for searching by sentence, sentence expansions for searching by image.

Both serve shortlists (mrnn.evaluate.search.shortlist). They are computed once, part by part in bounded memory, and kept
in an index file. Vectors are stored as float16, whose rounding is far below the error of the first-order scores.

log P(w) of a sentence, the mean of P(w | I') over J training images, is dominated by few of them. The index holds it
twice. The first-order value is used for shortlists: its errors have the same sign as those of a first-order
log P(w | I), so that they largely cancel in the difference. The nearly exact value is used with exact log P(w | I): it
scores P(w | I') exactly for the PRIOR_EXACT images with the largest first-order scores, and uses first-order scores for
the others, corrected by their mean error at the former.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mrnn.data.progress import Progress
from mrnn.evaluate.retrieval.late_fusion import language_half
from mrnn.evaluate.retrieval.one_sentence import STATES, image_vectors
from mrnn.evaluate.retrieval.pair_scorer import log_normaliser
from mrnn.evaluate.retrieval.prefix_tree import build_prefix_tree
from mrnn.evaluate.search.index_file import InMemory, new_index, open_index
from mrnn.evaluate.search.shortlist import (
    KMEANS_SAMPLE,
    ImageVectors,
    choose_anchors,
    expand,
    first_order_of_sentences,
    nearest_anchors,
)
from mrnn.train.features import Features
from mrnn.train.models.captioner import LateFusion
from mrnn.train.products import product

PRIOR_EXACT = 16
SENTENCES = 512  # sentences expanded at a time: 50 MB at 8 anchors


class SentenceIndex:
    """The sentences of a gallery as functions of an image's vector, for image -> sentence search.

    anchors : (C, M), vectors that the sentences are expanded at.
    first_prior : (S,) float32, log P(w) to first order.
    log_prior : (S,) float32, log P(w) nearly exactly.
    """

    def __init__(self, handle: Any) -> None:
        """handle : an opened index; the gradients stay in its file and are read for one anchor at a time."""
        self.anchors = torch.from_numpy(handle.get_tensor("anchors"))
        self.first_prior, self.log_prior = handle.get_tensor("first_prior"), handle.get_tensor("log_prior")
        self._values, self._gradients = handle.get_tensor("values"), handle.get_slice("gradients")

    def first_order(self, vector: Tensor) -> np.ndarray:
        """log P(w | I) - log P(w), both to first order, of every sentence for an image's vector (M,): (S,) float32."""
        number = int(nearest_anchors(vector[None], self.anchors)[0])
        gradients = torch.from_numpy(self._gradients[number]).float()
        scores = (gradients @ (vector - self.anchors[number])).numpy() + self._values[number]
        return scores - self.first_prior


def image_index(
    path: Path | None,
    about: Mapping[str, Any],
    model: LateFusion,
    features: Features,
    images: np.ndarray,
    *,
    anchors: int,
) -> ImageVectors:
    """The vectors of a gallery's images, read from the index file if it was made from equal data, else computed.

    Memory: 2 N M bytes for the vectors, and less while computing them.

    path : the index file; None to keep the vectors in memory only.
    about : plain values that identify what the vectors depend on: model, cache, choice of images.
    model : the model in eval mode.
    features : features by image number.
    images : (N,) int, numbers of the images.
    anchors : number of anchors.
    """
    about = {**about, "kind": "images", "anchors": anchors}
    handle = open_index(path, about)
    if handle is None:
        sample = np.random.default_rng(0).permutation(len(images))[:KMEANS_SAMPLE]
        chosen = choose_anchors(_vectors(model, features, images[np.sort(sample)]), anchors)
        members = torch.cat([nearest_anchors(part.cpu(), chosen) for part in image_vectors(model, features, images)])
        order = torch.argsort(members, stable=True)
        places = torch.empty_like(order).scatter_(0, order, torch.arange(len(order))).numpy()
        layout = {
            "order": ("I64", (len(images),)),
            "sizes": ("I64", (len(chosen),)),
            "anchors": ("F32", tuple(chosen.shape)),
            "vectors": ("F16", (len(images), chosen.shape[1])),
        }
        with (
            new_index(path, about, layout) as arrays,
            Progress("index of the images", len(images), unit="images") as progress,
        ):
            arrays["order"][:], arrays["anchors"][:] = order.numpy(), chosen.numpy()
            arrays["sizes"][:] = np.bincount(members.numpy(), minlength=len(chosen))
            start = 0
            for part in image_vectors(model, features, images):
                arrays["vectors"][places[start : start + len(part)]] = part.cpu().numpy()
                start += len(part)
                progress.add(len(part))
        handle = InMemory(arrays) if path is None else open_index(path, about)
    assert handle is not None
    return ImageVectors(*(torch.from_numpy(handle.get_tensor(n)) for n in ("anchors", "order", "sizes", "vectors")))


def sentence_index(
    path: Path | None,
    about: Mapping[str, Any],
    model: LateFusion,
    features: Features,
    images: np.ndarray,
    sentences: Sequence[np.ndarray],
    *,
    priors: np.ndarray,
    anchors: int,
) -> SentenceIndex:
    """The expansions of a gallery's sentences, read from the index file if it was made from equal data, else computed.

    path : the index file; None to keep the expansions in memory, 2 C S M bytes of them for C anchors.
    about : plain values that identify what the scores depend on: model, cache, choice of sentences and of priors.
    model : the model in eval mode.
    features : features by image number.
    images : (n,) int, numbers of the images that the anchors are chosen for.
    sentences : word numbers of each sentence, without START and END.
    priors : (J,) int, numbers of the images that P(w) is averaged over; with J = 0, P(w) is left out.
    anchors : number of anchors.

    Raises OSError if the file cannot be written.
    """
    about = {**about, "kind": "sentences", "anchors": anchors, "prior_exact": PRIOR_EXACT}
    handle = open_index(path, about)
    if handle is None:
        chosen = choose_anchors(_vectors(model, features, images), anchors)
        prior_vectors = _vectors(model, features, priors) if len(priors) else None
        shape = (len(chosen), len(sentences))
        layout = {
            "anchors": ("F32", tuple(chosen.shape)),
            "values": ("F32", shape),
            "first_prior": ("F32", shape[1:]),
            "log_prior": ("F32", shape[1:]),
            "gradients": ("F16", (*shape, chosen.shape[1])),
        }
        # Neighbours in alphabetical order share prefixes, whose states are then expanded only once.
        order = sorted(range(len(sentences)), key=lambda number: sentences[number].tolist())
        with (
            new_index(path, about, layout) as arrays,
            Progress("index of the sentences", len(order), unit="sentences") as progress,
        ):
            arrays["anchors"][:] = chosen.numpy()
            arrays["first_prior"][:] = arrays["log_prior"][:] = 0
            for start in range(0, len(order), SENTENCES):
                numbers = order[start : start + SENTENCES]
                part = [sentences[number] for number in numbers]
                expansions = expand(model, part, chosen)
                arrays["values"][:, numbers] = expansions.values
                arrays["gradients"][:, numbers] = expansions.gradients
                if prior_vectors is not None:
                    first = first_order_of_sentences(expansions, chosen, prior_vectors)
                    arrays["first_prior"][numbers] = log_normaliser(first)
                    arrays["log_prior"][numbers] = nearly_exact_priors(model, part, prior_vectors, first)
                progress.add(len(numbers))
        handle = InMemory(arrays) if path is None else open_index(path, about)
    return SentenceIndex(handle)


def nearly_exact_priors(
    model: LateFusion, sentences: Sequence[np.ndarray], vectors: Tensor, first: np.ndarray, *, exact: int = PRIOR_EXACT
) -> np.ndarray:
    """log P(w) of S sentences over J images, nearly exactly.

    model : the model in eval mode.
    sentences : S sentences, word numbers without START and END.
    vectors : (J, M), V_I I of the images.
    first : (J, S), first-order scores.
    exact : number of images per sentence that are scored exactly.

    Returns (S,) float64.
    """
    scores = first.T.astype(np.float64)
    largest = np.argsort(-scores, axis=1, kind="stable")[:, :exact]
    scored = score_chosen(model, sentences, vectors, largest)
    # First-order errors at the images that were scored predict those at the others; see the module's docstring.
    scores += (scored - np.take_along_axis(scores, largest, 1)).mean(axis=1, keepdims=True)
    np.put_along_axis(scores, largest, scored, 1)
    return log_normaliser(scores.T)


@torch.inference_mode()
def score_chosen(model: LateFusion, sentences: Sequence[np.ndarray], vectors: Tensor, images: np.ndarray) -> np.ndarray:
    """Natural log P(w | I) of S sentences, each under k images of its own.

    vectors : (J, M), V_I I of the images. images : (S, k) int, numbers of those of each sentence.

    Returns (S, k) float64. A prefix that sentences share is scored once for each image that they share.
    """
    tree = build_prefix_tree(sentences)
    language, output, bias = language_half(model, tree), model.output.weight, model.output.bias
    edges = [tree.sentence_edges]  # of each sentence from its end to its beginning; -1 before that
    while (edges[-1] >= 0).any():
        edges.append(np.where(edges[-1] < 0, -1, tree.edge_before[edges[-1]]))
    path = np.stack(edges[:-1])  # (L, S)
    # One integer for each node and image, so that np.unique finds the distinct states.
    states = tree.edge_nodes[path][..., None] * len(vectors) + images
    inside = np.broadcast_to((path >= 0)[..., None], states.shape)
    distinct, places = np.unique(states[inside], return_inverse=True)
    targets = np.broadcast_to(tree.edge_targets[path][..., None], states.shape)[inside]
    order = np.argsort(places, kind="stable")
    bounds = np.searchsorted(places[order], [*range(0, len(distinct), STATES), len(distinct)])
    found = np.empty(len(places))
    for start, first, last in zip(range(0, len(distinct), STATES), bounds[:-1], bounds[1:], strict=True):
        nodes, numbers = np.divmod(distinct[start : start + STATES], len(vectors))
        multimodal = model.fuse(language[nodes], vectors[numbers].to(language))
        log_probs = product(multimodal, output, bias).log_softmax(1)
        chosen = order[first:last]
        found[chosen] = log_probs[places[chosen] - start, targets[chosen]].cpu().numpy()
    values = np.zeros(states.shape)
    values[inside] = found
    return values.sum(axis=0)


def _vectors(model: LateFusion, features: Features, images: np.ndarray) -> Tensor:
    """V_I I of the images with these numbers, in memory: (N, M) float32 on the CPU."""
    return torch.cat([part.cpu() for part in image_vectors(model, features, images)])

"""What search keeps of a gallery: image vectors for sentences to look up, sentence vectors for images to look up.

Both serve shortlists (mrnn.evaluate.search.shortlist). They are made once, part by part in bounded memory, and kept in
an index file. Vectors lie there as float16: their rounding is far below what first order leaves out.

log P(w) of a sentence, the mean of P(w | I') over J training images, is dominated by few of them. The index holds it
twice. To first order throughout: its errors go the same way as those of a first-order log P(w | I), so the difference
of the two is what a shortlist is best made by. And nearly exactly, for those whose log P(w | I) is exact: P(w | I') is
scored exactly for the PRIOR_EXACT images with the largest first-order scores; the others have these, less their mean
error at the former.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mrnn.data.progress import Progress
from mrnn.evaluate.retrieval.one_sentence import image_vectors, score_sentence
from mrnn.evaluate.retrieval.pair_scorer import log_normaliser
from mrnn.evaluate.search.index_file import new_index, open_index
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

PRIOR_EXACT = 16
SENTENCES = 512  # expanded at a time: 50 MB at 8 anchors


class SentenceIndex:
    """The sentences of a gallery as functions of an image's vector. For image -> sentence.

    anchors : (C, M). first_prior, log_prior : (S,) float32, log P(w) to first order and nearly exactly (see above).
    """

    def __init__(self, handle: Any) -> None:
        """handle : of an opened index file; gradients stay in it and are read for one anchor at a time."""
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
    path: Path, about: Mapping[str, Any], model: LateFusion, features: Features, images: np.ndarray, *, anchors: int
) -> ImageVectors:
    """The vectors of a gallery's images by their numbers, read from the file if it was made from exactly this.

    about : plain values that say what the scores depend on: model, cache, which images. Memory: 2 N M bytes to hold
    the vectors, less to make them.
    """
    about = {**about, "kind": "images", "anchors": anchors}
    if open_index(path, about) is None:
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
    handle: Any = open_index(path, about)
    return ImageVectors(*(torch.from_numpy(handle.get_tensor(n)) for n in ("anchors", "order", "sizes", "vectors")))


def sentence_index(
    path: Path,
    about: Mapping[str, Any],
    model: LateFusion,
    features: Features,
    images: np.ndarray,
    sentences: Sequence[np.ndarray],
    *,
    priors: np.ndarray,
    anchors: int,
) -> SentenceIndex:
    """The expansions of a gallery's sentences, read from the file if it was made from exactly this.

    about : plain values that say what the scores depend on: model, cache, which sentences, which priors. images :
    numbers of the images that the anchors are chosen for. priors : numbers of the J images that P(w) is averaged over;
    J = 0 leaves P(w) out. Raises OSError where the file cannot be written.
    """
    about = {**about, "kind": "sentences", "anchors": anchors, "prior_exact": PRIOR_EXACT}
    if open_index(path, about) is None:
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
        # Neighbours in alphabetical order share beginnings, whose states are then expanded once.
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
    return SentenceIndex(open_index(path, about))


def nearly_exact_priors(
    model: LateFusion, sentences: Sequence[np.ndarray], vectors: Tensor, first: np.ndarray, *, exact: int = PRIOR_EXACT
) -> np.ndarray:
    """log P(w) of S sentences over J images' vectors (J, M): (S,) float64. first : (J, S), first-order scores."""
    scores = first.T.astype(np.float64)
    for row, sentence in zip(scores, sentences, strict=True):
        largest = np.argsort(-row, kind="stable")[:exact]
        scored = score_sentence(model, sentence, vectors[largest])
        row += (scored - row[largest]).mean()
        row[largest] = scored
    return log_normaliser(scores.T)


def _vectors(model: LateFusion, features: Features, images: np.ndarray) -> Tensor:
    """V_I I of the images of these numbers, in memory: (N, M) float32 on the CPU."""
    return torch.cat([part.cpu() for part in image_vectors(model, features, images)])

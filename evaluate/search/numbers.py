"""Search by numbers with a late-fusion model: the best images for a sentence, the best sentences for an image.

Images are ranked by log P(w | I), sentences by log P(w | I) - log P(w), as in the retrieval protocol
(mrnn.evaluate.retrieval.late_fusion). A gallery that takes seconds is scored exactly. In a larger one, first-order
scores (mrnn.evaluate.search.shortlist) choose a shortlist, and only that is scored exactly; RECALL tells how much of
the true best such shortlists held when that was measured.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np
import torch
from torch import Tensor

from mrnn.evaluate.retrieval.late_fusion import LateFusionScorer
from mrnn.evaluate.retrieval.one_sentence import score_sentence
from mrnn.evaluate.retrieval.prefix_tree import build_prefix_tree
from mrnn.evaluate.retrieval.ranking import largest
from mrnn.evaluate.search.gallery import Gallery
from mrnn.evaluate.search.index import SentenceIndex
from mrnn.evaluate.search.shortlist import ImageVectors, expand

CHEAP = 3e11  # multiply-adds that take a few seconds on one core; galleries up to this cost are scored exactly
CANDIDATES = 2  # sentences that get an exact P(w) at the end, per result
IMAGE_PERCENT, SENTENCE_PERCENT = 2.0, 5.0  # of the gallery in a shortlist: recalls above 0.99, see RECALL

# True: of images, False: of sentences. Percentage in the shortlist -> share of the true top 10 in it, with the anchors
# of mrnn.evaluate.search.gallery, on Flickr8k test. docs/search.md has the whole table, the command, the conditions.
RECALL: dict[bool, dict[float, float]] = {
    True: {0.5: 0.936, 1: 0.996, 2: 1.0, 5: 1.0, 10: 1.0, 20: 1.0},
    False: {0.5: 0.891, 1: 0.955, 2: 0.982, 5: 0.996, 10: 0.999, 20: 1.0},
}


@dataclass(frozen=True)
class Answer:
    """The best of a gallery, best first.

    numbers : (k,) int64 positions in the gallery
    scores : (k,) float64
    gallery : number of images or sentences in the gallery
    rescored : number of them whose log P(w | I) was scored exactly
    exact : whether all were, so that there was no shortlist
    """

    numbers: np.ndarray
    scores: np.ndarray
    gallery: int
    rescored: int
    exact: bool


def search_images(gallery: Gallery, sentence: Sequence[int], *, top: int, percent: float | None = None) -> Answer:
    """The images with the largest log P(w | I).

    gallery : what to search
    sentence : word numbers
    top : number of images to return
    percent : percentage of the gallery to score exactly, the best by first-order scores; None for 100 where that takes
        seconds, else IMAGE_PERCENT
    """
    pairs = len(gallery.images) * (len(sentence) + 1)
    percent = percent_to_score(gallery, pairs, IMAGE_PERCENT) if percent is None else percent
    index = gallery.image_index() if percent < 100 else None
    return find_images(gallery, sentence, top=top, index=index, percent=percent)


def find_images(
    gallery: Gallery,
    sentence: Sequence[int],
    *,
    top: int,
    index: ImageVectors | None = None,
    percent: float = 100.0,
) -> Answer:
    """The images with the largest log P(w | I); images with equal scores are in the order of the gallery.

    gallery, sentence, top : as for `search_images`
    index : of the images; None to score all of them exactly
    percent : percentage of the images to score exactly
    """
    model, size = gallery.model, len(gallery.images)
    shortlist = np.arange(size)
    if index is not None:
        first = index.first_order(expand(model, [sentence], index.anchors))[0].numpy()
        shortlist = np.sort(largest(first, shortlist_size(size, percent=percent, top=top)))
    scores = np.concatenate([score_sentence(model, sentence, part) for part in gallery.vectors(shortlist)])
    chosen = largest(scores, top)
    return Answer(shortlist[chosen], scores[chosen], size, len(shortlist), exact=len(shortlist) == size)


def search_sentences(
    gallery: Gallery, feature: Tensor, *, top: int, priors: np.ndarray, percent: float | None = None
) -> Answer:
    """The sentences with the largest log P(w | I) - log P(w).

    gallery : what to search
    feature : (D,) of the image
    top : number of sentences to return
    priors : (J,) numbers of the training images that P(w) is averaged over; J = 0 leaves P(w) out
    percent : as for `search_images`, with SENTENCE_PERCENT
    """
    words = sum(len(tokens) + 1 for tokens in gallery.sentences().tokens)
    percent = percent_to_score(gallery, words * (len(priors) + 1), SENTENCE_PERCENT) if percent is None else percent
    index = gallery.sentence_index(priors) if percent < 100 else None
    return find_sentences(gallery, feature, top=top, priors=priors, index=index, percent=percent)


def find_sentences(
    gallery: Gallery,
    feature: Tensor,
    *,
    top: int,
    priors: np.ndarray,
    index: SentenceIndex | None = None,
    percent: float = 100.0,
) -> Answer:
    """The sentences with the largest log P(w | I) - log P(w); equal ones are in the order of the gallery.

    gallery, feature, top, priors : as for `search_sentences`
    index : of the sentences; None to score both terms exactly for all of them
    percent : percentage of the sentences whose log P(w | I) is scored exactly; of these, the CANDIDATES * top best by
        the nearly exact log P(w) of the index get an exact log P(w) too
    """
    model, tokens = gallery.model, gallery.sentences().tokens
    size = len(tokens)
    if index is None:
        scores = gallery.scorer().score(feature)
        if len(priors):
            scores = scores - gallery.log_priors(priors)
        chosen = largest(scores, top)
        return Answer(chosen, scores[chosen], size, size, exact=True)
    with torch.inference_mode():
        vector = model.image(feature.to(model.output.weight)[None])[0].cpu()
    shortlist = np.sort(largest(index.first_order(vector), shortlist_size(size, percent=percent, top=top)))
    scores = LateFusionScorer(model, build_prefix_tree([tokens[i] for i in shortlist])).score(feature)
    rescored = len(shortlist)
    if len(priors):
        candidates = np.sort(largest(scores - index.log_prior[shortlist], CANDIDATES * top))
        shortlist, scores = shortlist[candidates], scores[candidates]
        scores = scores - gallery.log_priors_of(shortlist, priors)
    chosen = largest(scores, top)
    return Answer(shortlist[chosen], scores[chosen], size, rescored, exact=False)


def shortlist_size(gallery: int, *, percent: float, top: int) -> int:
    """Number of members in a shortlist of `percent` of a gallery: at least `top`, at most all.

    gallery : number of members of the gallery
    percent : percentage to take
    top : number of results wanted
    """
    return min(gallery, max(top, ceil(gallery * percent / 100)))


def measured_recall(percent: float, *, images: bool) -> float | None:
    """Share of the true top 10 that shortlists of this size held when measured; None if it is below all measured."""
    return max((recall for size, recall in RECALL[images].items() if size <= percent), default=None)


def percent_to_score(gallery: Gallery, states: int, default: float) -> float:
    """The percentage to score exactly: 100 where that takes seconds, else the default.

    gallery : what is searched
    states : number of pairs of a recurrent state and an image that scoring all would take
    default : percentage otherwise
    """
    return 100.0 if float(states) * gallery.model.output.weight.numel() <= CHEAP else default

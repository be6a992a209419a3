"""Search: the best images of a cache for a sentence, the best sentences of a cache for an image.

Sentence -> image ranks by log P(w | I), image -> sentence by log P(w | I) - log P(w), as the retrieval protocol does
(mrnn.evaluate.retrieval.late_fusion). A gallery that can be scored in seconds is scored exactly. A larger one is cut
down to a shortlist by first-order scores (mrnn.evaluate.search.shortlist), and only that is scored exactly; the share
of the true best that such a shortlist holds was measured, see RECALL.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mrnn.data.cache import FeatureCache
from mrnn.data.tokenize import tokenize
from mrnn.evaluate.fit import cache_digest, searchable_model, sha256_of
from mrnn.evaluate.retrieval.late_fusion import LateFusionScorer
from mrnn.evaluate.retrieval.one_sentence import image_vectors, score_sentence
from mrnn.evaluate.retrieval.pair_scorer import log_normaliser
from mrnn.evaluate.retrieval.prefix_tree import build_prefix_tree
from mrnn.evaluate.search.index import SentenceIndex, image_index, sentence_index
from mrnn.evaluate.search.shortlist import ImageVectors, best, expand
from mrnn.train.checkpoint import TrainedModel
from mrnn.train.features import Features
from mrnn.train.models.captioner import LateFusion

CHEAP = 3e11  # multiply-adds that take a few seconds on one core; galleries up to here are scored exactly
CANDIDATES = 2  # sentences whose P(w) is exact at the end, for each one shown
IMAGE_ANCHORS, SENTENCE_ANCHORS = 64, 8
IMAGE_PERCENT, SENTENCE_PERCENT = 2.0, 5.0  # of the gallery in a shortlist: recalls above 0.99, see RECALL

# By whether images are searched (else sentences): percent in the shortlist -> share of the true top 10 in it, with the
# anchors above, on Flickr8k test. docs/search.md has the whole table, the command and the conditions.
RECALL: dict[bool, dict[float, float]] = {
    True: {0.5: 0.936, 1: 0.996, 2: 1.0, 5: 1.0, 10: 1.0, 20: 1.0},
    False: {0.5: 0.891, 1: 0.955, 2: 0.982, 5: 0.996, 10: 0.999, 20: 1.0},
}


@dataclass(frozen=True)
class Gallery:
    """What is searched: the images of these numbers of a cache, by a model. split : of the images, None for all.

    folder : where index files are kept.
    """

    trained: TrainedModel
    cache: FeatureCache
    images: np.ndarray
    features: Features
    split: str | None
    folder: Path

    @property
    def model(self) -> LateFusion:
        """The model. Raises EvaluationError for a kind that cannot be searched with."""
        return searchable_model(self.trained)

    def about(self) -> dict[str, str | None]:
        """What an index file depends on."""
        return {
            "checkpoint_sha256": sha256_of(self.trained.file),
            "cache_sha256": cache_digest(self.cache),
            "split": self.split,
        }

    def index_file(self, kind: str) -> Path:
        """Where the index of the images, or of the sentences, is kept."""
        return self.folder / f"{kind}-{self.split or 'all'}.safetensors"


@dataclass(frozen=True)
class Answer:
    """The best of a gallery, best first.

    numbers : (k,) int64, positions in the gallery. scores : (k,) float64. gallery : its size. rescored : how many of it
    had log P(w | I) scored exactly. exact : there was no shortlist.
    """

    numbers: np.ndarray
    scores: np.ndarray
    gallery: int
    rescored: int
    exact: bool


@dataclass(frozen=True)
class GallerySentences:
    """The sentences of a gallery's images; those that are equal to the model count once.

    tokens : word numbers of each. texts : as first written. images : (S,) int64, the number of the first one's image.
    """

    tokens: list[np.ndarray]
    texts: list[str]
    images: np.ndarray


def gallery_sentences(gallery: Gallery) -> GallerySentences:
    """The different sentences with a word in them, in the order of the cache."""
    first: dict[tuple[int, ...], tuple[str, int]] = {}
    for number in gallery.images.tolist():
        for text in gallery.cache.images[number].sentences:
            tokens = tuple(gallery.trained.vocabulary.encode(tokenize(text)))
            if tokens:
                first.setdefault(tokens, (text, number))
    tokens_of = [np.array(tokens) for tokens in first]
    images = np.array([number for _, number in first.values()], dtype=np.int64)
    return GallerySentences(tokens_of, [text for text, _ in first.values()], images)


def search_images(gallery: Gallery, sentence: Sequence[int], *, top: int, percent: float | None = None) -> Answer:
    """Images by log P(w | I) of a sentence, given as word numbers.

    percent : of the gallery to score exactly, the best by first-order scores; None for what is done in seconds.
    """
    pairs = len(gallery.images) * (len(sentence) + 1)
    percent = _percent(gallery, pairs, IMAGE_PERCENT) if percent is None else percent
    index = None
    if percent < 100:
        index = image_index(
            gallery.index_file("images"),
            gallery.about(),
            gallery.model,
            gallery.features,
            gallery.images,
            anchors=IMAGE_ANCHORS,
        )
    return find_images(gallery, sentence, top=top, index=index, percent=percent)


def find_images(
    gallery: Gallery,
    sentence: Sequence[int],
    *,
    top: int,
    index: ImageVectors | None = None,
    percent: float = 100.0,
) -> Answer:
    """The `top` images of the largest log P(w | I), equal ones in the order of the gallery.

    index : the gallery's images, of which `percent` are scored exactly; without it all are.
    """
    model, size = gallery.model, len(gallery.images)
    shortlist = np.arange(size)
    if index is not None:
        first = index.first_order(expand(model, [sentence], index.anchors))[0].numpy()
        shortlist = np.sort(best(first, shortlist_size(size, percent=percent, top=top)))
    parts = image_vectors(model, gallery.features, gallery.images[shortlist])
    scores = np.concatenate([score_sentence(model, sentence, part) for part in parts])
    chosen = best(scores, top)
    return Answer(shortlist[chosen], scores[chosen], size, len(shortlist), exact=len(shortlist) == size)


def search_sentences(
    gallery: Gallery,
    sentences: GallerySentences,
    feature: Tensor,
    *,
    top: int,
    priors: np.ndarray,
    percent: float | None = None,
) -> Answer:
    """Sentences by log P(w | I) - log P(w) for the feature (D,) of an image.

    priors : numbers of the J training images that P(w) is averaged over; J = 0 leaves P(w) out. percent : see
    `search_images`.
    """
    words = sum(len(tokens) + 1 for tokens in sentences.tokens)
    percent = _percent(gallery, words * (len(priors) + 1), SENTENCE_PERCENT) if percent is None else percent
    index = None
    if percent < 100:
        index = sentence_index(
            gallery.index_file("sentences"),
            {**gallery.about(), "priors": priors.tolist()},
            gallery.model,
            gallery.features,
            gallery.images,
            sentences.tokens,
            priors=priors,
            anchors=SENTENCE_ANCHORS,
        )
    return find_sentences(gallery, sentences, feature, top=top, priors=priors, index=index, percent=percent)


def find_sentences(
    gallery: Gallery,
    sentences: GallerySentences,
    feature: Tensor,
    *,
    top: int,
    priors: np.ndarray,
    index: SentenceIndex | None = None,
    percent: float = 100.0,
) -> Answer:
    """The `top` sentences of the largest log P(w | I) - log P(w), equal ones in the order of the gallery.

    index : of the sentences, of which `percent` have log P(w | I) scored exactly. By the index's nearly exact log P(w)
    CANDIDATES * top of them are kept, and these get an exact log P(w) too. Without an index both are exact for all.
    """
    model, size = gallery.model, len(sentences.tokens)
    shortlist = np.arange(size)
    if index is not None:
        with torch.inference_mode():
            vector = model.image(feature.to(model.output.weight)[None])[0].cpu()
        shortlist = np.sort(best(index.first_order(vector), shortlist_size(size, percent=percent, top=top)))
    scorer = LateFusionScorer(model, build_prefix_tree([sentences.tokens[i] for i in shortlist]))
    scores = scorer.score(feature)
    rescored = len(shortlist)
    if index is not None and len(priors):
        candidates = np.sort(best(scores - index.log_prior[shortlist], CANDIDATES * top))
        shortlist, scores = shortlist[candidates], scores[candidates]
        vectors = torch.cat([*image_vectors(model, gallery.features, priors)])
        scores -= [log_normaliser(score_sentence(model, sentences.tokens[i], vectors)) for i in shortlist]
    elif len(priors):
        scores -= log_normaliser(np.stack([scorer.score(row) for row in gallery.features[priors]]))
    chosen = best(scores, top)
    return Answer(shortlist[chosen], scores[chosen], size, rescored, exact=index is None)


def shortlist_size(gallery: int, *, percent: float, top: int) -> int:
    """Members of a gallery that `percent` of it are, at least `top`, at most all."""
    return min(gallery, max(top, ceil(gallery * percent / 100)))


def measured_recall(percent: float, *, images: bool) -> float | None:
    """Share of the true top 10 that shortlists of this size held when measured; None below the smallest measured."""
    return max((recall for size, recall in RECALL[images].items() if size <= percent), default=None)


def _percent(gallery: Gallery, states: int, default: float) -> float:
    """100 where scoring so many pairs of a state and an image exactly is a matter of seconds."""
    return 100.0 if float(states) * gallery.model.output.weight.numel() <= CHEAP else default

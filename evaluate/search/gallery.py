"""What is searched: images of a cache with their sentences, and what is kept in memory between searches."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

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
from mrnn.evaluate.search.once import Once
from mrnn.evaluate.search.shortlist import ImageVectors
from mrnn.train.checkpoint import TrainedModel
from mrnn.train.features import Features
from mrnn.train.models.captioner import LateFusion

KEPT_BYTES = 2**30  # largest size of the vectors of all images, regions or words that are kept between searches
IMAGE_ANCHORS, SENTENCE_ANCHORS = 64, 8

Part = TypeVar("Part")


@dataclass(frozen=True)
class Gallery:
    """What is searched, and by which model. What a search has to compute once is kept in memory for the next one.

    trained : the model
    cache : where the images and their sentences are
    images : (N,) int64 numbers of the images in the cache
    features : of the cache
    split : of the images, None for all
    folder : where index files are kept; None to keep indexes in memory only

    Threads may share it. What is kept: the sentences, the indexes (mrnn.evaluate.search.index), log P(w) of sentences
    or mean and deviation of S, and vectors of all images, regions and words where each take at most KEPT_BYTES.
    """

    trained: TrainedModel
    cache: FeatureCache
    images: np.ndarray
    features: Features
    split: str | None
    folder: Path | None
    keep: Once = field(init=False, default_factory=Once, repr=False, compare=False)

    @property
    def model(self) -> LateFusion:
        """The model. Raises EvaluationError for a kind that cannot be searched with."""
        return searchable_model(self.trained)

    def sentences(self) -> "GallerySentences":
        """The different sentences of the images; see `gallery_sentences`."""
        return self.keep("sentences", lambda: gallery_sentences(self))

    def about(self) -> dict[str, Any]:
        """The values that an index file depends on."""
        return self.keep(
            "about",
            lambda: {
                "checkpoint_sha256": sha256_of(self.trained.file),
                "cache_sha256": cache_digest(self.cache),
                "split": self.split,
            },
        )

    def image_index(self) -> ImageVectors:
        """The index of the images."""
        return self.keep("image index", self._image_index)

    def sentence_index(self, priors: np.ndarray) -> SentenceIndex:
        """The index of the sentences. priors : as for `search_sentences`."""
        return self.keep(("sentence index", priors.tobytes()), lambda: self._sentence_index(priors))

    def vectors(self, chosen: np.ndarray) -> Iterator[Tensor]:
        """V_I I of some images of the gallery, given by their positions in it, in parts of (n, M)."""
        if len(chosen) < len(self.images):
            yield from image_vectors(self.model, self.features, self.images[chosen])
        else:
            size = len(self.images) * self.model.output.weight.shape[1]
            yield from self.parts("vectors", size, lambda: image_vectors(self.model, self.features, self.images))

    def parts(self, key: str, size: int, compute: Callable[[], Iterator[Part]]) -> Iterable[Part]:
        """What `compute` yields: kept in memory for the next search if it takes at most KEPT_BYTES, else computed anew.

        key : what it is
        size : of all parts together, in numbers of float32
        """
        if 4 * size > KEPT_BYTES:
            return compute()
        kept: list[Part] = self.keep(key, lambda: [*compute()])
        return kept

    def scorer(self) -> LateFusionScorer:
        """The scores of all sentences under an image."""
        return self.keep("scorer", lambda: LateFusionScorer(self.model, build_prefix_tree(self.sentences().tokens)))

    def log_priors(self, priors: np.ndarray) -> np.ndarray:
        """log P(w) of all sentences, (S,) float64. priors : (J,) numbers of training images, J > 0."""
        return self.keep(
            ("log priors", priors.tobytes()),
            lambda: log_normaliser(np.stack([self.scorer().score(row) for row in self.features[priors]])),
        )

    def log_priors_of(self, sentences: np.ndarray, priors: np.ndarray) -> np.ndarray:
        """log P(w) of a few sentences, by their numbers: (n,) float64; each is computed once."""
        known = self.keep(("few log priors", priors.tobytes()), lambda: np.full(len(self.sentences().tokens), np.nan))
        missing = sentences[np.isnan(known[sentences])]
        if len(missing):
            vectors = torch.cat([*image_vectors(self.model, self.features, priors)])
            tokens = self.sentences().tokens
            known[missing] = [log_normaliser(score_sentence(self.model, tokens[i], vectors)) for i in missing]
        return known[sentences]

    def index_file(self, kind: str) -> Path | None:
        """The file of an index, by its kind; None where indexes are kept in memory only."""
        return None if self.folder is None else self.folder / f"{kind}-{self.split or 'all'}.safetensors"

    def _image_index(self) -> ImageVectors:
        about, model = self.about() if self.folder else {}, self.model
        return image_index(self.index_file("images"), about, model, self.features, self.images, anchors=IMAGE_ANCHORS)

    def _sentence_index(self, priors: np.ndarray) -> SentenceIndex:
        return sentence_index(
            self.index_file("sentences"),
            {**(self.about() if self.folder else {}), "priors": priors.tolist()},
            self.model,
            self.features,
            self.images,
            self.sentences().tokens,
            priors=priors,
            anchors=SENTENCE_ANCHORS,
        )


@dataclass(frozen=True)
class GallerySentences:
    """The S different sentences of a gallery; sentences with the same word numbers count once.

    tokens : word numbers of each
    texts : each as the first image has it
    images : (S,) int64, number of the first image that has it
    """

    tokens: list[np.ndarray]
    texts: list[str]
    images: np.ndarray


@dataclass(frozen=True)
class SharedGallery(Gallery):
    """A gallery of one of several models that search together.

    said : the different sentences, in the same order for all of the models
    together : digests of the checkpoints of all of them, which decide on what sentences differ
    """

    said: GallerySentences
    together: tuple[str, ...]

    def sentences(self) -> GallerySentences:
        """See `Gallery`."""
        return self.said

    def about(self) -> dict[str, Any]:
        """See `Gallery`."""
        return {**super().about(), "together": list(self.together)}


def gallery_sentences(gallery: Gallery) -> GallerySentences:
    """The different sentences of a gallery that have a word, in the order of the cache."""
    first: dict[tuple[int, ...], tuple[str, int]] = {}
    for number in gallery.images.tolist():
        for text in gallery.cache.images[number].sentences:
            tokens = tuple(gallery.trained.vocabulary.encode(tokenize(text)))
            if tokens:
                first.setdefault(tokens, (text, number))
    tokens_of = [np.array(tokens) for tokens in first]
    images = np.array([number for _, number in first.values()], dtype=np.int64)
    return GallerySentences(tokens_of, [text for text, _ in first.values()], images)

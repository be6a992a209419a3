"""V_m(I, w): what one model of a combination says of images and sentences, as mrnn.evaluate.retrieval.combination does.

A captioner says log P(w | I) - log P(w). A model that matches says (z - mean) / deviation of z over J training images,
z = (S - mean) / deviation of the image's scores S over their sentences, or what local scaling makes of the two means
(mrnn.evaluate.retrieval.two_towers). Without training images these are log P(w | I) and S.

Mean and deviation of an image or a sentence are computed once, when it is first asked for, and kept, in a file too
where a folder is named.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mrnn.evaluate.pool import build_pool
from mrnn.evaluate.retrieval.late_fusion import LateFusionScorer
from mrnn.evaluate.retrieval.one_sentence import image_vectors, score_sentence
from mrnn.evaluate.retrieval.pair_scorer import log_normaliser
from mrnn.evaluate.retrieval.prefix_tree import build_prefix_tree
from mrnn.evaluate.retrieval.two_towers import IMAGES, moments, numbered_sentences
from mrnn.evaluate.search.gallery import KEPT_BYTES, Gallery
from mrnn.evaluate.search.moments import Moments
from mrnn.evaluate.search.shortlist import expand
from mrnn.evaluate.search.towers import SENTENCES, kept_regions, regions_of
from mrnn.train.features import RegionRows
from mrnn.train.models.two_towers import TwoTowers
from mrnn.train.pair_scores import WordVectors, pair_scores, region_vectors, word_vectors


@dataclass(frozen=True)
class MemberValues(ABC):
    """One model, what it searches, and the training images that its values are normalised over.

    gallery : images and different sentences, the same for all models of the combination
    priors : (J,) numbers of the training images in its cache
    """

    gallery: Gallery
    priors: np.ndarray

    @abstractmethod
    def images(self, tokens: Sequence[int], chosen: np.ndarray) -> np.ndarray:
        """V_m of a sentence with some images of the gallery, by their positions: (n,) float64. tokens : its words."""

    @abstractmethod
    def sentences(self, rows: RegionRows, image: int, chosen: np.ndarray, *, nearly: bool = False) -> np.ndarray:
        """V_m of some sentences of the gallery, by their numbers, with an image: (n,) float64.

        rows, image : the image, by its number among some rows
        nearly : whether log P(w) may be the nearly exact one of the sentence index
        """


@dataclass(frozen=True)
class CaptionerValues(MemberValues):
    """See `MemberValues`, for a late-fusion model."""

    def images(self, tokens: Sequence[int], chosen: np.ndarray) -> np.ndarray:
        """See `MemberValues`."""
        gallery = self.gallery
        found = [score_sentence(gallery.model, tokens, part) for part in gallery.vectors(chosen)]
        return np.concatenate(found) - self._log_prior(tokens)

    def sentences(self, rows: RegionRows, image: int, chosen: np.ndarray, *, nearly: bool = False) -> np.ndarray:
        """See `MemberValues`."""
        gallery, feature = self.gallery, rows[np.array([image])][0]
        tokens = gallery.sentences().tokens
        every = len(chosen) == len(tokens)
        if every:
            scores = gallery.scorer().score(feature)
        else:
            scores = LateFusionScorer(gallery.model, build_prefix_tree([tokens[n] for n in chosen])).score(feature)
        if not len(self.priors):
            return scores
        if nearly:
            return scores - gallery.sentence_index(self.priors).log_prior[chosen]
        return scores - (gallery.log_priors(self.priors) if every else gallery.log_priors_of(chosen, self.priors))

    def first_images(self, tokens: Sequence[int]) -> np.ndarray:
        """V_m of a sentence with all images to first order, log P(w) left out: (N,) float32."""
        index = self.gallery.image_index()
        return index.first_order(expand(self.gallery.model, [tokens], index.anchors))[0].numpy()

    @torch.inference_mode()
    def first_sentences(self, rows: RegionRows, image: int) -> np.ndarray:
        """V_m of all sentences with an image to first order: (S,) float32."""
        model = self.gallery.model
        vector = model.image(rows[np.array([image])].to(model.output.weight))[0].cpu()
        return self.gallery.sentence_index(self.priors).first_order(vector)

    def _log_prior(self, tokens: Sequence[int]) -> float:
        gallery = self.gallery
        if not len(self.priors):
            return 0.0
        key = ("vectors of priors", self.priors.tobytes())
        vectors = gallery.keep(key, lambda: [*image_vectors(gallery.model, gallery.features, self.priors)])
        return float(log_normaliser(score_sentence(gallery.model, tokens, torch.cat(vectors))))


@dataclass(frozen=True)
class TowerValues(MemberValues):
    """See `MemberValues`, for a model of two towers. local : whether with local scaling."""

    local: bool

    @property
    def model(self) -> TwoTowers:
        """The model."""
        model: TwoTowers = self.gallery.trained.model
        return model

    def images(self, tokens: Sequence[int], chosen: np.ndarray) -> np.ndarray:
        """See `MemberValues`."""
        model, gallery = self.model, self.gallery
        words = word_vectors(model, numbered_sentences([tokens]))

        def scores(parts: Iterable[Tensor]) -> np.ndarray:
            return np.concatenate([pair_scores(words, part, score=model.score)[0].cpu().numpy() for part in parts])

        every = len(chosen) == len(gallery.images)
        some = regions_of(model, gallery.features, gallery.images[chosen])
        found = scores(kept_regions(model, gallery) if every else some)
        if not len(self.priors):
            return found.astype(np.float64)
        training = regions_of(model, gallery.features, self.priors)
        (mean,), (deviation,) = self._moments(standardised(scores(training), self._of_priors())[:, None])
        return (standardised(found, self._of_images()(chosen)) - mean) / deviation

    def sentences(self, rows: RegionRows, image: int, chosen: np.ndarray, *, nearly: bool = False) -> np.ndarray:
        """See `MemberValues`."""
        regions = region_vectors(self.model, rows, np.array([image]))
        found = self._with(regions, chosen)[:, 0]
        if not len(self.priors):
            return found.astype(np.float64)
        own = self._of_regions(regions)
        mean, deviation = self._of_sentences()(chosen).T
        return (standardised(found, own) - mean) / deviation.astype(np.float64)

    def _with(self, regions: Tensor, sentences: np.ndarray) -> np.ndarray:
        """S of some sentences with some images, (n, images) float32. regions : of the images."""
        return np.concatenate(
            [
                pair_scores(self._words(sentences[start : start + SENTENCES]), regions, score=self.model.score)
                .cpu()
                .numpy()
                for start in range(0, len(sentences), SENTENCES)
            ]
        )

    def _words(self, sentences: np.ndarray) -> WordVectors:
        """The vectors of some sentences; those of all are kept in memory if they take at most KEPT_BYTES."""
        model, tokens = self.model, self.gallery.sentences().tokens
        if 4 * model.config.joint * sum(map(len, tokens)) > KEPT_BYTES:
            return word_vectors(model, numbered_sentences([tokens[n] for n in sentences]))
        kept = self.gallery.keep("words", lambda: word_vectors(model, numbered_sentences(tokens)))
        return kept.chosen(sentences)

    def _of_regions(self, regions: Tensor) -> np.ndarray:
        """Mean and deviation over the training sentences of the scores of images, given by their regions: (n, 2)."""
        words = self.gallery.keep(("training words", self.priors.tobytes()), self._training_words)
        scores = pair_scores(words, regions, score=self.model.score).cpu().numpy()
        return np.stack(self._moments(scores), axis=1)

    def _training_words(self) -> WordVectors:
        gallery = self.gallery
        said = build_pool(gallery.cache, self.priors).sentences
        tokens = [gallery.trained.vocabulary.encode(sentence.words) for sentence in said]
        return word_vectors(self.model, numbered_sentences(tokens))

    def _moments(self, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return moments(scores, local=self.local)

    def _moments_of(self, images: np.ndarray) -> np.ndarray:
        """The same of images given by their numbers in the cache."""
        return self._of_regions(region_vectors(self.model, self.gallery.features, images))

    def _of_priors(self) -> np.ndarray:
        """The same of the training images, (J, 2)."""
        found = self._kept(
            "training images", len(self.priors), lambda n: self._moments_of(self.priors[n]), block=IMAGES
        )
        return found(np.arange(len(self.priors)))

    def _of_images(self) -> Moments:
        """The same of the images of the gallery."""
        images = self.gallery.images
        return self._kept("images", len(images), lambda n: self._moments_of(images[n]), block=IMAGES)

    def _of_sentences(self) -> Moments:
        """Mean and deviation of z of the sentences of the gallery over the training images."""

        def compute(sentences: np.ndarray) -> np.ndarray:
            training = region_vectors(self.model, self.gallery.features, self.priors)
            return np.stack(self._moments(standardised(self._with(training, sentences).T, self._of_priors())), axis=1)

        return self._kept("sentences", len(self.gallery.sentences().tokens), compute, block=SENTENCES)

    def _kept(self, label: str, count: int, compute: Callable[[np.ndarray], np.ndarray], *, block: int) -> Moments:
        gallery = self.gallery

        def make() -> Moments:
            about = gallery.about() | {"priors": self.priors.tolist(), "local": self.local} if gallery.folder else {}
            file = gallery.index_file(f"moments-of-{label.replace(' ', '-')}")
            return Moments(label, count, compute, block=block, file=file, about=about)

        return gallery.keep((f"moments of {label}", self.priors.tobytes(), self.local), make)


def standardised(scores: np.ndarray, table: np.ndarray) -> np.ndarray:
    """z of the scores of n images, (n,) or (n, S), from their means and deviations, (n, 2); rounded as in `Scores`."""
    mean, deviation = (column.reshape(-1, *[1] * (scores.ndim - 1)) for column in table.T)
    return ((scores - mean) / deviation).astype(np.float32)

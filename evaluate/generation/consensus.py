"""Consensus re-ranking: of the captions that a beam search ends with, take the one most like those of similar pictures.

Mao et al. 2015 (arXiv 1412.6632, section "Consensus reranking"), as their program does it:

1. a beam search of width 10 gives the candidates;
2. the nearest training images, by the distance of the image's contribution to the multimodal layer, V_I I;
3. CIDEr of each candidate with every caption of those images (mrnn.data.cider), document frequencies
   of the training captions;
4. the candidate with the largest sum of its m largest similarities wins.

Here the sum is divided by m, which changes no order, so that a weight on log P per word, which the paper does not have,
means the same for every m. Where there are fewer captions than m, all count. An image is never its own neighbour. At
equal distances the earlier training image is nearer, and of two candidates with the same score the one that the search
had first wins. Captions that were cut stay behind complete ones.

The paper's model adds V_I I to the multimodal layer. For a captioner that does not (no LateFusion), the centred feature
I takes its place, and for an ensemble the vectors of all members, one after the other.
"""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mrnn.data.cache import FeatureCache, open_cache
from mrnn.data.cider import SentenceVectors
from mrnn.data.errors import EvaluationError
from mrnn.data.tokenize import tokenize
from mrnn.evaluate.fit import check_features, features_for
from mrnn.evaluate.generation.decode import Caption
from mrnn.evaluate.settings import ConsensusConfig
from mrnn.train.checkpoint import TrainedModel
from mrnn.train.features import Features
from mrnn.train.sentences import tokenized_sentences

IMAGES_READ = 1024  # training images whose vectors are computed at a time


class Consensus:
    """Scores the captions of beams by the training images and captions of a cache."""

    def __init__(self, trained: TrainedModel, cache: FeatureCache, features: Features, config: ConsensusConfig) -> None:
        """
        trained : the captioner that the captions are of.
        cache, features : of the training images, extracted as for the model.
        config : how the captions are scored.

        Raises EvaluationError as `check_consensus` does.
        """
        check_consensus(trained, cache)
        words, owners = tokenized_sentences(cache, cache.done("train"))
        owners = owners[[bool(each) for each in words]]
        words = [each for each in words if each]
        self.config, self._decode = config, trained.vocabulary.decode
        # In float64, so that distances, and with them the neighbours, do not depend on what is computed together.
        self._model = deepcopy(trained.model).double()
        self._sentences = SentenceVectors.of_images(words, owners)
        self._images, self._starts = np.unique(owners, return_index=True)  # both rising: sentences are listed by image
        self._ends = np.append(self._starts[1:], len(owners))
        parts = np.array_split(self._images, -(-len(self._images) // IMAGES_READ))
        self._vectors = torch.cat([self._vectors_of(features[part]) for part in parts])

    @classmethod
    def open(cls, trained: TrainedModel, file: str | Path, config: ConsensusConfig) -> "Consensus":
        """From the file of a cache. Raises EvaluationError if its features are others than the model was trained on."""
        cache = open_cache(file)
        check_features(trained, cache)
        return cls(trained, cache, features_for(trained, cache), config)

    def rank(self, features: Tensor, beams: Sequence[Sequence[Caption]]) -> list[list[Caption]]:
        """The captions of each beam, the best first, of images that are not of the cache; arguments as for `scores`."""
        return [by_consensus(*each) for each in zip(beams, self.scores(features, beams), strict=True)]

    def scores(
        self, features: Tensor, beams: Sequence[Sequence[Caption]], *, images: np.ndarray | None = None
    ) -> list[list[float]]:
        """The score of every caption of every beam.

        features : (B, D), stored features of the images.
        beams : the captions of each.
        images : (B,) int, their numbers in the cache of the training images, None if they are not from there.
        """
        # Every pair by itself, not as a matrix product, whose rounding depends on the other images.
        distances = torch.cdist(
            self._vectors_of(features), self._vectors, compute_mode="donot_use_mm_for_euclid_dist"
        ).numpy()
        if images is not None:
            distances[images[:, None] == self._images] = np.inf
        return [self._scores(row, beam) for row, beam in zip(distances, beams, strict=True)]

    def _scores(self, distances: np.ndarray, beam: Sequence[Caption]) -> list[float]:
        near = nearest(distances, self.config.consensus_images)
        sentences = [np.arange(self._starts[place], self._ends[place]) for place in near]
        if not sentences:  # the only training image is the image itself
            means = np.zeros(len(beam))
        else:
            candidates = [self._decode(caption.words) for caption in beam]
            found = np.sort(self._sentences.similarities(candidates, np.concatenate(sentences)), axis=1)
            means = found[:, ::-1][:, : self.config.consensus_captions].mean(axis=1)
        weight = self.config.consensus_log_prob
        return [
            float(mean) + weight * caption.log_prob / len(caption.log_probs)
            for mean, caption in zip(means, beam, strict=True)
        ]

    @torch.inference_mode()
    def _vectors_of(self, features: Tensor) -> Tensor:
        """The vectors between which distances are taken: (n, D) -> (n, M) float32 on the CPU."""
        weight = next(self._model.parameters())
        vectors = self._model.image_vector(features.to(weight))
        if self.config.consensus_distance == "cosine":  # of unit vectors, both distances have the same order
            vectors = torch.nn.functional.normalize(vectors, dim=1)
        return vectors.float().cpu()


def check_consensus(trained: TrainedModel, cache: FeatureCache) -> None:
    """Raise EvaluationError for a captioner that does not see images, or a cache without training captions."""
    if not trained.model.sees_images:
        raise EvaluationError(
            f"{trained.file} is an {trained.name}, which does not look at images, so no training image is near; "
            "leave out --consensus"
        )
    if not any(any(map(tokenize, cache.images[i].sentences)) for i in cache.done("train")):
        raise EvaluationError(
            f"{cache.path} has no captions of training images to compare with; give the cache of the training "
            "set, or leave out --consensus"
        )


def nearest(distances: np.ndarray, count: int) -> np.ndarray:
    """Places of the `count` smallest of (N,) distances, the earlier of equal ones first; inf is never among them."""
    count = min(count, int(np.isfinite(distances).sum()))
    if not count:
        return np.zeros(0, dtype=np.int64)
    within = np.flatnonzero(distances <= np.partition(distances, count - 1)[count - 1])
    return within[np.argsort(distances[within], kind="stable")][:count]


def by_consensus(beam: Sequence[Caption], scores: Sequence[float]) -> list[Caption]:
    """The captions of a beam with their scores, the best first; complete ones before those that were cut."""
    order = sorted(range(len(beam)), key=lambda place: (not beam[place].complete, -scores[place]))
    return [replace(beam[place], consensus=scores[place]) for place in order]

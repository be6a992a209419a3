"""Search with a model of two towers: every image or sentence of a gallery is scored, as one tiled matrix product.

Images are ranked by the score S, sentences by S standardised over training images. The retrieval protocol standardises
the scores of each image, too (mrnn.evaluate.retrieval.two_towers).
"""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from mrnn.data.progress import Progress
from mrnn.evaluate.retrieval.ranking import largest
from mrnn.evaluate.retrieval.two_towers import IMAGES, moments, numbered_sentences
from mrnn.evaluate.search.gallery import Gallery
from mrnn.evaluate.search.numbers import Answer
from mrnn.train.features import RegionRows
from mrnn.train.models.two_towers import TwoTowers
from mrnn.train.pair_scores import WordVectors, pair_scores, region_vectors, word_vectors

SENTENCES = 4096  # scored at a time: with 1,000 training images 16 MB of scores


def match_images(model: TwoTowers, gallery: Gallery, sentence: Sequence[int], *, top: int) -> Answer:
    """The images with the largest S; images with equal scores are in the order of the gallery.

    sentence : word numbers
    top : number of images to return
    """
    words = word_vectors(model, numbered_sentences([sentence]))
    parts = [pair_scores(words, regions, score=model.score)[0] for regions in kept_regions(model, gallery)]
    return _best(torch.cat(parts).cpu().numpy(), top)


def match_sentences(
    model: TwoTowers,
    gallery: Gallery,
    rows: RegionRows,
    image: int,
    *,
    top: int,
    priors: np.ndarray,
) -> Answer:
    """The sentences with the largest (S - mean) / deviation; equal ones are in the order of the gallery.

    rows, image : the image, by its number among the rows
    top : number of sentences to return
    priors : (J,) numbers of the training images that mean and deviation of each sentence are taken over; with J = 0,
        sentences are ranked by S alone
    """
    asked = region_vectors(model, rows, np.array([image]))
    key = ("moments", priors.tobytes())
    mean, deviation = gallery.keep(key, lambda: _moments(model, gallery, priors))
    scores = np.concatenate([scores[:, 0] for scores in _scores(model, gallery, asked)]).astype(np.float64)
    return _best((scores - mean) / deviation, top)


def _scores(model: TwoTowers, gallery: Gallery, regions: Tensor) -> Iterator[np.ndarray]:
    """S of the sentences of a gallery with some images, part by part: (n, images) float32. regions : the images'."""
    for words in _words(model, gallery):
        yield pair_scores(words, regions, score=model.score).cpu().numpy()


def kept_regions(model: TwoTowers, gallery: Gallery) -> Iterable[Tensor]:
    """The vectors of the regions of a gallery's images, part by part, each (R, n, h); see `Gallery.parts`."""
    size = model.config.joint * gallery.features.rows * len(gallery.images)
    return gallery.parts("regions", size, lambda: regions_of(model, gallery.features, gallery.images))


def regions_of(model: TwoTowers, features: RegionRows, images: np.ndarray) -> Iterator[Tensor]:
    """The vectors of the regions of some images, given by their numbers, part by part, each (R, n, h)."""
    for start in range(0, len(images), IMAGES):
        yield region_vectors(model, features, images[start : start + IMAGES])


def _words(model: TwoTowers, gallery: Gallery) -> Iterable[WordVectors]:
    """The vectors of the sentences of a gallery, part by part; see `Gallery.parts`."""
    tokens = gallery.sentences().tokens
    size = model.config.joint * sum(map(len, tokens))
    return gallery.parts("words", size, lambda: _compute_words(model, tokens))


def _compute_words(model: TwoTowers, tokens: Sequence[np.ndarray]) -> Iterator[WordVectors]:
    with Progress("search", len(tokens), unit="sentences") as progress:
        for start in range(0, len(tokens), SENTENCES):
            part = tokens[start : start + SENTENCES]
            yield word_vectors(model, numbered_sentences(part))
            progress.add(len(part))


def _moments(model: TwoTowers, gallery: Gallery, priors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation of S of each sentence over training images, each (S,); 0 and 1 without any."""
    if not len(priors):
        return np.zeros(len(gallery.sentences().tokens)), np.ones(len(gallery.sentences().tokens))
    training = region_vectors(model, gallery.features, priors)
    found = [moments(scores.T) for scores in _scores(model, gallery, training)]
    return np.concatenate([mean for mean, _ in found]), np.concatenate([deviation for _, deviation in found])


def _best(scores: np.ndarray, top: int) -> Answer:
    chosen = largest(scores, top)
    return Answer(chosen, scores[chosen].astype(np.float64), len(scores), len(scores), exact=True)

"""Search with a model of two towers: every image or sentence of a gallery is scored, as one tiled matrix product.

Images are ranked by the score S, sentences by S standardised over training images. The retrieval protocol standardises
the scores of each image, too (mrnn.evaluate.retrieval.two_towers).
"""

from collections.abc import Sequence

import numpy as np

from mrnn.data.progress import Progress
from mrnn.evaluate.retrieval.ranking import largest
from mrnn.evaluate.retrieval.two_towers import IMAGES, TowerPairs, moments, numbered_sentences
from mrnn.evaluate.search.gallery import Answer, Gallery, GallerySentences
from mrnn.train.features import RegionRows
from mrnn.train.models.two_towers import TwoTowers
from mrnn.train.pair_scores import pair_scores, region_vectors, word_vectors

SENTENCES = 4096  # scored at a time: with 1,000 training images 16 MB of scores


def match_images(model: TwoTowers, gallery: Gallery, sentence: Sequence[int], *, top: int) -> Answer:
    """The images with the largest S; images with equal scores are in the order of the gallery.

    sentence : word numbers
    top : number of images to return
    """
    pairs, size = TowerPairs(model, [sentence], gallery.features), len(gallery.images)
    parts = [pairs.score_images(gallery.images[start : start + IMAGES])[:, 0] for start in range(0, size, IMAGES)]
    return _best(np.concatenate(parts), top)


def match_sentences(
    model: TwoTowers,
    gallery: Gallery,
    sentences: GallerySentences,
    rows: RegionRows,
    image: int,
    *,
    top: int,
    priors: np.ndarray,
) -> Answer:
    """The sentences with the largest (S - mean) / deviation; equal ones are in the order of the gallery.

    sentences : of the gallery
    rows, image : the image, by its number among the rows
    top : number of sentences to return
    priors : (J,) numbers of the training images that mean and deviation of each sentence are taken over; with J = 0,
        sentences are ranked by S alone
    """
    asked = region_vectors(model, rows, np.array([image]))
    training = region_vectors(model, gallery.features, priors) if len(priors) else None
    found = []
    with Progress("search", len(sentences.tokens), unit="sentences") as progress:
        for start in range(0, len(sentences.tokens), SENTENCES):
            part = sentences.tokens[start : start + SENTENCES]
            words = word_vectors(model, numbered_sentences(part))
            scores = pair_scores(words, asked, score=model.score)[:, 0].cpu().numpy().astype(np.float64)
            if training is not None:
                mean, deviation = moments(pair_scores(words, training, score=model.score).cpu().numpy().T)
                scores = (scores - mean) / deviation
            found.append(scores)
            progress.add(len(part))
    return _best(np.concatenate(found), top)


def _best(scores: np.ndarray, top: int) -> Answer:
    chosen = largest(scores, top)
    return Answer(chosen, scores[chosen].astype(np.float64), len(scores), len(scores), exact=True)

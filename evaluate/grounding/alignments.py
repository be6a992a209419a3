"""The segments of sentences by an alignment model, with the rectangles of their regions."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from mrnn.data.cache import FeatureCache
from mrnn.data.errors import EvaluationError
from mrnn.data.tokenize import tokenize
from mrnn.evaluate.fit import check_features, features_for
from mrnn.evaluate.grounding.segments import Segment, segments
from mrnn.train.checkpoint import TrainedModel
from mrnn.train.features import RegionRows
from mrnn.train.models.alignment import Alignment
from mrnn.train.pair_scores import word_vectors
from mrnn.train.sentences import encode_sentences


@dataclass(frozen=True)
class Aligned:
    """A sentence with its segments.

    image : number of its image in the cache, or among files. image_id : its id, or the file.
    number : which of the image's sentences it is.
    text : as it was written. words : its tokens. segments : of the words, in order.
    rectangles : (R, 4) float32, of the image's regions: left, top, width, height in pixels; zeros where unknown.
    """

    image: int
    image_id: str
    number: int
    text: str
    words: list[str]
    segments: list[Segment]
    rectangles: np.ndarray

    def to_json(self) -> dict[str, Any]:
        """The line of `mrnn align`."""
        return {
            "image_id": self.image_id,
            "number": self.number,
            "sentence": self.text,
            "segments": [
                {
                    **asdict(each),
                    "words": " ".join(self.words[each.first : each.end]),
                    "rectangle": [round(float(x), 2) for x in self.rectangles[each.region]],
                }
                for each in self.segments
            ],
        }


def alignment_model(trained: TrainedModel) -> Alignment:
    """The model of a checkpoint. Raises EvaluationError if it does not align words with regions."""
    if not isinstance(trained.model, Alignment):
        raise EvaluationError(
            f"{trained.file} is of the kind {trained.name}, which does not align words with regions; give a run of "
            "train-mrnn --model alignment"
        )
    return trained.model


def align(trained: TrainedModel, cache: FeatureCache, images: np.ndarray, *, beta: float) -> Iterator[Aligned]:
    """The segments of every sentence with a word of some images.

    trained : an alignment model.
    cache : has the kind of features that the model was trained on.
    images : numbers of images that have features.
    beta : see mrnn.evaluate.grounding.segments.

    Raises EvaluationError for another kind of model or other features.
    """
    alignment_model(trained)
    check_features(trained, cache)
    features = features_for(trained, cache)
    rectangles = cache.regions.rectangles.reshape(len(cache.images), cache.rows_per_image, 4)
    for image in images.tolist():
        said = cache.images[image]
        yield from align_sentences(
            trained, features, image, said.sentences, image_id=said.id, rectangles=rectangles[image], beta=beta
        )


def align_sentences(
    trained: TrainedModel,
    features: RegionRows,
    image: int,
    sentences: Sequence[str],
    *,
    image_id: str,
    rectangles: np.ndarray,
    beta: float,
) -> Iterator[Aligned]:
    """The segments of those of some sentences that have a word.

    trained : an alignment model.
    features : of the image, by its number.
    image_id, rectangles : see `Aligned`.
    beta : see mrnn.evaluate.grounding.segments.
    """
    words = {number: tokens for number, text in enumerate(sentences) if (tokens := tokenize(text))}
    if not words:
        return
    found = word_region_scores(alignment_model(trained), list(words.values()), features, image, trained)
    for (number, tokens), scores in zip(words.items(), found, strict=True):
        yield Aligned(image, image_id, number, sentences[number], tokens, segments(scores, beta=beta), rectangles)


@torch.no_grad()
def word_region_scores(
    model: Alignment, words: list[list[str]], features: RegionRows, image: int, trained: TrainedModel
) -> list[np.ndarray]:
    """v_i . s_t of the words of some sentences with the regions of an image: (T, R) float32 of each sentence.

    A row without a region has -inf.
    """
    sentences = encode_sentences(words, np.zeros(len(words), dtype=np.int64), trained.vocabulary)
    vectors = word_vectors(model, sentences)
    rows, valid = features.regions(np.array([image]))
    device = model.feature_mean.device
    regions = model.regions(rows.to(device), valid.to(device))[:, 0]  # (R, h)
    scores = (vectors.vectors @ regions.T).masked_fill(~valid.to(device), -torch.inf).cpu().numpy()
    return np.split(scores, vectors.starts[1:-1])

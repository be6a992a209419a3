"""The segments of sentences by an alignment model, with the rectangles of their regions."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from torch import Tensor

from mrnn.data.cache import FeatureCache
from mrnn.data.errors import EvaluationError
from mrnn.data.tokenize import tokenize
from mrnn.evaluate.fit import check_features, features_for
from mrnn.evaluate.grounding.corrector import Corrector
from mrnn.evaluate.grounding.phrases import Candidates, candidates
from mrnn.evaluate.grounding.segments import Segment, segments
from mrnn.train.checkpoint import TrainedModel
from mrnn.train.features import RegionRows
from mrnn.train.models.alignment import Alignment
from mrnn.train.pair_scores import region_vectors, word_vectors
from mrnn.train.sentences import encode_sentences


@dataclass(frozen=True)
class AlignedPhrase:
    """Neighbouring words of a sentence and the region that they speak of.

    region : its row among those of the image, 0 for the whole picture.
    rectangle : left, top, width, height in pixels of the upright picture; zeros where unknown.
    score : sum of the words' scores with the region.
    """

    words: str
    region: int
    rectangle: tuple[float, float, float, float]
    score: float


@dataclass(frozen=True)
class Aligned:
    """A sentence with its segments.

    image : number of its image in the cache, or among files. image_id : its id, or the file.
    number : which of the image's sentences it is.
    text : as it was written. words : its tokens. segments : of the words, in order.
    rectangles : (R, 4) float64, of the image's regions: left, top, width, height in pixels; zeros where unknown.
    """

    image: int
    image_id: str
    number: int
    text: str
    words: list[str] = field(repr=False)
    segments: list[Segment]
    rectangles: np.ndarray = field(repr=False)

    @property
    def phrases(self) -> list[AlignedPhrase]:
        """The segments with their words and rectangles."""
        return [
            AlignedPhrase(
                " ".join(self.words[each.first : each.end]),
                each.region,
                tuple(self.rectangles[each.region].tolist()),
                each.score,
            )
            for each in self.segments
        ]

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


def align(
    trained: TrainedModel,
    cache: FeatureCache,
    images: np.ndarray,
    *,
    beta: float,
    corrector: Corrector | None = None,
) -> Iterator[Aligned]:
    """The segments of every sentence with a word of some images.

    trained : an alignment model.
    cache : has the kind of features that the model was trained on.
    images : numbers of images that have features.
    beta, corrector : see `align_sentences`.

    Raises EvaluationError for another kind of model or other features.
    """
    alignment_model(trained)
    check_features(trained, cache)
    features = features_for(trained, cache)
    for image in images.tolist():
        said, places = cache.images[image], candidates(cache, np.array([image]), features.rows)
        yield from align_sentences(
            trained, features, image, said.sentences, image_id=said.id, places=places, beta=beta, corrector=corrector
        )


def align_sentences(
    trained: TrainedModel,
    features: RegionRows,
    image: int,
    sentences: Sequence[str],
    *,
    image_id: str,
    places: Candidates,
    beta: float,
    corrector: Corrector | None = None,
) -> Iterator[Aligned]:
    """The segments of those of some sentences that have a word.

    trained : an alignment model.
    features : of the image, by its number.
    image_id : see `Aligned`.
    places : the regions of the image.
    beta : see mrnn.evaluate.grounding.segments.
    corrector : corrects the scores of the words with the regions; None takes them as they are (Eq. 8).
    """
    words = {number: tokens for number, text in enumerate(sentences) if (tokens := tokenize(text))}
    if not words:
        return
    model = alignment_model(trained)
    regions = region_vectors(model, features, np.array([image]))[:, 0]
    found = word_region_scores(model, list(words.values()), regions, places.valid[0], trained)
    if corrector:
        found = [corrector(scores, regions.cpu().numpy(), places) for scores in found]
    for (number, tokens), scores in zip(words.items(), found, strict=True):
        yield Aligned(
            image, image_id, number, sentences[number], tokens, segments(scores, beta=beta), places.rectangles[0]
        )


def word_region_scores(
    model: Alignment, words: list[list[str]], regions: Tensor, valid: np.ndarray, trained: TrainedModel
) -> list[np.ndarray]:
    """v_i . s_t of the words of some sentences with the regions of an image: (T, R) float32 of each sentence.

    regions : (R, h), v_i. valid : (R,) bool; a row without a region has the score -inf.
    """
    sentences = encode_sentences(words, np.zeros(len(words), dtype=np.int64), trained.vocabulary)
    vectors = word_vectors(model, sentences)
    scores = np.where(valid, (vectors.vectors @ regions.T).cpu().numpy(), -np.inf)
    return np.split(scores, vectors.starts[1:-1])

"""The words of a caption, each with its log-probability and, for a late-fusion model, why it was chosen."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor

from mrnn.evaluate.generation.decode import Caption
from mrnn.evaluate.generation.why import reasons
from mrnn.train.checkpoint import TrainedModel
from mrnn.train.models.captioner import LateFusion

END = "<end>"  # the end sign among the words of a caption


@dataclass(frozen=True)
class WordParts:
    """What made a word probable, in nats; the parts add up to its log-probability (mrnn.evaluate.generation.why).

    base : log-probability without words and image, close to that of the word's frequency.
    words : what the preceding words added.
    image : what the image added, given those words: it made the word exp(image) times as probable.
    """

    base: float
    words: float
    image: float


@dataclass(frozen=True)
class CaptionWord:
    """A word of a caption, or END.

    log_prob : natural log P(word | preceding words, I).
    parts : of it; None for a model whose image and words do not meet in a sum.
    """

    word: str
    log_prob: float
    parts: WordParts | None = None

    def to_json(self) -> dict[str, Any]:
        """{"word", "log_prob", "parts": {"base", "words", "image"}}, without parts where they are not known."""
        found: dict[str, Any] = {"word": self.word, "log_prob": self.log_prob}
        return {**found, "parts": asdict(self.parts)} if self.parts else found


def explain(trained: TrainedModel, features: Tensor, captions: Sequence[Caption]) -> list[tuple[CaptionWord, ...]]:
    """The words of captions, with END for those that are complete.

    trained : the model that wrote them; the parts are known if it is a `LateFusion`.
    features : (B, D), stored features of the images.
    captions : a caption of each image.
    """
    why: list[list[WordParts | None]]
    if isinstance(trained.model, LateFusion):
        why = [[WordParts(*row) for row in rows.tolist()] for rows in reasons(trained.model, features, captions)]
    else:
        why = [[None] * len(caption.log_probs) for caption in captions]
    found = []
    for caption, parts in zip(captions, why, strict=True):
        written = [*trained.vocabulary.decode(caption.words), *([END] if caption.complete else [])]
        found.append(tuple(map(CaptionWord, written, caption.log_probs, parts)))
    return found

"""The settings of the models that match pictures and sentences."""

from dataclasses import KW_ONLY, dataclass
from typing import Any

from mrnn.data.errors import SettingError
from mrnn.data.settings import setting
from mrnn.train.models import config as shared

SCORES = ("max", "sum")


def _margin(default: float) -> Any:
    return setting(default, "Margin by which a true pair must score higher than a false one.", above=0)


@dataclass(frozen=True)
class MatchingConfig(shared.ModelConfig):
    """What models that are trained to match pictures and sentences share: the score, the cost, the word vectors.

    score : how the products of a pair become its score, 'max' or 'sum' (two_towers.py); a setting of some kinds only.
    """

    score = "max"
    _: KW_ONLY
    margin: float = _margin(1.0)
    hardest_from: int = setting(
        0,
        "Epoch, from 1, from which only the hardest false pair of each picture and sentence counts; 0 counts all.",
        at_least=0,
    )
    joint: int = setting(512, "Width of the space that regions and words share.", at_least=1)
    embedding: int = setting(300, "Width of the word vectors.", at_least=1)
    embedding_scale: float = shared.embedding_scale(0.1)
    word_vectors: str = setting("", "File with initial word vectors: word2vec or GloVe text, or .npz.")
    fixed_words: bool = setting(False, "Keep the word vectors as they are at the start.")
    dropout: float = shared.dropout(0.2)
    image_dropout: float = shared.image_dropout(0.0)
    image_scale: float = shared.image_scale(0.3)


@dataclass(frozen=True)
class RegionConfig(MatchingConfig):
    """What models of regions, and of words in their sentence, share."""

    _: KW_ONLY
    regions: int = setting(
        0, "Rows of each image to use, the whole picture first; 0 uses all, 1 the whole picture alone.", at_least=0
    )
    hidden: int = setting(300, "Width of the hidden layer.", at_least=1)
    recurrence_init: str = setting("identity", "Initial recurrent weights.", choices=shared.RECURRENCES)
    recurrence_scale: float = setting(0.5, "Factor on the initial recurrent weights.", at_least=0)

    def rows(self, available: int) -> int:
        """See `ModelConfig`. Raises SettingError if there are fewer than asked for."""
        if self.regions > available:
            raise SettingError(f"regions is {self.regions}, and the images of this cache have {available} rows each")
        return self.regions or available


@dataclass(frozen=True)
class AlignmentConfig(RegionConfig):
    """Sizes and switches of the DVSA alignment model."""

    _: KW_ONLY
    score: str = setting(
        "max", "Score of a pair: each word's best region (max), or all positive ones (sum).", choices=SCORES
    )


@dataclass(frozen=True)
class DeFragConfig(RegionConfig):
    """Sizes of the model in the manner of DeFrag, and the weights of its two costs (mrnn.train.tasks.fragments)."""

    score = "sum"
    _: KW_ONLY
    margin: float = _margin(2.0)
    fragments: float = setting(0.1, "Weight of the cost of single words and regions, beside that of pairs.", at_least=0)

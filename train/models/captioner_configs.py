"""The settings of the models that write captions."""

from dataclasses import KW_ONLY, dataclass
from typing import Any

from mrnn.data.errors import SettingError
from mrnn.data.settings import setting
from mrnn.train.models import config as shared

RECURRENT_LAYERS = ("plain", "gru", "lstm")
IMAGE_INTO = ("recurrent", "both", "both-shared")


def _context(default: int) -> Any:
    return setting(default, "Number of words, START included, that the next word is predicted from.", at_least=1)


@dataclass(frozen=True)
class CaptionerConfig(shared.ModelConfig):
    """What a captioner takes from the data before training."""

    _: KW_ONLY
    image_scale: float = shared.image_scale(0.12)
    frequency_bias: bool = setting(True, "Start the output bias at the log frequencies of the words.")


@dataclass(frozen=True)
class RecurrentConfig(CaptionerConfig):
    """The initial weights of a captioner with a recurrent layer (mrnn.train.initialise)."""

    _: KW_ONLY
    recurrence_init: str = setting("identity", "Initial recurrent weights.", choices=shared.RECURRENCES)
    recurrence_scale: float = setting(0.5, "Factor on the initial recurrent weights.", at_least=0)
    embedding_scale: float = shared.embedding_scale(0.1)
    output_scale: float = setting(0.1, "Factor on the initial weights of the output layer.", at_least=0)


@dataclass(frozen=True)
class MRNNConfig(RecurrentConfig):
    """Settings of m-RNN and RNN-Base. The defaults are the network of 2014; later papers have the variants.

    A plain recurrence adds w(t) to U r(t-1), so embedding2 must then equal recurrent.
    """

    embedding1: int = setting(
        128, "Width of the first word embedding; 0 leaves it out, so that words are embedded once.", at_least=0
    )
    embedding2: int = setting(
        256, "Width of the second word embedding; must equal --recurrent if the recurrence is plain.", at_least=1
    )
    recurrent: int = setting(256, "Width of the recurrent layer.", at_least=1)
    multimodal: int = setting(512, "Width of the multimodal layer.", at_least=1)
    dropout: float = shared.dropout(0.2)
    image_dropout: float = shared.image_dropout(0.7)
    recurrence: str = setting("plain", "Recurrent layer; plain is the ReLU layer of 2014.", choices=RECURRENT_LAYERS)
    word_path: bool = setting(True, "The multimodal layer sees the word directly, beside the recurrent layer.")
    share_words: bool = setting(
        False, "The output layer shares the vectors of the first word embedding (transposed weight sharing)."
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.recurrence == "plain" and self.embedding2 != self.recurrent:
            raise SettingError(
                f"the second embedding ({self.embedding2}) must be as wide as the recurrent layer ({self.recurrent}): "
                "r(t) = ReLU(U r(t-1) + w(t)) adds the two"
            )


@dataclass(frozen=True)
class ImageRecurrentConfig(MRNNConfig):
    """Settings of m-RNN with the image in the recurrent layer."""

    _: KW_ONLY
    image_into: str = setting(
        "recurrent",
        "Layers that see the image: recurrent, or both (recurrent and multimodal), with separate or shared weights.",
        choices=IMAGE_INTO,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.image_into == "both-shared" and self.embedding2 > self.multimodal:
            raise SettingError(
                f"both-shared needs a multimodal layer ({self.multimodal}) at least as wide as the second embedding "
                f"({self.embedding2}): the recurrent layer gets the first values of what the multimodal layer gets"
            )


@dataclass(frozen=True)
class GeneratorConfig(RecurrentConfig):
    """Settings of the DVSA generator.

    The paper specifies the hidden layer only. `embedding` is the width of the word vectors in its alignment model.
    """

    embedding: int = setting(300, "Width of the word vectors.", at_least=1)
    hidden: int = setting(512, "Width of the hidden layer.", at_least=1)
    dropout: float = shared.dropout(0.5)
    image_dropout: float = shared.image_dropout(0.5)


@dataclass(frozen=True)
class TransformerConfig(CaptionerConfig):
    """Settings of the captioner with a causal Transformer."""

    layers: int = setting(2, "Number of layers of the Transformer.", at_least=1)
    heads: int = setting(4, "Number of attention heads; a divisor of --width.", at_least=1)
    width: int = setting(256, "Width of the Transformer.", at_least=1)
    context: int = _context(64)
    multimodal: int = setting(512, "Width of the multimodal layer.", at_least=1)
    dropout: float = shared.dropout(0.2)
    image_dropout: float = shared.image_dropout(0.7)
    embedding_scale: float = shared.embedding_scale(0.1)
    output_scale: float = setting(0.1, "Factor on the initial weights of the output layer.", at_least=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.width % self.heads:
            raise SettingError(f"width ({self.width}) must be a multiple of heads ({self.heads}), which divide it")


@dataclass(frozen=True)
class LBLConfig(CaptionerConfig):
    """Settings of the log-bilinear model."""

    context: int = _context(5)
    embedding: int = setting(256, "Width of the word vectors.", at_least=1)
    dropout: float = shared.dropout(0.2)
    embedding_scale: float = shared.embedding_scale(0.1)


@dataclass(frozen=True)
class MLBLConfig(LBLConfig):
    """Settings of the log-bilinear model with the image as a bias."""

    hidden: int = setting(256, "Width of the hidden layer.", at_least=1)
    image_dropout: float = shared.image_dropout(0.5)


@dataclass(frozen=True)
class MLBLFConfig(MLBLConfig):
    """Settings of the log-bilinear model with the image as a gate, too."""

    factors: int = setting(256, "Number of factors of the word vectors, which the image gates.", at_least=1)

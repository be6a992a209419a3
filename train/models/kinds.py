"""The kinds of model, by the name used in `train-mrnn --model` and in checkpoints: their settings, code and task.

This module does not import torch, so that a command can show every setting without loading it. To add a model, add a
file next to this one, its settings here, and a line in KINDS.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY, asdict, dataclass, field, fields
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

from mrnn.data.errors import SettingError
from mrnn.data.settings import check_settings, setting

if TYPE_CHECKING:
    from mrnn.train.models.model import Model

RECURRENCES = ("identity", "orthogonal", "uniform")
RECURRENT_LAYERS = ("plain", "gru", "lstm")
IMAGE_INTO = ("recurrent", "both", "both-shared")
SCORES = ("max", "sum")
CAPTIONING = "mrnn.train.tasks.captioning:Captioning"
MATCHING = "mrnn.train.tasks.matching:Matching"
FRAGMENTS = "mrnn.train.tasks.fragments:FragmentMatching"


@dataclass(frozen=True)
class ModelConfig:
    """The part of the config that all models share. A checkpoint holds the config and rebuilds its model from it.

    vocabulary : V, number of words, including the boundary and unknown signs.
    features : D, length of an image feature.
    """

    vocabulary: int
    features: int

    def __post_init__(self) -> None:
        for name in ("vocabulary", "features"):
            if getattr(self, name) < 1:
                raise SettingError(f"{name} must be at least 1, not {getattr(self, name)}")
        check_settings(self)

    def own_settings(self) -> dict[str, Any]:
        """The settings of the model, without the sizes that depend on the data."""
        return {name: value for name, value in asdict(self).items() if name not in ("vocabulary", "features")}

    def rows(self, available: int) -> int:
        """How many of an image's rows of features the model looks at: the whole picture's, unless it says otherwise."""
        return 1


def _image_scale(default: float) -> Any:
    return setting(
        default, "Root mean square to which image features are scaled, after their mean is subtracted.", above=0
    )


def _dropout(default: float) -> Any:
    return setting(default, "Fraction of units dropped from words and hidden layers.", at_least=0, below=1)


def _image_dropout(default: float) -> Any:
    return setting(default, "Fraction of image feature values dropped.", at_least=0, below=1)


def _context(default: int) -> Any:
    return setting(default, "Number of words, START included, that the next word is predicted from.", at_least=1)


def _embedding_scale(default: float) -> Any:
    return setting(default, "Initial word embeddings are uniform within plus and minus this.", at_least=0)


def _margin(default: float) -> Any:
    return setting(default, "Margin by which a true pair must score higher than a false one.", above=0)


@dataclass(frozen=True)
class CaptionerConfig(ModelConfig):
    """What a captioner takes from the data before training."""

    _: KW_ONLY
    image_scale: float = _image_scale(0.12)
    frequency_bias: bool = setting(True, "Start the output bias at the log frequencies of the words.")


@dataclass(frozen=True)
class RecurrentConfig(CaptionerConfig):
    """The initial weights of a captioner with a recurrent layer (mrnn.train.initialise)."""

    _: KW_ONLY
    recurrence_init: str = setting("identity", "Initial recurrent weights.", choices=RECURRENCES)
    recurrence_scale: float = setting(0.5, "Factor on the initial recurrent weights.", at_least=0)
    embedding_scale: float = _embedding_scale(0.1)
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
    dropout: float = _dropout(0.2)
    image_dropout: float = _image_dropout(0.7)
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
    dropout: float = _dropout(0.5)
    image_dropout: float = _image_dropout(0.5)


@dataclass(frozen=True)
class TransformerConfig(CaptionerConfig):
    """Settings of the captioner with a causal Transformer."""

    layers: int = setting(2, "Number of layers of the Transformer.", at_least=1)
    heads: int = setting(4, "Number of attention heads; a divisor of --width.", at_least=1)
    width: int = setting(256, "Width of the Transformer.", at_least=1)
    context: int = _context(64)
    multimodal: int = setting(512, "Width of the multimodal layer.", at_least=1)
    dropout: float = _dropout(0.2)
    image_dropout: float = _image_dropout(0.7)
    embedding_scale: float = _embedding_scale(0.1)
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
    dropout: float = _dropout(0.2)
    embedding_scale: float = _embedding_scale(0.1)


@dataclass(frozen=True)
class MLBLConfig(LBLConfig):
    """Settings of the log-bilinear model with the image as a bias."""

    hidden: int = setting(256, "Width of the hidden layer.", at_least=1)
    image_dropout: float = _image_dropout(0.5)


@dataclass(frozen=True)
class MLBLFConfig(MLBLConfig):
    """Settings of the log-bilinear model with the image as a gate, too."""

    factors: int = setting(256, "Number of factors of the word vectors, which the image gates.", at_least=1)


@dataclass(frozen=True)
class MatchingConfig(ModelConfig):
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
    embedding_scale: float = _embedding_scale(0.1)
    word_vectors: str = setting("", "File with initial word vectors: word2vec or GloVe text, or .npz.")
    fixed_words: bool = setting(False, "Keep the word vectors as they are at the start.")
    dropout: float = _dropout(0.2)
    image_dropout: float = _image_dropout(0.0)
    image_scale: float = _image_scale(0.3)


@dataclass(frozen=True)
class RegionConfig(MatchingConfig):
    """What models of regions, and of words in their sentence, share."""

    _: KW_ONLY
    regions: int = setting(
        0, "Rows of each image to use, the whole picture first; 0 uses all, 1 the whole picture alone.", at_least=0
    )
    hidden: int = setting(300, "Width of the hidden layer.", at_least=1)
    recurrence_init: str = setting("identity", "Initial recurrent weights.", choices=RECURRENCES)
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


@dataclass(frozen=True)
class Kind:
    """A kind of model.

    config : dataclass of its settings.
    model : its class, as 'module:class'.
    task : the class of its task, as 'module:class'.
    defaults : of the general settings (TrainSettings) for which this kind has its own default.
    """

    config: type[ModelConfig]
    model: str
    task: str
    defaults: Mapping[str, Any] = field(default_factory=dict)

    def build(self, config: ModelConfig) -> Model:
        """An untrained model of this kind."""
        built: Model = resolve_name(self.model)(config)
        return built

    def make_task(self) -> Any:
        """The task of this kind, a mrnn.train.tasks.task.Task."""
        return resolve_name(self.task)()

    def settings(self) -> frozenset[str]:
        """Names of the model's own settings."""
        return frozenset(each.name for each in fields(self.config)) - {"vocabulary", "features"}


# The recipe with which the two models of matching were first measured; docs/experiments.md.
MATCHING_DEFAULTS = {"epochs": 12, "lr": 1e-3, "clip": 0.0, "clip_values": 0.05}
# Of 1, 2 and 4e-3, this had the lowest dev perplexity after one epoch on Flickr8k.
LOG_BILINEAR_DEFAULTS = {"lr": 4e-3}
KINDS = {
    "mrnn": Kind(MRNNConfig, "mrnn.train.models.mrnn:MRNN", CAPTIONING),
    "rnn-base": Kind(MRNNConfig, "mrnn.train.models.mrnn:RNNBase", CAPTIONING),
    "mrnn-image-recurrent": Kind(ImageRecurrentConfig, "mrnn.train.models.image_recurrent:ImageRecurrent", CAPTIONING),
    "generator": Kind(GeneratorConfig, "mrnn.train.models.generator:Generator", CAPTIONING),
    "transformer": Kind(TransformerConfig, "mrnn.train.models.transformer:Transformer", CAPTIONING),
    "lbl": Kind(LBLConfig, "mrnn.train.models.log_bilinear:LBL", CAPTIONING, LOG_BILINEAR_DEFAULTS),
    "mlbl-b": Kind(MLBLConfig, "mrnn.train.models.log_bilinear:MLBLB", CAPTIONING, LOG_BILINEAR_DEFAULTS),
    "mlbl-f": Kind(MLBLFConfig, "mrnn.train.models.log_bilinear:MLBLF", CAPTIONING, LOG_BILINEAR_DEFAULTS),
    "alignment": Kind(AlignmentConfig, "mrnn.train.models.alignment:Alignment", MATCHING, MATCHING_DEFAULTS),
    "defrag": Kind(DeFragConfig, "mrnn.train.models.defrag:DeFrag", FRAGMENTS, MATCHING_DEFAULTS),
    "devise": Kind(MatchingConfig, "mrnn.train.models.devise:DeViSE", MATCHING, MATCHING_DEFAULTS),
}
CAPTIONERS = tuple(name for name, kind in KINDS.items() if kind.task == CAPTIONING)


def kind_of(name: Any) -> Kind:
    """The kind of this name. Raises SettingError for an unknown name; its message lists the known ones."""
    if name not in KINDS:
        raise SettingError(f"model must be one of {', '.join(KINDS)}, not {name!r}")
    return KINDS[name]

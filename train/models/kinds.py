"""The kinds of model, by the name used in `train-mrnn --model` and in checkpoints: their settings, code and task.

This module does not import torch, so that a command can show every setting without loading it. To add a model, add a
file next to this one, its settings here, and a line in KINDS.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, asdict, dataclass, fields
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

from mrnn.data.errors import SettingError
from mrnn.data.settings import check_settings, setting

if TYPE_CHECKING:
    from mrnn.train.models.captioner import Captioner

RECURRENCES = ("identity", "orthogonal", "uniform")
CAPTIONING = "mrnn.train.tasks.captioning:Captioning"


@dataclass(frozen=True)
class CaptionerConfig:
    """The part of the config that all captioners share. A checkpoint holds the config and rebuilds its model from it.

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


@dataclass(frozen=True)
class RecurrentConfig(CaptionerConfig):
    """The initial weights of a captioner with a recurrent layer (mrnn.train.initialise)."""

    _: KW_ONLY
    recurrence_init: str = setting("identity", "Initial recurrent weights.", choices=RECURRENCES)
    recurrence_scale: float = setting(0.5, "Factor on the initial recurrent weights.", at_least=0)
    embedding_scale: float = setting(0.1, "Initial word embeddings are uniform within plus and minus this.", at_least=0)
    output_scale: float = setting(0.1, "Factor on the initial weights of the output layer.", at_least=0)


def _dropout(default: float) -> Any:
    return setting(default, "Fraction of units dropped from words and hidden layers.", at_least=0, below=1)


def _image_dropout(default: float) -> Any:
    return setting(default, "Fraction of image feature values dropped.", at_least=0, below=1)


@dataclass(frozen=True)
class MRNNConfig(RecurrentConfig):
    """Settings of m-RNN and RNN-Base. embedding2 must equal recurrent, since w(t) is added to U r(t-1)."""

    embedding1: int = setting(128, "Width of the first word embedding.", at_least=1)
    embedding2: int = setting(256, "Width of the second word embedding; must equal --recurrent.", at_least=1)
    recurrent: int = setting(256, "Width of the recurrent layer.", at_least=1)
    multimodal: int = setting(512, "Width of the multimodal layer.", at_least=1)
    dropout: float = _dropout(0.2)
    image_dropout: float = _image_dropout(0.7)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.embedding2 != self.recurrent:
            raise SettingError(
                f"the second embedding ({self.embedding2}) must be as wide as the recurrent layer ({self.recurrent}): "
                "r(t) = ReLU(U r(t-1) + w(t)) adds the two"
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
class Kind:
    """A kind of model.

    config : dataclass of its settings.
    model : its class, as 'module:class'.
    task : the class of its task, as 'module:class'.
    """

    config: type[CaptionerConfig]
    model: str
    task: str

    def build(self, config: CaptionerConfig) -> Captioner:
        """An untrained model of this kind."""
        built: Captioner = resolve_name(self.model)(config)
        return built

    def make_task(self) -> Any:
        """The task of this kind, a mrnn.train.tasks.task.Task."""
        return resolve_name(self.task)()

    def settings(self) -> frozenset[str]:
        """Names of the model's own settings."""
        return frozenset(field.name for field in fields(self.config)) - {"vocabulary", "features"}


KINDS = {
    "mrnn": Kind(MRNNConfig, "mrnn.train.models.mrnn:MRNN", CAPTIONING),
    "rnn-base": Kind(MRNNConfig, "mrnn.train.models.mrnn:RNNBase", CAPTIONING),
    "generator": Kind(GeneratorConfig, "mrnn.train.models.generator:Generator", CAPTIONING),
}


def kind_of(name: Any) -> Kind:
    """The kind of this name. Raises SettingError for an unknown name; its message lists the known ones."""
    if name not in KINDS:
        raise SettingError(f"model must be one of {', '.join(KINDS)}, not {name!r}")
    return KINDS[name]

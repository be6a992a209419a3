"""The settings that models share. Like all settings it does not import torch, so that a command can show them fast."""

from dataclasses import asdict, dataclass, field, fields
from typing import Any

from mrnn.data.errors import SettingError
from mrnn.data.settings import check_settings, setting

RECURRENCES = ("identity", "orthogonal", "uniform")  # initial recurrent weights


@dataclass(frozen=True)
class ModelConfig:
    """The part of the config that all models share. A checkpoint holds the config and rebuilds its model from it.

    vocabulary : V, number of words, including the boundary and unknown signs.
    features : D, length of an image feature.
    layer_sizes : how many of the D numbers come from each of several layers of the CNN; () if they come from one.
    """

    vocabulary: int
    features: int
    layer_sizes: tuple[int, ...] = field(default=(), kw_only=True)

    def __post_init__(self) -> None:
        for name in ("vocabulary", "features"):
            if getattr(self, name) < 1:
                raise SettingError(f"{name} must be at least 1, not {getattr(self, name)}")
        object.__setattr__(self, "layer_sizes", tuple(self.layer_sizes))  # a list if it comes from JSON
        if self.layer_sizes and sum(self.layer_sizes) != self.features:
            raise SettingError(f"layers of {self.layer_sizes} numbers do not make up features of {self.features}")
        check_settings(self)

    def own_settings(self) -> dict[str, Any]:
        """The settings of the model, without the sizes that depend on the data."""
        sizes = [each.name for each in fields(ModelConfig)]
        return {name: value for name, value in asdict(self).items() if name not in sizes}

    def rows(self, available: int) -> int:
        """How many of an image's rows of features the model looks at: the whole picture's, unless it says otherwise."""
        return 1


def image_scale(default: float) -> Any:
    """The setting of how image features are scaled."""
    return setting(
        default, "Root mean square to which image features are scaled, after their mean is subtracted.", above=0
    )


def dropout(default: float) -> Any:
    """The setting of dropout in the layers of words."""
    return setting(default, "Fraction of units dropped from words and hidden layers.", at_least=0, below=1)


def image_dropout(default: float) -> Any:
    """The setting of dropout of image features."""
    return setting(default, "Fraction of image feature values dropped.", at_least=0, below=1)


def embedding_scale(default: float) -> Any:
    """The setting of the initial word vectors."""
    return setting(default, "Initial word embeddings are uniform within plus and minus this.", at_least=0)

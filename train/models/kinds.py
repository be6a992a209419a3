"""The kinds of model, by the name used in `train-mrnn --model` and in checkpoints: their settings, code and task.

This module does not import torch, so that a command can show every setting without loading it. To add a model, add a
file next to this one, its settings to captioner_configs.py or matching_configs.py, and a line in KINDS.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

from mrnn.data.errors import SettingError
from mrnn.train.models.captioner_configs import (
    GeneratorConfig,
    ImageRecurrentConfig,
    LBLConfig,
    MLBLConfig,
    MLBLFConfig,
    MRNNConfig,
    TransformerConfig,
)
from mrnn.train.models.config import ModelConfig
from mrnn.train.models.matching_configs import AlignmentConfig, DeFragConfig, MatchingConfig

if TYPE_CHECKING:
    from mrnn.train.models.model import Model

CAPTIONING = "mrnn.train.tasks.captioning:Captioning"
MATCHING = "mrnn.train.tasks.matching:Matching"
FRAGMENTS = "mrnn.train.tasks.fragments:FragmentMatching"


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

    def task_class(self) -> Any:
        """The class of the task of this kind, a mrnn.train.tasks.task.Task. It is called with the run's settings."""
        return resolve_name(self.task)

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
# Those in which words and an image meet in a single sum (LateFusion), and which see the image.
LATE_FUSION = ("mrnn", "transformer")
CAPTIONERS = tuple(name for name, kind in KINDS.items() if kind.task == CAPTIONING)


def kind_of(name: Any) -> Kind:
    """The kind of this name. Raises SettingError for an unknown name; its message lists the known ones."""
    if name not in KINDS:
        raise SettingError(f"model must be one of {', '.join(KINDS)}, not {name!r}")
    return KINDS[name]

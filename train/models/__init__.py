"""The models, one file each; `KINDS` lists them by name. Importing this does not load torch: building a model does."""

from mrnn.train.models.captioner_configs import CaptionerConfig, GeneratorConfig, ImageRecurrentConfig, MRNNConfig
from mrnn.train.models.config import ModelConfig
from mrnn.train.models.kinds import CAPTIONERS, KINDS, Kind, kind_of
from mrnn.train.models.matching_configs import AlignmentConfig, MatchingConfig

__all__ = [
    "CAPTIONERS",
    "KINDS",
    "AlignmentConfig",
    "CaptionerConfig",
    "GeneratorConfig",
    "ImageRecurrentConfig",
    "Kind",
    "MRNNConfig",
    "MatchingConfig",
    "ModelConfig",
    "kind_of",
]

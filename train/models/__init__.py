"""The models, one file each; `KINDS` lists them by name. Importing this does not load torch: building a model does."""

from mrnn.train.models.kinds import (
    CAPTIONERS,
    KINDS,
    AlignmentConfig,
    CaptionerConfig,
    GeneratorConfig,
    ImageRecurrentConfig,
    Kind,
    MatchingConfig,
    ModelConfig,
    MRNNConfig,
    kind_of,
)

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

"""The models, a file each; `KINDS` lists them by name. Free of torch: the classes are loaded when they are built."""

from mrnn.train.models.kinds import (
    CAPTIONERS,
    KINDS,
    AlignmentConfig,
    CaptionerConfig,
    GeneratorConfig,
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
    "Kind",
    "MRNNConfig",
    "MatchingConfig",
    "ModelConfig",
    "kind_of",
]

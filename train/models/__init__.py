"""The models, a file each; `KINDS` lists them by name. Free of torch: the classes are loaded when they are built."""

from mrnn.train.models.kinds import KINDS, CaptionerConfig, GeneratorConfig, Kind, MRNNConfig, kind_of

__all__ = ["KINDS", "CaptionerConfig", "GeneratorConfig", "Kind", "MRNNConfig", "kind_of"]

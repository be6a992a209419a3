"""The models, one file each; `KINDS` lists them by name. Importing this does not load torch: building a model does."""

from mrnn.train.models.kinds import KINDS, CaptionerConfig, GeneratorConfig, Kind, MRNNConfig, kind_of

__all__ = ["KINDS", "CaptionerConfig", "GeneratorConfig", "Kind", "MRNNConfig", "kind_of"]

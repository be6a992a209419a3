"""The models by the name that `train-mrnn --model` and checkpoints use."""

from mrnn.train.models.mrnn import MRNN, MRNNConfig
from mrnn.train.models.rnn_base import RNNBase

MODELS: dict[str, type[MRNN]] = {"mrnn": MRNN, "rnn-base": RNNBase}

__all__ = ["MODELS", "MRNN", "MRNNConfig", "RNNBase"]

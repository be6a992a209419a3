"""What every model has: its config, and how it takes up the stored image features."""

from abc import ABC, abstractmethod

import numpy as np
import torch
from torch import Tensor, nn

from mrnn.train.models.config import ModelConfig


class Model(nn.Module, ABC):
    """A model of images and sentences.

    The image feature I is the stored one minus `feature_mean`, times `feature_scale`, both taken from the training
    images and kept in the checkpoint. So activations of any size train with the same settings, and what all images
    have in common does not drown what tells them apart. Numbers of several layers of the CNN are scaled layer by layer,
    since those of one may be ten times as large as those of another.
    """

    config: ModelConfig
    feature_mean: Tensor
    feature_scale: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("feature_mean", torch.zeros(config.features))
        self.register_buffer("feature_scale", torch.ones(config.features if config.layer_sizes else ()))

    def centred(self, features: Tensor) -> Tensor:
        """I from stored features: (..., D) -> (..., D)."""
        return (features - self.feature_mean) * self.feature_scale

    def take_moments(self, mean: np.ndarray, rms: np.ndarray, *, scale: float) -> None:
        """Set how features are taken up.

        mean : (D,), subtracted from them.
        rms : root of their mean square without the mean, (1,), or one for each layer of the config's layer_sizes.
        scale : what each rms becomes.
        """
        self.feature_mean.copy_(torch.from_numpy(mean))
        scales = scale / np.maximum(rms, 1e-12)
        sizes = self.config.layer_sizes
        self.feature_scale.copy_(torch.from_numpy(np.repeat(scales, sizes) if sizes else scales.reshape(())))

    @abstractmethod
    def initialise(self, generator: torch.Generator) -> None:
        """Draw all weights on the CPU from one generator, as the config says."""

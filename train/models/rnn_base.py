"""RNN-Base, the m-RNN paper's baseline: the same network without its image input."""

import torch
from torch import Tensor

from mrnn.train.models.mrnn import MRNN, MRNNConfig


class RNNBase(MRNN):
    """m-RNN with V_I I dropped; it equals an m-RNN that is shown I = 0."""

    def __init__(self, config: MRNNConfig) -> None:
        super().__init__(config)
        del self.image_to_multimodal

    def image(self, features: Tensor) -> Tensor:
        """Zeros of shape (..., M) whatever the features (..., D) are."""
        return torch.zeros(*features.shape[:-1], self.config.multimodal, device=features.device)

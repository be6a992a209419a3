"""A small world for the evaluation tests: invented sentences, random features, an untrained model."""

from collections.abc import Callable

import pytest
import torch

from mrnn.train.models.mrnn import MRNN, MRNNConfig

Build = Callable[..., MRNN]


@pytest.fixture
def build_model() -> Build:
    """Make a small model with weights large enough that its predictions depend on image and words."""

    def build(
        *, vocabulary: int = 40, features: int = 12, spread: float = 0.4, seed: int = 0, double: bool = False
    ) -> MRNN:
        torch.manual_seed(seed)
        config = MRNNConfig(vocabulary, features, embedding1=8, embedding2=16, recurrent=16, multimodal=24)
        model = MRNN(config).eval().requires_grad_(False)
        for parameter in model.parameters():
            parameter.normal_(std=spread)
        return model.double() if double else model

    return build

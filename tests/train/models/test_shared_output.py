"""Transposed weight sharing: few parameters, each once, and a product computed once where nothing changes it."""

from collections.abc import Callable
from copy import deepcopy

import numpy as np
import pytest
import torch

from mrnn.train.batches import pack
from mrnn.train.features import Features
from mrnn.train.models.captioner import Captioner
from mrnn.train.models.shared_output import SharedOutput
from mrnn.train.optim import WeightAverage, build_optimiser
from mrnn.train.sentences import Sentences
from mrnn.train.tasks.captioning import batch_bits

Data = tuple[Sentences, Features, int]
Small = Callable[..., Captioner]


def product(model: Captioner) -> torch.Tensor:
    weights = dict(model.named_parameters())
    return weights["embedding1.weight"] @ weights["output.projection.weight"]


def test_every_parameter_counts_once_and_there_are_fewer(small: Small) -> None:
    plain, shared = small("mrnn", 100), small("mrnn shared", 100)
    count, fewer = (sum(parameter.numel() for parameter in model.parameters()) for model in (plain, shared))
    assert count - fewer == 100 * 7 - 5 * 7
    assert set(shared.state_dict()) - {"feature_mean", "feature_scale"} == {n for n, _ in shared.named_parameters()}


def test_the_scale_of_the_output_is_that_of_its_own_matrix(small: Small) -> None:
    one, tenth = small("mrnn shared", 100, output_scale=1.0), small("mrnn shared", 100, output_scale=0.1)
    torch.testing.assert_close(tenth.output.weight, 0.1 * one.output.weight)
    assert torch.equal(one.get_parameter("embedding1.weight"), tenth.get_parameter("embedding1.weight"))


def test_the_product_follows_training_and_is_kept_in_evaluation(
    small: Small, data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    sentences, features, vocabulary = data
    model = small("mrnn shared", vocabulary)
    # Fused Adam changes weights without telling their version counters.
    optimiser = build_optimiser("adam", model.parameters(), lr=0.1, l2=0.0)
    computed, compute = [], SharedOutput._product
    monkeypatch.setattr(SharedOutput, "_product", lambda self: computed.append(1) or compute(self))
    for epoch in range(2):
        computed.clear()
        batch_bits(model.train(), pack(sentences, np.arange(20), features)).backward()
        assert len(computed) == 1, "once for a step"
        optimiser.step()
        with torch.no_grad():
            model.eval()
            torch.testing.assert_close(model.output.weight, product(model))
            assert model.output.weight is model.output.weight
        assert len(computed) == 2, f"once for an evaluation, in epoch {epoch}"


def test_copies_have_words_of_their_own(small: Small) -> None:
    model = small("mrnn shared", 30)
    average = WeightAverage(model, 0.9)
    before = average.model.output.weight.clone()
    with torch.no_grad():
        model.get_parameter("embedding1.weight").mul_(3)
        torch.testing.assert_close(average.model.output.weight, before)
        torch.testing.assert_close(model.output.weight, 3 * before)
    with torch.inference_mode():
        kept = model.eval().output.weight
        double = deepcopy(model).double()
        torch.testing.assert_close(double.output.weight, kept.double())

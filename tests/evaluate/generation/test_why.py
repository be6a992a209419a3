"""The parts of a word's probability are those of runs with the image, or the words, really taken away or exchanged."""

from collections.abc import Callable
from copy import deepcopy

import numpy as np
import pytest
import torch
from torch import Tensor

from mrnn.data.vocabulary import BOUNDARY_ID
from mrnn.evaluate.generation.decode import Caption, DecodingConfig, generate
from mrnn.evaluate.generation.why import reasons
from mrnn.train.batches import CaptionBatch
from mrnn.train.models.mrnn import MRNN, RNNBase
from tests.variants import FUSED, FUSED_IDS

Build = Callable[..., MRNN]


def full_run(model: MRNN, feature: Tensor, caption: Caption) -> np.ndarray:
    """Natural log P of each word and END by a whole run of the model, as training does it: (T,)."""
    inputs = torch.tensor([BOUNDARY_ID, *caption.words])[: len(caption.log_probs)]
    targets = torch.tensor([*caption.words, BOUNDARY_ID])[: len(inputs)]
    rows, images = torch.zeros(len(inputs), dtype=torch.int64), feature[None]
    hidden = model(
        CaptionBatch(
            sentences=np.zeros(1),
            count=len(inputs),
            inputs=inputs,
            targets=targets,
            sizes=[1] * len(inputs),
            image_of_token=rows,
            features=images,
        )
    )
    return model.output(hidden).log_softmax(-1).gather(1, targets[:, None])[:, 0].numpy()


MRNNS, MRNN_IDS = zip(*(each for each in zip(FUSED, FUSED_IDS, strict=True) if each[0][0] == "mrnn"), strict=True)


@pytest.fixture(params=FUSED, ids=FUSED_IDS)
def captioned(build_model: Build, request: pytest.FixtureRequest) -> tuple[MRNN, Tensor, list[Caption]]:
    kind, changes = request.param
    model = build_model(kind=kind, double=True, **changes)
    model.feature_mean.copy_(torch.randn(12, generator=torch.Generator().manual_seed(1)))
    model.feature_scale.fill_(0.7)
    model.output.bias[BOUNDARY_ID] = 3.5
    features = torch.randn(70, 12, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    captions = [best for best, *_ in generate(model, features, DecodingConfig(beam=2, max_steps=8))]
    assert {caption.complete for caption in captions} == {True, False}, "ended ones and cut ones"
    return model, features, captions


def test_the_parts_add_up_to_what_the_search_said(captioned: tuple[MRNN, Tensor, list[Caption]]) -> None:
    model, features, captions = captioned
    for caption, parts in zip(captions, reasons(model, features, captions), strict=True):
        assert parts.sum(1) == pytest.approx(np.array(caption.log_probs), abs=1e-9)


@pytest.mark.parametrize("captioned", MRNNS, ids=MRNN_IDS, indirect=True)
def test_without_the_image_the_rest_remains(captioned: tuple[MRNN, Tensor, list[Caption]]) -> None:
    model, features, captions = captioned
    blind = RNNBase(model.config).eval().requires_grad_(False).double()
    blind.load_state_dict({name: value for name, value in model.state_dict().items() if "image_to" not in name})
    for feature, caption, parts in zip(features, captions, reasons(model, features, captions), strict=True):
        assert parts[:, :2].sum(1) == pytest.approx(full_run(blind, feature, caption), abs=1e-9)
        assert parts[:, :2].sum(1) == pytest.approx(full_run(model, model.feature_mean, caption), abs=1e-9)
    assert abs(np.concatenate([parts[:, 2] for parts in reasons(blind, features, captions)])).max() == 0


def test_another_image_changes_the_image_part_alone(captioned: tuple[MRNN, Tensor, list[Caption]]) -> None:
    model, features, captions = captioned
    exchanged = features.roll(1, 0)
    before, after = reasons(model, features, captions), reasons(model, exchanged, captions)
    for number, caption in enumerate(captions):
        assert np.array_equal(before[number][:, :2], after[number][:, :2])
        expected = full_run(model, exchanged[number], caption) - full_run(model, features[number], caption)
        assert after[number][:, 2] - before[number][:, 2] == pytest.approx(expected, abs=1e-9)
        assert abs(expected).max() > 0.01


@pytest.mark.parametrize("captioned", MRNNS, ids=MRNN_IDS, indirect=True)
def test_without_words_and_image_the_bias_remains(captioned: tuple[MRNN, Tensor, list[Caption]]) -> None:
    model, features, captions = captioned
    mute = deepcopy(model)
    if model.config.word_path:
        mute.word_to_multimodal.weight.zero_()
    mute.recurrent_to_multimodal.weight.zero_()
    for caption, parts in zip(captions, reasons(model, features, captions), strict=True):
        assert parts[:, 0] == pytest.approx(full_run(mute, model.feature_mean, caption), abs=1e-9)


def test_no_captions_and_training_mode(build_model: Build) -> None:
    model = build_model()
    assert reasons(model, torch.zeros(0, 12), []) == []
    assert reasons(model, torch.zeros(1, 12), [Caption((), (), False)])[0].shape == (0, 3)
    with pytest.raises(ValueError, match="eval mode"):
        reasons(model.train(), torch.zeros(0, 12), [])

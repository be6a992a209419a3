"""Captions of a captioner whose states depend on the image: every way of decoding against the model's packed pass."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from mrnn.data.vocabulary import BOUNDARY_ID, UNKNOWN_ID
from mrnn.evaluate.generation.decode import Caption, Decoder, DecodingConfig, generate
from mrnn.train.batches import CaptionBatch
from mrnn.train.models.captioner import Captioner
from tests.variants import VARIANTS

Build = Callable[..., Captioner]
KINDS = ("mrnn", "generator", "transformer", "mlbl-b", "mlbl-f", "mrnn-image-recurrent")
EVERY = (*KINDS, *VARIANTS)


def next_words(model: Captioner, feature: torch.Tensor, words: list[int]) -> torch.Tensor:
    """log P of every word after these, by the packed pass over START and the words: (V,)."""
    inputs = torch.tensor([BOUNDARY_ID, *words])
    batch = CaptionBatch(
        sentences=np.zeros(1),
        count=len(inputs),
        inputs=inputs,
        targets=inputs,
        sizes=[1] * len(inputs),
        image_of_token=torch.zeros(len(inputs), dtype=torch.int64),
        features=feature[None],
    )
    return model.output(model(batch))[-1].log_softmax(-1)


def beam_by_hand(model: Captioner, feature: torch.Tensor, width: int, steps: int) -> tuple[list[int], float]:
    """The best caption of a beam search that keeps finished hypotheses, one packed pass per hypothesis and step."""
    kept: list[tuple[float, list[int]]] = [(0.0, [])]
    for _ in range(steps):
        longer = [(score, words) for score, words in kept if words and words[-1] == BOUNDARY_ID]
        for score, words in kept:
            if not words or words[-1] != BOUNDARY_ID:
                log_probs = next_words(model, feature, words)
                log_probs[UNKNOWN_ID] = -torch.inf
                longer += [(score + value.item(), [*words, word]) for word, value in enumerate(log_probs)]
        kept = sorted(longer, key=lambda hypothesis: -hypothesis[0])[:width]
    complete = [(score, words) for score, words in kept if words[-1] == BOUNDARY_ID]
    score, words = (complete or kept)[0]
    return [word for word in words if word != BOUNDARY_ID], score


@pytest.fixture
def features() -> torch.Tensor:
    return torch.randn(4, 12, generator=torch.Generator().manual_seed(5), dtype=torch.float64)


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("width", [1, 3])
def test_greedy_and_beam_search_equal_the_search_by_hand(
    name: str, width: int, build_model: Build, features: torch.Tensor
) -> None:
    model = build_model(kind=name.split(" ")[0], double=True, **VARIANTS.get(name, {}))
    model.output.bias[BOUNDARY_ID] = 1.5
    config = DecodingConfig(beam=width, max_steps=6)
    for feature, found in zip(features, generate(model, features, config), strict=True):
        words, score = beam_by_hand(model, feature, width, 6)
        assert list(found[0].words) == words
        assert found[0].log_prob == pytest.approx(score, abs=1e-9)


@pytest.mark.parametrize("name", EVERY)
def test_samples_depend_on_the_image_and_its_id_alone(name: str, build_model: Build, features: torch.Tensor) -> None:
    model, config = (
        build_model(kind=name.split(" ")[0], **VARIANTS.get(name, {})),
        DecodingConfig(beam=1, sample=True, max_steps=8, seed=3),
    )
    decoder, names = Decoder(model), [*"abcd"]
    together = decoder(features.float(), config, ids=names)
    alone = [decoder(features[[n]].float(), config, ids=[names[n]])[0] for n in range(4)]
    assert [best.words for (best,) in together] == [best.words for (best,) in alone]
    assert len({found[0].words for found in together}) > 1


@pytest.mark.parametrize("name", EVERY)
def test_the_log_probabilities_of_a_caption_are_the_models(
    name: str, build_model: Build, features: torch.Tensor
) -> None:
    model = build_model(kind=name.split(" ")[0], double=True, **VARIANTS.get(name, {}))
    captions: list[list[Caption]] = generate(model, features, DecodingConfig(beam=2, max_steps=7), prefix=[5, 6])
    for feature, (best, *_) in zip(features, captions, strict=True):
        said = [*best.words, *[BOUNDARY_ID] * best.complete]
        expected = [next_words(model, feature, said[:n])[word].item() for n, word in enumerate(said)]
        assert best.words[:2] == (5, 6)
        assert best.log_probs == pytest.approx(expected, abs=1e-9)

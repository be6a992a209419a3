import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mrnn.data.cache import FeatureCache
from mrnn.data.errors import SettingError, Stopped, TrainingError
from mrnn.data.stopping import StopRequest
from mrnn.train.batches import NOTHING, CaptionBatch
from mrnn.train.checkpoint import read_checkpoint
from mrnn.train.distributed import Ranks
from mrnn.train.graphs import Graphs
from mrnn.train.loop import train
from mrnn.train.models import KINDS
from mrnn.train.models.captioner import LateFusion
from mrnn.train.models.kinds import LATE_FUSION
from mrnn.train.prepare import Training, prepare
from mrnn.train.run_files import LAST
from mrnn.train.sentences import Sentences
from mrnn.train.settings import RunOptions, TrainSettings
from mrnn.train.tasks.captioning import batch_bits, sentence_bits
from mrnn.train.tasks.contrast import ContrastBatch, contrast_bits, contrast_of_scores
from tests.train.test_graphs import capture
from tests.variants import FUSED, FUSED_IDS

OPTIONS = RunOptions(device="cpu", tensorboard=False, log_every=4)
SIZES = {"contrast_pictures": 5, "contrast_sentences": 3}


def prepared(cache: FeatureCache, settings: TrainSettings, **changes: Any) -> Training:
    quiet = {"dropout": 0.0, "image_dropout": 0.0, **SIZES}
    return prepare(cache, settings.but(**quiet | changes), OPTIONS, last=None, report=lambda line: None)


def batches(training: Training, *, epoch: int = 0, skip: int = 0, rectangular: bool = False) -> Iterator[Any]:
    return iter(
        training.task.batches(
            training.data, training.settings, epoch=epoch, skip=skip, part=(0, 1), rectangular=rectangular
        )
    )


def halves(model: Any, batch: CaptionBatch) -> dict[str, Tensor]:
    return {"language": model.language_packed(batch), "image": model.image(batch.features)}


def test_the_term_is_the_cross_entropy_of_the_scores_of_retrieval() -> None:
    scores = torch.randn(5, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 4 - 30
    probability = scores.exp().numpy()
    ratio = probability / probability.mean(0)  # P(w|I) / P(w), by which sentences are ranked for an image
    images = [-math.log(probability[own, own] / probability[:, own].sum()) for own in range(3)]
    sentences = [-math.log(ratio[own, own] / ratio[own].sum()) for own in range(3)]
    assert contrast_of_scores(scores).item() == pytest.approx(np.mean(images) + np.mean(sentences), rel=1e-12)


@pytest.mark.parametrize(("name", "changes"), FUSED, ids=FUSED_IDS)
@pytest.mark.parametrize("rectangular", [False, True])
def test_a_batch_compares_sentences_with_images_by_log_p(
    name: str, changes: dict[str, Any], rectangular: bool, cache: FeatureCache, tiny_kinds: dict[str, TrainSettings]
) -> None:
    training = prepared(cache, tiny_kinds[name], **changes, contrast=0.3)
    batch, data = next(batches(training, rectangular=rectangular)), training.data
    assert isinstance(batch, ContrastBatch)
    model: Any = training.model.double()
    with torch.no_grad():
        model.image_to_multimodal.weight.mul_(20)  # an untrained model hardly looks at the image
    batch = replace(batch, features=batch.features.double())
    numbers = batch.sentences[batch.rows[:, 0].numpy()]  # the rows of the first step are the sentences in order
    alone = Sentences(
        tokens=np.concatenate([tokens_of(data.train, n) for n in numbers]),
        starts=np.concatenate([[0], np.cumsum(data.train.lengths[numbers])]),
        image=np.zeros(3, dtype=np.int64),
    )
    scores = torch.zeros(5, 3, dtype=torch.float64)
    for k, image in enumerate(batch.images):
        found = sentence_bits(model, alone, One(batch.features[image]))  # type: ignore[arg-type]
        scores[k] = -torch.from_numpy(found.bits) * math.log(2)
    expected = contrast_of_scores(scores).item() / math.log(2)
    found_bits = contrast_bits(model, batch, **halves(model, batch)).item()
    assert found_bits == pytest.approx(expected, rel=1e-9)
    total = training.task.cost(model, batch).item()
    assert total == pytest.approx(batch_bits(model, batch).item() + 0.3 * batch.count * expected, rel=1e-9)


class StopAfter(StopRequest):
    """A request to stop that comes after some steps."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self._left = steps

    @property
    def code(self) -> int:
        return int(bool(self.reason))

    @property
    def reason(self) -> str:
        self._left -= 1
        return "" if self._left > 0 else "the test"


class One:
    """Features in which every image is the same."""

    def __init__(self, feature: Tensor) -> None:
        self._feature = feature

    def __getitem__(self, images: np.ndarray) -> Tensor:
        return self._feature.expand(len(images), -1)


def tokens_of(sentences: Sentences, number: int) -> np.ndarray:
    tokens: np.ndarray = sentences.tokens[sentences.starts[number] : sentences.starts[number + 1]]
    return tokens


@pytest.mark.parametrize("rectangular", [False, True])
def test_what_is_compared(rectangular: bool, cache: FeatureCache, tiny: TrainSettings) -> None:
    training = prepared(cache, tiny, contrast=1.0)
    data, drawn = training.data, []
    for batch in batches(training, rectangular=rectangular):
        image = data.train.image[batch.sentences]
        assert len(set(batch.images.tolist())) == len(batch.images) == min(5, len(set(image)))
        assert len(batch.rows) == min(3, len(batch.images))
        features = batch.features[batch.images]
        for n, (rows, words) in enumerate(zip(batch.rows, batch.words, strict=True)):
            column = int(rows[0])
            length = int(data.train.lengths[batch.sentences[column]])
            assert words.tolist() == [*tokens_of(data.train, batch.sentences[column]), 0] + [NOTHING] * (
                len(batch.sizes) - length - 1
            )
            assert batch.inputs[rows[: length + 1]].tolist() == [0, *tokens_of(data.train, batch.sentences[column])]
            assert torch.equal(features[n], data.features[image[column : column + 1]][0])
        drawn.append(batch.images.tolist())
    assert len({tuple(each) for each in drawn}) > len(drawn) / 2
    again = [batch.images.tolist() for batch in batches(training, skip=4, rectangular=rectangular)]
    assert again == drawn[4:]
    assert again != [batch.images.tolist() for batch in batches(training, epoch=1, skip=4, rectangular=rectangular)]


@pytest.mark.parametrize("name", LATE_FUSION)
def test_gradient_against_finite_differences(
    name: str, cache: FeatureCache, tiny_kinds: dict[str, TrainSettings]
) -> None:
    training = prepared(cache, tiny_kinds[name], contrast=2.0)
    model: Any = training.model.double()
    with torch.no_grad():
        model.image_to_multimodal.weight.mul_(20)
        model.output.weight.mul_(10)
    batch = next(batches(training))
    batch = replace(batch, features=batch.features.double())
    training.task.cost(model, batch).backward()
    draw, step = np.random.default_rng(0), 1e-5
    with torch.no_grad():
        for label, parameter in model.named_parameters():
            used = torch.nonzero(parameter.grad.flatten())[:, 0].numpy()
            for at in draw.choice(used, size=4):
                values = parameter.view(-1)
                before, costs = values[at].item(), []
                for moved in (before + step, before - step):
                    values[at] = moved
                    costs.append(training.task.cost(model, batch).item())
                values[at] = before
                slope = (costs[0] - costs[1]) / (2 * step)
                assert parameter.grad.view(-1)[at].item() == pytest.approx(slope, rel=1e-4, abs=1e-5), label


def test_recorded_steps_compute_every_batch_afresh(cache: FeatureCache, tiny: TrainSettings) -> None:
    training = prepared(cache, tiny, contrast=1.0)
    cost, captures = training.task.cost, 0

    def counted(work: Any) -> Any:
        nonlocal captures
        captures += 1
        return capture(work)

    graphs = Graphs(cost, counted, report=pytest.fail)
    for epoch in range(2):
        for batch in batches(training, epoch=epoch, rectangular=True):
            plain, graphed = cost(training.model, batch), graphs(training.model, batch)
            assert torch.equal(plain, graphed)
            ours, theirs = (torch.autograd.grad(each, tuple(training.model.parameters())) for each in (graphed, plain))
            torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-8)
    assert 1 < captures < 15


def test_training_tells_images_apart_better_with_the_term_than_without(
    cache: FeatureCache, tiny: TrainSettings, tmp_path: Path
) -> None:
    found = {}
    for weight in (0.0, 2.0):
        settings = tiny.but(contrast=weight, image_dropout=0.0, **SIZES)
        train(cache, tmp_path / str(weight), settings, options=OPTIONS)
        training = prepared(cache, tiny, contrast=1.0)
        training.model.load_state_dict(read_checkpoint(tmp_path / str(weight) / LAST)["weights"])
        model: Any = training.model.eval()
        with torch.no_grad():
            costs = [contrast_bits(model, batch, **halves(model, batch)).item() for batch in batches(training)]
        found[weight] = np.mean(costs)
    assert found[2.0] < found[0.0] - 0.1


def test_a_resumed_run_draws_the_same(cache: FeatureCache, tiny: TrainSettings, tmp_path: Path) -> None:
    settings = tiny.but(epochs=1, contrast=1.0, **SIZES)
    train(cache, tmp_path / "whole", settings, options=OPTIONS)
    with pytest.raises(Stopped):
        train(cache, tmp_path / "parts", settings, options=OPTIONS, stop=StopAfter(7))
    train(cache, tmp_path / "parts", settings, options=OPTIONS)
    whole, parts = (read_checkpoint(tmp_path / name / LAST)["weights"] for name in ("whole", "parts"))
    assert all(torch.equal(whole[key], parts[key]) for key in whole)


def test_which_models_have_a_contrastive_term() -> None:
    fused = {name for name, kind in KINDS.items() if issubclass(resolve_name(kind.model), LateFusion)}
    assert set(LATE_FUSION) == {name for name in fused if resolve_name(KINDS[name].model).sees_images}
    for name in KINDS.keys() - set(LATE_FUSION):
        with pytest.raises(SettingError, match=f"contrast is for mrnn and transformer, .* not for {name}"):
            TrainSettings.of(model=name, contrast=1.0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 10}, r"contrast_pictures \(16\) must not exceed the sentences per batch, batch_size \(10\)"),
        ({"contrast_sentences": 17}, r"contrast_sentences \(17\) must not exceed contrast_pictures \(16\)"),
        ({"contrast_pictures": 1}, "contrast_pictures must be at least 2"),
    ],
)
def test_settings_that_do_not_fit_together(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingError, match=message):
        TrainSettings.of(contrast=1.0, **changes)


def test_several_processes_are_refused(cache: FeatureCache, tiny: TrainSettings) -> None:
    settings, report = tiny.but(contrast=1.0, **SIZES), lambda line: None
    with pytest.raises(TrainingError, match="mrnn with --contrast is trained by one process"):
        prepare(cache, settings, OPTIONS, last=None, report=report, ranks=Ranks(rank=0, count=2))

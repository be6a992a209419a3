from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mrnn.data.cache import FeatureCache
from mrnn.data.vocabulary import BOUNDARY_ID
from mrnn.train import loop, losses
from mrnn.train.batches import NOTHING, Features, Sentences, epoch_batches, pack
from mrnn.train.checkpoint import LAST, read_checkpoint
from mrnn.train.graphs import Graphs, Work
from mrnn.train.losses import batch_bits
from mrnn.train.models import MODELS, MRNN
from mrnn.train.prepare import Training, prepare
from mrnn.train.settings import RunOptions, TrainSettings

OPTIONS = RunOptions(device="cpu", tensorboard=False, log_every=4)


@pytest.fixture(scope="module")
def training(cache: FeatureCache, tiny: TrainSettings) -> Training:
    return prepare(cache, replace(tiny, dropout=0.0, image_dropout=0.0), OPTIONS, last=None, report=lambda line: None)


def capture(work: Work) -> tuple[Callable[[], None], tuple[Tensor, ...]]:
    """Behaves as a CUDA graph where there is no GPU: whatever comes, it reads and writes the same addresses."""
    results = work()

    def replay() -> None:
        with torch.enable_grad():
            again = work()
        for own, new in zip(results, again, strict=True):
            own.copy_(new)

    return replay, results


def gradients(model: MRNN, bits: Tensor) -> tuple[Tensor, ...]:
    return torch.autograd.grad(bits, tuple(model.parameters()))


def test_a_rectangular_batch_holds_the_same_sentences(training: Training) -> None:
    sentences, numbers = training.train, np.array([40, 3, 17, 4, 99, 5])
    batch = pack(sentences, numbers, training.features, rectangular=True)
    steps = int(sentences.lengths[numbers].max()) + 1
    assert batch.sizes == [6] * steps
    assert len(batch.inputs) == len(batch.targets) == len(batch.image_of_token) == 6 * steps
    assert len(batch.features) == 6
    assert batch.words == sentences.lengths[numbers].sum() + 6
    for place, number in enumerate(batch.sentences):
        words = sentences.tokens[sentences.starts[number] : sentences.starts[number + 1]].tolist()
        column = slice(place, None, 6)
        assert batch.inputs[column].tolist()[: len(words) + 1] == [BOUNDARY_ID, *words]
        assert batch.targets[column].tolist() == [*words, BOUNDARY_ID] + [NOTHING] * (steps - len(words) - 1)
        own = training.features[sentences.image[number : number + 1]]
        assert torch.equal(batch.features[batch.image_of_token[column]], own.expand(steps, -1))


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("chunk", [None, 100])
def test_a_rectangular_batch_costs_and_teaches_the_same(
    name: str, chunk: int | None, training: Training, monkeypatch: pytest.MonkeyPatch
) -> None:
    if chunk:
        monkeypatch.setitem(losses.CHUNK, "cpu", chunk)
    torch.manual_seed(3)
    model = MODELS[name](training.model.config).double()
    packed, rectangular = (
        pack(training.train, np.arange(3, 40), training.features, rectangular=rectangular)
        for rectangular in (False, True)
    )
    assert len(rectangular.targets) > rectangular.words
    costs = [batch_bits(model, replace(b, features=b.features.double())) for b in (packed, rectangular)]
    torch.testing.assert_close(costs[0], costs[1], rtol=1e-12, atol=0)
    torch.testing.assert_close(*(gradients(model, bits) for bits in costs), rtol=1e-10, atol=1e-12)


def test_shapes_are_few_and_padding_little() -> None:
    draw = np.random.default_rng(0)
    lengths = np.maximum(2, draw.normal(10.8, 3.8, 30_000).round()).astype(np.int64)
    starts = np.concatenate([[0], np.cumsum(lengths)])
    sentences = Sentences(draw.integers(1, 50, starts[-1]).astype(np.int32), starts, np.arange(30_000) // 5)

    class Ones(Features):
        def __init__(self) -> None:
            pass

        def __getitem__(self, images: np.ndarray) -> Tensor:
            return torch.ones(len(images), 1)

    batches = list(epoch_batches(sentences, Ones(), 100, seed=0, epoch=0, rectangular=True))
    assert sum(len(batch.targets) for batch in batches) < 1.1 * sum(batch.words for batch in batches)
    assert len({(len(batch.sizes), len(batch.sentences)) for batch in batches}) < 30


def test_recorded_steps_compute_every_batch_afresh(training: Training) -> None:
    captures = 0

    def counted(work: Work) -> tuple[Callable[[], None], tuple[Tensor, ...]]:
        nonlocal captures
        captures += 1
        return capture(work)

    graphs = Graphs(batch_bits, counted, report=pytest.fail)
    shapes: list[tuple[int, int]] = []
    for epoch in range(2):
        for batch in epoch_batches(training.train, training.features, 8, seed=0, epoch=epoch, rectangular=True):
            shapes.append((len(batch.sizes), len(batch.sentences)))
            plain, graphed = batch_bits(training.model, batch), graphs(training.model, batch)
            assert torch.equal(plain, graphed)
            ours, theirs = gradients(training.model, 0.5 * graphed), gradients(training.model, 0.5 * plain)
            torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-8)
    assert captures == sum(shapes.count(shape) > 1 for shape in set(shapes)) > 1


def test_where_no_graph_can_be_recorded_training_goes_on_without(training: Training) -> None:
    def fail(work: Work) -> tuple[Callable[[], None], tuple[Tensor, ...]]:
        raise RuntimeError("operation not permitted\nwhen stream is capturing")

    lines: list[str] = []
    graphs = Graphs(batch_bits, fail, report=lines.append)
    batch = pack(training.train, np.arange(8), training.features, rectangular=True)
    costs = {graphs(training.model, batch).item() for _ in range(4)}
    assert costs == {batch_bits(training.model, batch).item()}
    assert lines == ["going on without CUDA graphs (operation not permitted)"]


def test_a_run_with_graphs_learns_what_a_run_without_does(
    cache: FeatureCache, tiny: TrainSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = replace(tiny, dropout=0.0, image_dropout=0.0)
    loop.train(cache, tmp_path / "plain", settings, options=OPTIONS, report=lambda line: None)

    def with_graphs(*arguments: Any, **options: Any) -> Training:
        training = prepare(*arguments, **options)
        assert training.graphs is None  # on a CPU
        training.graphs = Graphs(batch_bits, capture, report=pytest.fail)
        return training

    monkeypatch.setattr(loop, "prepare", with_graphs)
    loop.train(cache, tmp_path / "graphs", settings, options=OPTIONS, report=lambda line: None)
    plain, graphed = (read_checkpoint(tmp_path / name / LAST)["progress"] for name in ("plain", "graphs"))
    assert graphed["step"] == plain["step"]
    assert graphed["best_perplexity"] == pytest.approx(plain["best_perplexity"], rel=1e-3)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_graphs_on_a_gpu(cache: FeatureCache, tiny: TrainSettings, precision: str) -> None:
    settings = replace(tiny, dropout=0.0, image_dropout=0.0, precision=precision)
    lines: list[str] = []
    training = prepare(cache, settings, replace(OPTIONS, device="cuda"), last=None, report=lines.append)
    assert training.graphs
    for epoch in range(3):
        for batch in epoch_batches(
            training.train, training.features, 8, seed=0, epoch=epoch, device=training.device, rectangular=True
        ):
            with torch.autocast("cuda", torch.bfloat16, enabled=precision == "bf16", cache_enabled=False):
                plain, graphed = (cost(training.model, batch) for cost in (batch_bits, training.graphs))
            torch.testing.assert_close(graphed, plain, rtol=1e-5, atol=0)
            torch.testing.assert_close(
                gradients(training.model, graphed), gradients(training.model, plain), rtol=1e-3, atol=1e-4
            )
            loop.train_step(training, batch)
    assert not any("without CUDA graphs" in line for line in lines)

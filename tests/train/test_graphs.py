from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mrnn.data.cache import FeatureCache
from mrnn.data.errors import TrainingError
from mrnn.data.vocabulary import BOUNDARY_ID
from mrnn.train import loop, losses
from mrnn.train.batches import NOTHING, epoch_batches, pack
from mrnn.train.checkpoint import read_checkpoint
from mrnn.train.features import Features
from mrnn.train.graphs import Graphs, Work
from mrnn.train.models import CAPTIONERS, KINDS
from mrnn.train.prepare import prepare
from mrnn.train.run_files import LAST
from mrnn.train.sentences import Sentences
from mrnn.train.settings import RunOptions, TrainSettings
from mrnn.train.tasks.captioning import batch_bits
from mrnn.train.training import Training
from tests.variants import VARIANTS

OPTIONS = RunOptions(device="cpu", tensorboard=False, log_every=4)


@pytest.fixture(scope="module")
def training(cache: FeatureCache, tiny: TrainSettings) -> Training:
    return prepare(cache, tiny.but(dropout=0.0, image_dropout=0.0), OPTIONS, last=None, report=lambda line: None)


def capture(work: Work) -> tuple[Callable[[], None], tuple[Tensor, ...]]:
    """Behaves as a CUDA graph where there is no GPU: whatever comes, it reads and writes the same addresses."""
    results = work()

    def replay() -> None:
        with torch.enable_grad():
            again = work()
        for own, new in zip(results, again, strict=True):
            own.copy_(new)

    return replay, results


def gradients(model: nn.Module, bits: Tensor) -> tuple[Tensor, ...]:
    return torch.autograd.grad(bits, tuple(model.parameters()))


def without_dropout(settings: TrainSettings) -> TrainSettings:
    return settings.but(**dict.fromkeys({"dropout", "image_dropout"} & KINDS[settings.model].settings(), 0.0))


def test_a_rectangular_batch_holds_the_same_sentences(training: Training) -> None:
    sentences, numbers = training.data.train, np.array([40, 3, 17, 4, 99, 5])
    batch = pack(sentences, numbers, training.data.features, rectangular=True)
    steps = int(sentences.lengths[numbers].max()) + 1
    assert batch.sizes == [6] * steps
    assert len(batch.inputs) == len(batch.targets) == len(batch.image_of_token) == 6 * steps
    assert len(batch.features) == 6
    assert batch.count == sentences.lengths[numbers].sum() + 6
    for place, number in enumerate(batch.sentences):
        words = sentences.tokens[sentences.starts[number] : sentences.starts[number + 1]].tolist()
        column = slice(place, None, 6)
        assert batch.inputs[column].tolist()[: len(words) + 1] == [BOUNDARY_ID, *words]
        assert batch.targets[column].tolist() == [*words, BOUNDARY_ID] + [NOTHING] * (steps - len(words) - 1)
        own = training.data.features[sentences.image[number : number + 1]]
        assert torch.equal(batch.features[batch.image_of_token[column]], own.expand(steps, -1))


@pytest.mark.parametrize("name", [*CAPTIONERS, *VARIANTS])
@pytest.mark.parametrize("chunk", [None, 100])
def test_a_rectangular_batch_costs_and_teaches_the_same(
    name: str,
    chunk: int | None,
    training: Training,
    tiny_kinds: dict[str, TrainSettings],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if chunk:
        monkeypatch.setitem(losses.CHUNK, "cpu", chunk)
    torch.manual_seed(3)
    data = training.data
    settings = without_dropout(tiny_kinds[name])
    kind = KINDS[settings.model]
    model = kind.build(settings.config(vocabulary=len(data.vocabulary), features=data.features.size)).double()
    packed, rectangular = (
        pack(training.data.train, np.arange(3, 40), training.data.features, rectangular=rectangular)
        for rectangular in (False, True)
    )
    assert len(rectangular.targets) > rectangular.count
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
    assert sum(len(batch.targets) for batch in batches) < 1.1 * sum(batch.count for batch in batches)
    assert len({(len(batch.sizes), len(batch.sentences)) for batch in batches}) < 30


@pytest.mark.parametrize("name", ["mrnn", "mrnn gru", "mrnn all"])
def test_recorded_steps_compute_every_batch_afresh(
    name: str, cache: FeatureCache, tiny_kinds: dict[str, TrainSettings]
) -> None:
    settings = tiny_kinds[name].but(dropout=0.0, image_dropout=0.0)
    training = prepare(cache, settings, OPTIONS, last=None, report=lambda line: None)
    captures = 0

    def counted(work: Work) -> tuple[Callable[[], None], tuple[Tensor, ...]]:
        nonlocal captures
        captures += 1
        return capture(work)

    graphs = Graphs(batch_bits, counted, report=pytest.fail)
    shapes: list[tuple[int, int]] = []
    for epoch in range(2):
        data = training.data
        for batch in epoch_batches(data.train, data.features, 8, seed=0, epoch=epoch, rectangular=True):
            shapes.append((len(batch.sizes), len(batch.sentences)))
            plain, graphed = batch_bits(training.model, batch), graphs(training.model, batch)
            assert torch.equal(plain, graphed)
            ours, theirs = gradients(training.model, 0.5 * graphed), gradients(training.model, 0.5 * plain)
            torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-8)
    assert captures == sum(shapes.count(shape) > 1 for shape in set(shapes)) > 1


@pytest.mark.parametrize("name", [name for name in KINDS if name not in CAPTIONERS])
def test_recorded_steps_of_models_that_match(
    name: str, region_cache: FeatureCache, tiny_kinds: dict[str, TrainSettings]
) -> None:
    """With all false pairs in the first epoch and only the hardest from the second on, in graphs of their own."""
    settings = tiny_kinds[name].but(dropout=0.0, hardest_from=2)
    training = prepare(region_cache, settings, OPTIONS, last=None, report=lambda line: None)
    cost = training.task.cost
    graphs = Graphs(cost, capture, report=pytest.fail)
    for epoch in range(2):
        batches = training.task.batches(training.data, settings, epoch=epoch, skip=0, part=(0, 1), rectangular=True)
        for batch in batches:
            plain, graphed = cost(training.model, batch), graphs(training.model, batch)
            assert torch.equal(plain, graphed)
            ours, theirs = gradients(training.model, graphed), gradients(training.model, plain)
            torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-8)


def test_once_memory_is_full_other_shapes_go_on_without_graphs(training: Training) -> None:
    captures = 0

    def once(work: Work) -> tuple[Callable[[], None], tuple[Tensor, ...]]:
        nonlocal captures
        captures += 1
        if captures > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return capture(work)

    lines: list[str] = []
    graphs = Graphs(batch_bits, once, report=lines.append)
    for numbers in (np.arange(8), np.arange(9), np.arange(10)):
        batch = pack(training.data.train, numbers, training.data.features, rectangular=True)
        assert {graphs(training.model, batch).item() for _ in range(4)} == {batch_bits(training.model, batch).item()}
    assert lines == ["no more CUDA graphs are recorded after 1: the device's memory is full"]
    assert captures == 2


def test_where_no_graph_can_be_recorded_the_way_out_is_named(training: Training) -> None:
    def fail(work: Work) -> tuple[Callable[[], None], tuple[Tensor, ...]]:
        raise RuntimeError("operation not permitted\nwhen stream is capturing")

    graphs = Graphs(batch_bits, fail, report=pytest.fail)
    batch = pack(training.data.train, np.arange(8), training.data.features, rectangular=True)
    graphs(training.model, batch)
    with pytest.raises(TrainingError, match=r"\(operation not permitted\); run the same command with --no-graphs"):
        graphs(training.model, batch)


def test_gradients_of_an_earlier_batch_are_refused_not_wrong(training: Training) -> None:
    graphs = Graphs(batch_bits, capture, report=pytest.fail)
    batch = pack(training.data.train, np.arange(8), training.data.features, rectangular=True)
    _, earlier, _ = (graphs(training.model, batch) for _ in range(3))
    with pytest.raises(RuntimeError, match="a later batch"):
        earlier.backward()


def test_a_run_with_graphs_learns_what_a_run_without_does(
    cache: FeatureCache, tiny: TrainSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = tiny.but(dropout=0.0, image_dropout=0.0)
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
    assert graphed["best"] == pytest.approx(plain["best"], rel=1e-3)


def on_gpu(cache: FeatureCache, settings: TrainSettings) -> Training:
    training = prepare(cache, settings, replace(OPTIONS, device="cuda"), last=None, report=lambda line: None)
    assert training.graphs
    return training


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize("name", [*CAPTIONERS, *VARIANTS])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_graphs_on_a_gpu(cache: FeatureCache, tiny_kinds: dict[str, TrainSettings], name: str, precision: str) -> None:
    settings = without_dropout(tiny_kinds[name]).but(precision=precision)
    training = on_gpu(cache, settings)
    for epoch in range(3):
        for batch in training.task.batches(training.data, settings, epoch=epoch, skip=0, part=(0, 1), rectangular=True):
            found = []
            for cost in (training.graphs, batch_bits):  # no cost is alive while the other is computed
                assert cost
                with torch.autocast("cuda", torch.bfloat16, enabled=precision == "bf16", cache_enabled=False):
                    bits = cost(training.model, batch)
                found.append((bits.item(), gradients(training.model, bits)))
                del bits
            (graphed, ours), (plain, theirs) = found
            assert graphed == pytest.approx(plain, rel=1e-5)
            for one, other in zip(ours, theirs, strict=True):
                assert torch.nn.functional.cosine_similarity(one.flatten(), other.flatten(), dim=0) > 0.999
            loop.train_step(training, batch)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_replays_on_a_gpu_draw_dropout_afresh(cache: FeatureCache, tiny: TrainSettings) -> None:
    training = on_gpu(cache, tiny.but(dropout=0.5))
    assert training.graphs
    numbers = np.tile(np.arange(len(training.data.train)), 3)  # above 3,072 rows the embedding works otherwise
    batch = pack(training.data.train, numbers, training.data.features, device=training.device, rectangular=True)
    assert len(batch.inputs) > 3072
    costs = [training.graphs(training.model, batch).item() for _ in range(4)]
    assert len(set(costs)) == 4
    state = torch.cuda.get_rng_state()
    again = [training.graphs(training.model, batch).item()]
    torch.cuda.set_rng_state(state)
    assert training.graphs(training.model, batch).item() == pytest.approx(again[0], rel=1e-6)

import fcntl
import json
import math
import os
import re
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mrnn.data.cache import FeatureCache
from mrnn.data.errors import CheckpointError, Stopped, TrainingError
from mrnn.data.stopping import SIGNALS, stop_on_signals
from mrnn.train import loop
from mrnn.train.batches import pack
from mrnn.train.checkpoint import load_trained, read_checkpoint
from mrnn.train.features import Features
from mrnn.train.loop import train
from mrnn.train.models import CAPTIONERS
from mrnn.train.optim import build_optimiser, learning_rate
from mrnn.train.prepare import prepare
from mrnn.train.run_files import BEST, LAST
from mrnn.train.settings import RunOptions, TrainSettings
from mrnn.train.tasks.captioning import batch_bits
from mrnn.train.training import Training

QUIET = RunOptions(device="cpu", tensorboard=False, log_every=4)


def run(
    cache: FeatureCache, folder: Path, settings: TrainSettings, *, time_limit: float | None = None, **options: Any
) -> list[str]:
    lines: list[str] = []
    with stop_on_signals(time_limit=time_limit) as stop:
        train(cache, folder, settings, options=replace(QUIET, **options), stop=stop, report=lines.append)
    return lines


def outcome(folder: Path) -> tuple[list[torch.Tensor], list[dict[str, Any]]]:
    """Everything a run leaves, times apart: weights, optimiser and generator state, metrics."""
    tensors: list[torch.Tensor] = []

    def collect(value: Any) -> None:
        if isinstance(value, torch.Tensor):
            tensors.append(value)
        elif isinstance(value, dict):
            for item in value.values():
                collect(item)

    collect(read_checkpoint(folder / LAST))
    collect(read_checkpoint(folder / BEST))
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return tensors, [
        {k: v for k, v in line.items() if k not in ("seconds", "tokens_per_s", "pairs_per_s")} for line in lines
    ]


def assert_same(one: Path, two: Path) -> None:
    (tensors, lines), (other_tensors, other_lines) = outcome(one), outcome(two)
    assert len(tensors) == len(other_tensors) > 15
    assert all(torch.equal(a, b) for a, b in zip(tensors, other_tensors, strict=True))
    assert lines == other_lines


@pytest.fixture(scope="module")
def whole(cache: FeatureCache, tiny: TrainSettings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uninterrupted run, with the moving average."""
    folder = tmp_path_factory.mktemp("whole")
    run(cache, folder, tiny.but(ema=0.9))
    return folder


def test_training_learns_and_logs(whole: Path, tiny: TrainSettings) -> None:
    _, lines = outcome(whole)
    epochs = [line for line in lines if line["kind"] == "epoch"]
    assert [line["epoch"] for line in epochs] == [1, 2, 3]
    assert epochs[-1]["val_perplexity"] < 0.8 * epochs[0]["val_perplexity"]
    assert [line["step"] for line in lines if line["kind"] == "step"] == list(range(4, epochs[-1]["step"] + 1, 4))
    config = json.loads((whole / "config.json").read_text())
    assert config["settings"] == tiny.but(ema=0.9).flat()
    assert config["vocabulary_size"] == len(load_trained(whole).vocabulary)


def test_equal_seeds_give_equal_bytes_however_often_saved_and_wherever_the_features_lie(
    cache: FeatureCache, tiny: TrainSettings, whole: Path, tmp_path: Path
) -> None:
    run(cache, tmp_path, tiny.but(ema=0.9), save_every="3", memory_budget=1e-9)
    assert_same(tmp_path, whole)


def test_another_seed_gives_another_model(
    cache: FeatureCache, tiny: TrainSettings, whole: Path, tmp_path: Path
) -> None:
    run(cache, tmp_path, tiny.but(ema=0.9, seed=1, epochs=1))
    assert not torch.equal(load_trained(tmp_path).model.output.weight, load_trained(whole).model.output.weight)


def stop_after(steps: int, monkeypatch: pytest.MonkeyPatch, number: int = signal.SIGTERM) -> None:
    """Send this process a signal after its n-th training step from now."""
    real, count = loop.train_step, 0

    def step(*args: Any) -> Any:
        nonlocal count
        count += 1
        if count == steps:
            os.kill(os.getpid(), number)
        return real(*args)

    monkeypatch.setattr(loop, "train_step", step)


@pytest.mark.parametrize(
    ("number", "code"),
    [*((number, 75) for number in SIGNALS if number != signal.SIGINT), (signal.SIGINT, 130)],
    ids=str,
)
def test_stopped_and_resumed_equals_uninterrupted(
    number: int,
    code: int,
    cache: FeatureCache,
    tiny: TrainSettings,
    whole: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = tiny.but(ema=0.9)
    for steps in (5, 20, 23):  # in the middle of an epoch, at its end
        stop_after(steps, monkeypatch, number)
        with pytest.raises(Stopped) as stopped:
            run(cache, tmp_path, settings)
        assert stopped.value.exit_code == code
        monkeypatch.undo()
    run(cache, tmp_path, settings)
    assert_same(tmp_path, whole)


@pytest.mark.parametrize(
    ("name", "measure"),
    [
        *((name, "val_perplexity") for name in CAPTIONERS if name not in ("mrnn", "rnn-base")),
        ("mrnn gru", "val_perplexity"),
        ("mrnn all", "val_perplexity"),
        ("mrnn-image-recurrent both", "val_perplexity"),
        ("alignment", "train_hinge"),
        ("defrag", "train_hinge"),
        ("devise", "train_hinge"),
    ],
)
def test_every_other_kind_resumes_bit_for_bit_too(
    name: str,
    measure: str,
    cache: FeatureCache,
    tiny_kinds: dict[str, TrainSettings],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = tiny_kinds[name].but(epochs=2)
    run(cache, tmp_path / "whole", settings)
    for steps in (5, 27):
        stop_after(steps, monkeypatch)
        with pytest.raises(Stopped):
            run(cache, tmp_path / "parts", settings)
        monkeypatch.undo()
    run(cache, tmp_path / "parts", settings)
    assert_same(tmp_path / "parts", tmp_path / "whole")
    first, last = (line[measure] for line in outcome(tmp_path / "whole")[1] if line["kind"] == "epoch")
    assert last < first
    with pytest.raises(TrainingError, match=r"model [\w-]+, now mrnn|recurrence \w+, now plain"):
        run(cache, tmp_path / "parts", tiny_kinds["mrnn"])


def test_matching_resumes_into_the_epoch_of_hard_pairs_and_needs_its_file_of_word_vectors_once(
    region_cache: FeatureCache, tiny_kinds: dict[str, TrainSettings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vectors = tmp_path / "vectors.txt"
    vectors.write_text("dog 1 2 3 4 5 6\ngirl 3 0 3 0 3 0\n")
    settings = tiny_kinds["alignment"].but(epochs=3, hardest_from=2, word_vectors=str(vectors), ema=0.9)
    run(region_cache, tmp_path / "whole", settings)
    for steps in (5, 20, 23):  # of 24 an epoch: in the first, at the first step of the second, at its end
        stop_after(steps, monkeypatch)
        with pytest.raises(Stopped):
            run(region_cache, tmp_path / "parts", settings)
        monkeypatch.undo()
        vectors.unlink(missing_ok=True)
    run(region_cache, tmp_path / "parts", settings)
    assert_same(tmp_path / "parts", tmp_path / "whole")
    hinges = [line["train_hinge"] for line in outcome(tmp_path / "whole")[1] if line["kind"] == "epoch"]
    assert hinges[1] < 0.7 * hinges[0]  # a maximum in place of a sum


@pytest.mark.parametrize("tail", [b'{"kind": "st', b'{"kind": "step", "step": 8}\n', b"\0" * 300])
def test_whatever_a_kill_left_in_the_metrics_no_line_is_doubled_or_missing(
    tail: bytes, cache: FeatureCache, tiny: TrainSettings, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = tiny.but(ema=0.9)
    stop_after(7, monkeypatch)
    with pytest.raises(Stopped):
        run(cache, tmp_path, settings)
    monkeypatch.undo()
    with (tmp_path / "metrics.jsonl").open("ab") as metrics:
        metrics.write(tail)
    run(cache, tmp_path, settings)
    assert_same(tmp_path, whole)


def test_metrics_that_somebody_removed_are_missed_and_training_goes_on(
    cache: FeatureCache, tiny: TrainSettings, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = tiny.but(ema=0.9)
    stop_after(7, monkeypatch)
    with pytest.raises(Stopped):
        run(cache, tmp_path, settings)
    monkeypatch.undo()
    (tmp_path / "metrics.jsonl").unlink()
    lines = run(cache, tmp_path, settings)
    assert any("metrics.jsonl lacks lines" in line for line in lines)
    assert outcome(tmp_path)[1] == outcome(whole)[1][1:]  # all but that of step 4


def test_a_damaged_last_checkpoint_falls_back_and_ends_equal(
    cache: FeatureCache, tiny: TrainSettings, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = tiny.but(ema=0.9)
    stop_after(14, monkeypatch)
    with pytest.raises(Stopped):
        run(cache, tmp_path, settings, save_every="5")
    monkeypatch.undo()
    os.truncate(tmp_path / LAST, 3000)
    lines = run(cache, tmp_path, settings)
    assert any(LAST in line and "damaged" in line for line in lines)
    assert_same(tmp_path, whole)


def test_a_run_of_version_1_resumes(
    cache: FeatureCache, tiny: TrainSettings, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its checkpoints name bits, tokens and best_perplexity, and its config has no initial scales."""
    settings = tiny.but(ema=0.9)
    stop_after(30, monkeypatch)  # in the second epoch
    with pytest.raises(Stopped):
        run(cache, tmp_path, settings)
    monkeypatch.undo()
    for name in (LAST, BEST):
        content = torch.load(tmp_path / name, weights_only=True)
        former = {"cost": "bits", "count": "tokens", "best": "best_perplexity"}
        content["progress"] = {former.get(key, key): value for key, value in content["progress"].items()}
        content["config"] = {k: v for k, v in content["config"].items() if not k.endswith(("_scale", "_init"))}
        torch.save({**content, "version": 1}, tmp_path / name)
    assert load_trained(tmp_path).progress["best"] == load_trained(tmp_path, which="last").progress["best"] > 1
    run(cache, tmp_path, settings)
    assert_same(tmp_path, whole)


def test_a_version_of_the_future_is_refused(whole: Path, tmp_path: Path) -> None:
    torch.save({**torch.load(whole / BEST, weights_only=True), "version": 3}, tmp_path / BEST)
    with pytest.raises(CheckpointError, match="checkpoint version 3; this mrnn reads versions 1 and 2"):
        load_trained(tmp_path)


def test_training_runs_in_a_thread_and_prints_nothing(
    cache: FeatureCache, tiny: TrainSettings, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with ThreadPoolExecutor(1) as pool:
        pool.submit(train, cache, str(tmp_path), tiny.but(epochs=1), options=QUIET).result()
    assert load_trained(tmp_path).progress["epoch"] == 1
    assert capfd.readouterr() == ("", "")


def test_a_time_limit_stops_saved(cache: FeatureCache, tiny: TrainSettings, tmp_path: Path) -> None:
    with pytest.raises(Stopped, match="time limit") as stopped:
        run(cache, tmp_path, tiny, time_limit=0.0)
    assert stopped.value.exit_code == 75
    assert read_checkpoint(tmp_path / LAST)["progress"]["step"] == 1


def test_a_finished_run_is_left_alone_and_overwrite_starts_anew(
    cache: FeatureCache, tiny: TrainSettings, tmp_path: Path
) -> None:
    short = tiny.but(epochs=1)
    run(cache, tmp_path, short)
    before = (tmp_path / LAST).read_bytes(), (tmp_path / "metrics.jsonl").read_bytes()
    assert "nothing to do" in run(cache, tmp_path, short)[-1]
    assert before == ((tmp_path / LAST).read_bytes(), (tmp_path / "metrics.jsonl").read_bytes())
    run(cache, tmp_path, short.but(lr=0.003), overwrite=True)
    assert load_trained(tmp_path).settings["lr"] == 0.003
    assert len([line for line in outcome(tmp_path)[1] if line["kind"] == "epoch"]) == 1


def test_changed_settings_are_refused_and_named(
    cache: FeatureCache, tiny: TrainSettings, whole: Path, tmp_path: Path, make_cache: Callable[..., FeatureCache]
) -> None:
    settings = tiny.but(ema=0.9)
    with pytest.raises(TrainingError, match=r"lr 0\.01, now 0\.02; dropout 0\.2, now 0\.1"):
        run(cache, whole, settings.but(lr=0.02, dropout=0.1))
    with pytest.raises(TrainingError, match="epochs 3, now 4"):
        run(cache, whole, settings.but(epochs=4))
    with pytest.raises(TrainingError, match="of the cache"):
        run(make_cache(tmp_path / "other.h5", seed=5), whole, settings)


def test_a_constant_schedule_can_be_prolonged(cache: FeatureCache, tiny: TrainSettings, tmp_path: Path) -> None:
    settings = tiny.but(schedule="constant", patience=0)
    run(cache, tmp_path / "parts", settings.but(epochs=1))
    run(cache, tmp_path / "parts", settings)
    run(cache, tmp_path / "whole", settings)
    assert_same(tmp_path / "parts", tmp_path / "whole")
    with pytest.raises(TrainingError, match="epochs 3, now 2"):
        run(cache, tmp_path / "parts", settings.but(epochs=2))


def test_early_stopping(make_cache: Callable[..., FeatureCache], tiny: TrainSettings, tmp_path: Path) -> None:
    cache = make_cache(tmp_path / "feats.h5", train=20)  # few sentences and large steps soon lead to no better model
    lines = run(cache, tmp_path, tiny.but(epochs=30, lr=2.0, optimiser="sgd", momentum=0.0, clip=100.0, patience=2))
    last = read_checkpoint(tmp_path / LAST)["progress"]
    assert last["epoch"] == last["best_epoch"] + 2 < 30
    assert "no better dev perplexity for 2 epochs" in lines[-1]
    assert load_trained(tmp_path).progress["epoch"] == last["best_epoch"]


def test_divergence_names_step_images_and_checkpoint(cache: FeatureCache, tiny: TrainSettings, tmp_path: Path) -> None:
    wild = tiny.but(optimiser="sgd", lr=1e6, clip=0.0, warmup=0)
    says = r"diverged at step (\d+): .* holds the images picture\d+\.jpg, .*checkpoint_last\.pt holds step (\d+)"
    with pytest.raises(TrainingError, match=says) as error:
        run(cache, tmp_path, wild, save_every="1")
    step, kept = map(int, re.search(says, str(error.value)).groups())  # type: ignore[union-attr]
    assert kept == step - 1
    weights = read_checkpoint(tmp_path / LAST)["weights"]
    assert all(torch.isfinite(value).all() for value in weights.values())
    with pytest.raises(TrainingError, match="no checkpoint had been written yet"):
        run(cache, tmp_path / "unsaved", wild)


def test_a_cost_that_is_no_number_stops_before_the_weights_are_touched(training: Training) -> None:
    batch = pack(training.data.train, np.arange(8), training.data.features)
    before = [parameter.detach().clone() for parameter in training.model.parameters()]
    with pytest.raises(TrainingError, match=r"diverged at step 1: nan bits per word") as error:
        loop.train_step(training, replace(batch, features=torch.full_like(batch.features, math.nan)))
    for image in set(training.data.train.image[:8].tolist()):
        assert training.image_ids[image] in str(error.value)
    assert all(torch.equal(a, b) for a, b in zip(before, training.model.parameters(), strict=True))


def test_two_processes_cannot_train_into_one_folder(cache: FeatureCache, tiny: TrainSettings, tmp_path: Path) -> None:
    with open(tmp_path / ".lock", "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(TrainingError, match="another process"):
            run(cache, tmp_path, tiny)


def test_a_new_run_from_old_weights(cache: FeatureCache, tiny: TrainSettings, whole: Path, tmp_path: Path) -> None:
    start = tiny.but(epochs=1, lr=1e-12, init_from=str(whole), cutoff=9)
    run(cache, tmp_path / "run", start)
    old, new = load_trained(whole), load_trained(tmp_path / "run")
    assert new.vocabulary == old.vocabulary
    torch.testing.assert_close(new.model.output.weight, old.model.output.weight)
    with pytest.raises(TrainingError, match="another shape"):
        run(cache, tmp_path / "other", start.but(multimodal=9))


def test_failed_images_are_left_out_and_counted(
    tiny: TrainSettings, tmp_path: Path, make_cache: Callable[..., FeatureCache]
) -> None:
    cache = make_cache(tmp_path / "feats.h5", failed=7)
    lines = run(cache, tmp_path / "run", tiny.but(epochs=1))
    assert "53 training images" in lines[0]
    assert "7 images" in lines[1]


@pytest.mark.parametrize(("split", "sizes"), [("train", {"train": 0}), ("val", {"val": 0})])
def test_a_split_without_images_is_an_error(
    split: str, sizes: dict[str, int], tiny: TrainSettings, tmp_path: Path, make_cache: Callable[..., FeatureCache]
) -> None:
    with pytest.raises(TrainingError, match=f"no images of the split '{split}'"):
        run(make_cache(tmp_path / "feats.h5", **sizes), tmp_path / "run", tiny)


@pytest.fixture
def training(cache: FeatureCache, tiny: TrainSettings) -> Training:
    return prepare(cache, tiny.but(dropout=0.0, image_dropout=0.0), QUIET, last=None, report=lambda line: None)


def test_features_are_scaled_to_the_size_asked_for(training: Training) -> None:
    images = sorted(set(training.data.train.image.tolist()))
    model = training.model
    scaled = (training.data.features[np.array(images)] - model.feature_mean) * model.feature_scale
    assert scaled.mean(dim=0).abs().max() < 1e-6
    assert scaled.square().mean().sqrt().item() == pytest.approx(training.model.config.image_scale, rel=1e-5)


@pytest.mark.parametrize("kind", ["mrnn", "alignment"])
def test_each_of_several_layers_is_scaled(
    kind: str, tiny_kinds: dict[str, TrainSettings], tmp_path: Path, make_cache: Callable[..., FeatureCache]
) -> None:
    cache = make_cache(tmp_path / "feats.h5", layer_sizes="6+10", regions=2)
    run(cache, tmp_path / "run", tiny_kinds[kind].but(epochs=1))
    model = load_trained(tmp_path / "run").model
    assert model.config.layer_sizes == (6, 10)
    rows = 2 if kind == "alignment" else 1
    features = Features(cache, rows=rows).regions(cache.done("train"))[0].flatten(0, 1)
    for layer in model.centred(features).split((6, 10), dim=1):
        assert layer.mean(dim=0).abs().max() < 1e-5
        assert layer.square().mean().sqrt().item() == pytest.approx(model.config.image_scale, rel=1e-4)


def test_the_step_descends_the_cost_of_the_paper(training: Training) -> None:
    """SGD with l2: theta - lr * d/dtheta (bits per word + lambda ||theta||^2), by autograd on that sum."""
    batch = pack(training.data.train, np.arange(8), training.data.features)
    model, decay, lr = training.model, 0.01, 0.5
    cost = batch_bits(model, batch) / batch.count
    cost = cost + decay * sum((parameter**2).sum() for parameter in model.parameters())
    gradients = torch.autograd.grad(cost, list(model.parameters()))
    expected = [parameter.detach() - lr * g for parameter, g in zip(model.parameters(), gradients, strict=True)]
    optimiser = build_optimiser("sgd", model.parameters(), lr=lr, l2=decay, momentum=0.0)
    (batch_bits(model, batch) / batch.count).backward()
    optimiser.step()
    for parameter, value in zip(model.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.detach(), value, rtol=1e-5, atol=1e-7)


def test_the_gradient_is_clipped_to_its_global_norm(training: Training) -> None:
    training.settings = training.settings.but(clip=1e-3, warmup=0, lr=1.0)
    training.optimiser = build_optimiser("sgd", training.model.parameters(), lr=1.0, l2=0.0, momentum=0.0)
    before = [parameter.detach().clone() for parameter in training.model.parameters()]
    record = loop.train_step(training, pack(training.data.train, np.arange(8), training.data.features))
    moved = sum(
        (p.detach() - b).square().sum().item() for p, b in zip(training.model.parameters(), before, strict=True)
    )
    assert record["grad_norm"] > 1e-2
    assert moved**0.5 == pytest.approx(1e-3, rel=1e-2)


@pytest.mark.parametrize("optimiser", ["sgd", "rmsprop", "adam"])
def test_every_optimiser_lowers_the_cost(
    optimiser: str, cache: FeatureCache, tiny: TrainSettings, tmp_path: Path
) -> None:
    run(
        cache,
        tmp_path,
        tiny.but(optimiser=optimiser, lr={"sgd": 0.2}.get(optimiser, 0.01), l2=1e-5, model="rnn-base"),
    )
    epochs = [line for line in outcome(tmp_path)[1] if line["kind"] == "epoch"]
    assert epochs[-1]["train_bits"] < epochs[0]["train_bits"]
    step = next(line for line in outcome(tmp_path)[1] if line["kind"] == "step")
    assert step["cost"] > step["bits"]


def test_learning_rates() -> None:
    def rates(schedule: str) -> list[float]:
        return [learning_rate(step, schedule=schedule, peak=2.0, warmup=4, total=100) for step in range(100)]

    cosine, constant = rates("cosine"), rates("constant")
    assert cosine[:4] == constant[:4] == pytest.approx([0.4, 0.8, 1.2, 1.6])
    assert set(constant[4:]) == {2.0}
    assert cosine[4] == 2.0
    assert cosine[4:] == sorted(cosine[4:], reverse=True)
    assert 0 < cosine[-1] < 0.01


def test_tensorboard_events_are_written(cache: FeatureCache, tiny: TrainSettings, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="the extra tensorboard is not installed")
    run(cache, tmp_path, tiny.but(epochs=1), tensorboard=True)
    events = list(tmp_path.glob("events.out.tfevents.*"))
    assert len(events) == 1
    assert events[0].stat().st_size > 200

"""Several processes train as one does: real processes, joined over gloo on this machine."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mrnn.data.cache import FeatureCache
from mrnn.data.stopping import EXIT_STOPPED
from mrnn.train.batches import part_of_batch
from mrnn.train.checkpoint import read_checkpoint
from mrnn.train.run_files import LAST
from mrnn.train.settings import TrainSettings
from tests.variants import LATE_FUSION

TOLERANCE = 1e-4  # of losses, gradient norms and weights after 69 steps: float32 sums in another order
ROOT = Path(__file__).resolve().parents[2]
Together = Callable[..., list[list[str]]]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def call(folder: Path, settings: TrainSettings, **more: Any) -> dict[str, Any]:
    return {"folder": str(folder), "settings": asdict(settings), "port": free_port(), **more}


@pytest.fixture(scope="module")
def run_together() -> Iterator[Together]:
    """A function of a number of processes, a cache and calls, which returns how each call ended, for every process."""
    command = [sys.executable, "-m", "tests.train.processes"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    pipe: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    server = subprocess.Popen(command, cwd=ROOT, env=environment, start_new_session=True, **pipe)
    assert server.stdin is not None
    assert server.stdout is not None
    requests, answers = server.stdin, server.stdout

    def run(count: int, cache: FeatureCache, *calls: dict[str, Any]) -> list[list[str]]:
        print(json.dumps({"count": count, "cache": str(cache.path), "calls": calls}), file=requests, flush=True)
        answer = json.loads(answers.readline())
        assert all(code in (0, 1, EXIT_STOPPED, -signal.SIGKILL) for code, _ in answer)
        return [ends for _, ends in answer]

    try:
        yield run
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.communicate()


def steps(folder: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in ("seconds", "tokens_per_s")} for line in lines]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = read_checkpoint(folder / LAST)["weights"]
    return found


@pytest.fixture(scope="module")
def uneven(make_cache: Callable[..., FeatureCache], tmp_path_factory: pytest.TempPathFactory) -> FeatureCache:
    """A cache of 177 training sentences: in batches of 8, one batch of every epoch holds a single one."""
    return make_cache(tmp_path_factory.mktemp("uneven") / "feats.h5", train=59)


@pytest.fixture(scope="module")
def plain(tiny: TrainSettings) -> TrainSettings:
    """Without dropout, which no number of processes shares with another."""
    return tiny.but(dropout=0.0, image_dropout=0.0, ema=0.9, l2=1e-5)


@pytest.fixture(scope="module")
def single(
    run_together: Together, uneven: FeatureCache, plain: TrainSettings, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A run of one process."""
    folder = tmp_path_factory.mktemp("single")
    assert run_together(1, uneven, call(folder, plain)) == [["end: finished"]]
    return folder


def assert_close(one: Path, two: Path) -> None:
    """The same steps with the same losses, and in the end the same weights, within TOLERANCE."""
    assert len(steps(one)) == len(steps(two)) == 3 * 23 + 3
    for a, b in zip(steps(one), steps(two), strict=True):
        assert a.pop("kind") == b.pop("kind")
        assert a == pytest.approx(b, rel=TOLERANCE)
    torch.testing.assert_close(weights(one), weights(two), rtol=TOLERANCE, atol=TOLERANCE)


def test_two_processes_under_torchrun_train_as_one_does(
    uneven: FeatureCache, plain: TrainSettings, single: Path, tmp_path: Path
) -> None:
    script, folder = Path(__file__).with_name("processes.py"), tmp_path / "run"
    content = call(folder, plain)
    port = content.pop("port")
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", f"--master-port={port}"]
    done = subprocess.run(
        [*launcher, str(script), str(uneven.path), json.dumps([content])],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.count("end: finished") == 2, done.stderr
    assert done.stdout.count("training is finished") == 1, "the first process alone reports"
    assert json.loads((folder / "config.json").read_text())["processes"] == 2
    assert_close(folder, single)


def test_stopped_in_one_process_all_stop_and_the_resumed_run_equals_the_uninterrupted(
    run_together: Together, uneven: FeatureCache, tiny: TrainSettings, tmp_path: Path
) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    stop = {"rank": 1, "number": int(signal.SIGTERM), "at": 30}
    wrong = call(tmp_path / "wrong", tiny, differs="1")
    ends = run_together(3, uneven, call(whole, tiny), call(parts, tiny, **stop), call(parts, tiny), wrong)
    first, other, third = ends
    assert first[0] == first[2] == other[0] == other[2] == "end: finished"
    assert first[1].startswith("end: stopped by SIGTERM")
    assert "holds step 31" in first[1]
    assert other[1] == third[1] == "end: left with 75"
    assert steps(whole) == steps(parts)
    a, b = weights(whole), weights(parts)
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert first[3] == other[3], "a process that was started otherwise is found out"
    assert "process 1 of 3 has lr 0.02, process 0 has 0.01" in first[3]


def test_a_run_goes_on_with_another_number_of_processes(
    run_together: Together, uneven: FeatureCache, plain: TrainSettings, single: Path, tmp_path: Path
) -> None:
    limited = {"rank": 0, "number": int(signal.SIGUSR1)}
    two = run_together(2, uneven, call(tmp_path, plain, **limited, at=40))
    assert "stopped by SIGUSR1" in two[0][0]
    assert run_together(1, uneven, call(tmp_path, plain)) == [["end: finished"]]
    assert_close(tmp_path, single)


def test_a_shared_output_layer_and_an_lstm_train_alike(
    run_together: Together, uneven: FeatureCache, plain: TrainSettings, tmp_path: Path
) -> None:
    settings = plain.but(**LATE_FUSION["all"])
    for count in (1, 2):
        ends = run_together(count, uneven, call(tmp_path / str(count), settings))
        assert ends[0] == ["end: finished"]
    assert_close(tmp_path / "1", tmp_path / "2")


def test_a_killed_process_ends_the_others_with_a_message(
    run_together: Together, uneven: FeatureCache, tiny: TrainSettings, tmp_path: Path
) -> None:
    first, other = run_together(2, uneven, call(tmp_path, tiny, rank=1, number=int(signal.SIGKILL), at=12))
    assert len(other) == 0
    assert first[0].startswith("end: process 0 of 2: another process of this training is gone")
    assert read_checkpoint(tmp_path / LAST)["progress"]["step"] == 10


def test_processes_that_cannot_meet_are_told_what_is_missing(
    uneven: FeatureCache, tiny: TrainSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mrnn.data.errors import TrainingError
    from mrnn.train.loop import train

    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(TrainingError, match=r"cannot meet \('RANK'\); start them with torchrun"):
        train(uneven, tmp_path, tiny)


def test_the_parts_of_a_batch_tile_it_and_hold_nearly_equal_shares() -> None:
    generator = np.random.default_rng(0)
    words = generator.integers(2, 20, size=500)
    for size, count in [(1, 1), (1, 2), (3, 4), (8, 3), (100, 2), (100, 8)]:
        numbers = generator.permutation(500)[:size]
        numbers = numbers[np.argsort(words[numbers])]  # as epoch_order leaves them
        parts = [part_of_batch(numbers, words, index, count) for index in range(count)]
        assert sorted(np.concatenate([part for part, share in parts if share])) == sorted(numbers)
        assert sum(share for _, share in parts) == pytest.approx(1)
        assert all(len(part) for part, _ in parts)
        for part, share in parts:
            assert share == pytest.approx(words[part].sum() / words[numbers].sum() if share else 0)
        if size == 100:
            assert max(share for _, share in parts) < 1.2 / count

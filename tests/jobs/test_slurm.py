"""The job files on a real Slurm: an experiment that is killed and preempted ends as an undisturbed one does."""

import contextlib
import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from mrnn.data.cache import open_cache
from mrnn.data.errors import CacheError
from mrnn.data.scenes.reader import read_scenes
from mrnn.train.checkpoint import read_checkpoint
from mrnn.train.run_files import LAST

JOBS = Path(__file__).resolve().parents[2] / "jobs"
PICTURES, SHARDS = 240, 3
EXTRACTION = f"--dataset scenes --limit {PICTURES} --batch-size 2 --weights random:0 --device cpu"
TRAINING = "--epochs 3 --batch-size 4 --cutoff 2 --log-every 1 --save-every 1h --device cpu --no-tensorboard"
EVALUATION = "--normaliser-images 5 --pool 10 --beam 2 --device cpu"


def wait_for(what: str, happened: Callable[[], Any], logs: Path) -> None:
    """Wait until something has happened. If the test is ended meanwhile, print what the jobs wrote."""
    try:
        while not happened():
            time.sleep(0.05)
    except BaseException:
        written = "\n".join(f"{file.name}:\n{file.read_text()}" for file in sorted(logs.glob("*.out")))
        print(f"waited for: {what}\n{written}")
        raise


def process_of(*words: str) -> int | None:
    """The process that runs a command with these words."""
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            command = (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")
            if set(words) <= set(command) and "python" in command[0]:
                return int(folder.name)
    return None


def images_done(shard: Path) -> int:
    try:
        return len(open_cache(shard, allow_partial=True).done())
    except (CacheError, OSError):
        return 0


def metrics(run: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl so far, times apart."""
    try:
        text = (run / "metrics.jsonl").read_text()
    except FileNotFoundError:
        return []
    lines = [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]
    return [{k: v for k, v in line.items() if k not in ("seconds", "tokens_per_s")} for line in lines]


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The scenes set, drawn; one picture of the second shard is damaged."""
    root = tmp_path_factory.mktemp("scenes")
    corpus = read_scenes(root).limited(PICTURES)
    os.truncate(root / corpus.images[PICTURES // SHARDS + 70].path, 100)
    return root


def test_a_killed_and_preempted_experiment_equals_an_undisturbed_one(scenes: Path, tmp_path: Path, slurm: Any) -> None:
    out, logs, one = tmp_path / "out", tmp_path / "out" / "logs", ["--cpus-per-task=1"]
    extraction = [*EXTRACTION.split(), "--root", str(scenes)]
    submitted = slurm.run(
        "sh",
        JOBS / "submit.sh",
        out,
        str(SHARDS),
        *extraction,
        TRAIN=TRAINING,
        EVALUATE=EVALUATION,
        SBATCH_EXTRACT="--cpus-per-task=1",
        SBATCH_TRAIN="--ntasks=2 --cpus-per-task=1",
        SBATCH_EVALUATE="--cpus-per-task=1",
    )
    job = dict(line.split() for line in submitted.splitlines())

    # One task of the array is killed in the middle of its work.
    shard = out / f"shard-1-of-{SHARDS}.h5"
    wait_for("the second shard has features", lambda: images_done(shard), logs)
    victim = process_of("--shard", f"1/{SHARDS}")
    assert victim is not None
    os.kill(victim, signal.SIGKILL)
    wait_for("the task fails", lambda: slurm.state(f"{job['extract']}_1") == "FAILED", logs)
    assert 0 < images_done(shard) < PICTURES // SHARDS - 1
    others = [f"{job['extract']}_{task}" for task in (0, 2)]
    wait_for("the other tasks finish", lambda: {slurm.state(task) for task in others} == {"COMPLETED"}, logs)
    wait_for("merging waits", lambda: slurm.job(job["merge"])["Reason"] == "DependencyNeverSatisfied", logs)

    # That one alone is submitted again, and merging waits for it instead. Told that its time is over, it comes back.
    again = [JOBS / "extract.sbatch", out, str(SHARDS), *extraction]
    output = f"--output={logs}/again-%j.out"
    resubmitted = slurm.run("sbatch", "--parsable", "--array=1", output, *one, *again)
    slurm.run("scontrol", "update", f"jobid={job['merge']}", f"dependency=afterok:{resubmitted}")
    before = images_done(shard)
    wait_for("the second shard goes on", lambda: images_done(shard) > before, logs)
    slurm.run("scancel", "--signal=USR1", f"{resubmitted}_1")  # as --signal does before the time limit
    whole = tmp_path / "whole.h5"
    done = subprocess.run(
        ["extract-features", *extraction, "--threads", "1", "--output", str(whole)],
        env=slurm.environment,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 3, done.stderr
    wait_for("shards are merged", lambda: slurm.state(job["merge"]) == "COMPLETED", logs)
    said = (logs / f"again-{resubmitted}.out").read_text()
    assert said.count("stopped by SIGUSR1") == 1
    assert "the shard counts as done" in said
    assert slurm.job(f"{resubmitted}_1")["Restarts"] == "1"
    assert (out / "feats.h5").read_bytes() == whole.read_bytes()

    # The training by two processes is preempted in the middle of an epoch, later told that its time is over, and comes
    # back by itself both times, while another one is left in peace.
    run, peaceful = out / "run", tmp_path / "peaceful"
    options = ["--features", str(out / "feats.h5"), "--output", str(peaceful), *TRAINING.split()]
    wait_for("training is under way", lambda: len(metrics(run)) > 30, logs)
    slurm.run("scontrol", "requeue", job["train"])
    other = slurm.run(
        "sbatch", "--parsable", f"--output={logs}/%x-%j.out", "--ntasks=2", *one, JOBS / "train.sbatch", *options
    )
    log = logs / f"train-{job['train']}.out"
    wait_for("training stops", lambda: "stopped by SIGTERM" in log.read_text(), logs)
    stopped = int(re.findall(r"holds step (\d+);", log.read_text())[0])
    wait_for("training is under way again", lambda: metrics(run)[-1]["step"] > stopped + 30, logs)
    slurm.run("scancel", "--signal=USR1", job["train"])
    wait_for("training finishes", lambda: slurm.state(job["train"]) == "COMPLETED", logs)
    wait_for("the other training finishes", lambda: slurm.state(other) == "COMPLETED", logs)
    assert slurm.job(job["train"])["Restarts"] == "2"
    assert slurm.job(other)["Restarts"] == "0"
    said = log.read_text()
    assert said.count("resuming after epoch") == 2
    assert said.count("stopped by SIGTERM") == said.count("stopped by SIGUSR1") == 1
    steps = json.loads((run / "config.json").read_text())["train_sentences"] / 4
    assert stopped % steps != 0, "stopped in the middle of an epoch"
    ours, theirs = read_checkpoint(run / LAST)["weights"], read_checkpoint(peaceful / LAST)["weights"]
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert metrics(run) == metrics(peaceful)

    wait_for("evaluation finishes", lambda: slurm.state(job["evaluate"]) == "COMPLETED", logs)
    assert json.loads((out / "results" / "metrics.json").read_text())["perplexity"] > 1

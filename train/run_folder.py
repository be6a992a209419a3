"""The folder of a run: its lock, its checkpoints and its metrics, none of which a kill at any moment can spoil."""

import fcntl
import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from types import TracebackType
from typing import Any

from mrnn.data.errors import CheckpointError, TrainingError
from mrnn.data.files import write_whole
from mrnn.train.checkpoint import BEST, LAST, PREVIOUS, read_checkpoint, write_checkpoint
from mrnn.train.settings import RunOptions

CONFIG, METRICS, LOCK = "config.json", "metrics.jsonl", ".lock"


@dataclass
class Progress:
    """How far a run has come.

    epoch : epochs finished. batch, cost, count, seconds : of the epoch under way, its batches done, the cost and the
    units summed over them, and the time they took. step : batches done in all. best : the task's criterion of the best
    epoch, best_epoch; None before the first validation.
    """

    epoch: int = 0
    batch: int = 0
    cost: float = 0.0
    count: int = 0
    seconds: float = 0.0
    step: int = 0
    best: float | None = None
    best_epoch: int = 0

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Progress":
        """What `asdict` gave; CheckpointError if it lacks something."""
        try:
            return cls(**{field.name: values[field.name] for field in fields(cls)})
        except KeyError as error:
            raise CheckpointError(f"the checkpoint's progress is not complete ({error})") from error

    def finish_epoch(self) -> None:
        """Count the epoch under way as finished."""
        self.epoch, self.batch, self.cost, self.count, self.seconds = self.epoch + 1, 0, 0.0, 0, 0.0


class RunFolder:
    """One process's hold on a run folder. Use as a context manager.

    report : called with each notice, a line of text. Raises TrainingError if another process trains into the folder.
    """

    def __init__(
        self, path: Path, *, overwrite: bool = False, report: Callable[[str], None] = lambda line: None
    ) -> None:
        self.path, self.report = path, report
        path.mkdir(parents=True, exist_ok=True)
        self._lock = open(path / LOCK, "a")  # noqa: SIM115 (held until __exit__)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._lock.close()
            raise TrainingError(
                f"{path}: another process is training into this folder; choose another --output"
            ) from None
        except OSError as error:
            report(
                f"{path}: its file system has no locks ({error.strerror}); make sure that no other process trains here"
            )
        if overwrite:
            for name in (LAST, PREVIOUS, BEST, CONFIG, METRICS):
                (path / name).unlink(missing_ok=True)
            for events in path.glob("events.out.tfevents.*"):
                events.unlink()
        self._metrics = open(path / METRICS, "ab")  # noqa: SIM115
        self._board: Any = None

    def __enter__(self) -> "RunFolder":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._metrics.close()
        if self._board is not None:
            self._board.close()
        self._lock.close()

    def read_last(self) -> dict[str, Any] | None:
        """The newest checkpoint that is whole, or None if there is none yet. CheckpointError if all are damaged."""
        files = [file for file in (self.path / LAST, self.path / PREVIOUS) if file.exists()]
        for file in files:
            try:
                return read_checkpoint(file)
            except CheckpointError as error:
                self.report(f"notice: {error}")
        if files:
            raise CheckpointError(f"{self.path}: no checkpoint can be read; start anew with --overwrite")
        return None

    def describe_last(self) -> str:
        """Which checkpoints there are, in words, for a run that cannot go on."""
        held = [self.path / name for name in (LAST, BEST) if (self.path / name).exists()]
        steps = [f"{file} holds step {read_checkpoint(file)['progress']['step']}" for file in held]
        return ", ".join(steps) or "no checkpoint had been written yet"

    def begin(self, config: dict[str, Any], *, metrics_bytes: int, step: int, tensorboard: bool) -> None:
        """Write config.json, cut metrics.jsonl to what the checkpoint knows, and open the TensorBoard events.

        metrics_bytes : 0 for a new run. step : where TensorBoard goes on; later events of a lost session are dropped.
        """
        write_whole(self.path / CONFIG, (json.dumps(config, indent=2) + "\n").encode())
        size = os.fstat(self._metrics.fileno()).st_size
        if size < metrics_bytes:
            self.report(f"notice: {self.path / METRICS} lacks lines that were there when the checkpoint was written")
        self._metrics.truncate(min(size, metrics_bytes))
        self._metrics.seek(0, os.SEEK_END)
        if tensorboard:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError:
                return
            self._board = SummaryWriter(self.path, purge_step=step + 1)

    def log(self, record: dict[str, Any]) -> None:
        """Append a line to metrics.jsonl, and its numbers to TensorBoard."""
        self._metrics.write(json.dumps(record).encode() + b"\n")
        self._metrics.flush()
        if self._board is not None:
            for name, value in record.items():
                if isinstance(value, float):
                    self._board.add_scalar(f"{record['kind']}/{name}", value, record["step"])

    def save_last(self, content: dict[str, Any], progress: Progress, training: dict[str, Any]) -> None:
        """Write checkpoint_last.pt; the one it replaces stays as checkpoint_previous.pt.

        content : see checkpoint.py. training : what going on needs beyond it.
        """
        os.fsync(self._metrics.fileno())
        training = {**training, "metrics_bytes": os.fstat(self._metrics.fileno()).st_size}
        content = {**content, "progress": asdict(progress), "training": training}
        write_checkpoint(self.path / LAST, content, previous=self.path / PREVIOUS)

    def save_best(self, content: dict[str, Any], progress: Progress) -> None:
        """Write checkpoint_best.pt."""
        write_checkpoint(self.path / BEST, {**content, "progress": asdict(progress)})


class WatchedFolder(RunFolder):
    """The run folder for a process beside the one that writes: it reads the last checkpoint and leaves no trace."""

    def __init__(self, path: Path) -> None:
        self.path, self.report = path, lambda line: None

    def __exit__(self, *error: object) -> None:
        pass

    def begin(self, config: dict[str, Any], *, metrics_bytes: int, step: int, tensorboard: bool) -> None:
        pass

    def log(self, record: dict[str, Any]) -> None:
        pass

    def save_last(self, content: dict[str, Any], progress: Progress, training: dict[str, Any]) -> None:
        pass

    def save_best(self, content: dict[str, Any], progress: Progress) -> None:
        pass


class SaveTimer:
    """When to save in the middle of an epoch: every so many seconds or steps."""

    def __init__(self, options: RunOptions) -> None:
        self._seconds, self._steps = options.saving_interval()
        self._saved = time.monotonic()

    def after(self, step: int) -> bool:
        """Whether to save after this step; if so, the interval begins anew."""
        if self._steps is not None:
            return step % self._steps == 0
        now = time.monotonic()
        if now - self._saved < (self._seconds or 0):
            return False
        self._saved = now
        return True

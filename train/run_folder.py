"""The folder of a run: lock, checkpoints and metrics, which stay consistent if the process is killed at any moment."""

import fcntl
import json
import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from mrnn.data.errors import CheckpointError, TrainingError
from mrnn.data.exhaustion import writing
from mrnn.data.files import sync_file, write_whole
from mrnn.data.outputs import is_json_with, refuse_foreign_folder
from mrnn.train.checkpoint import read_checkpoint, write_checkpoint
from mrnn.train.run_files import BEST, CONFIG, LAST, LOCK, METRICS, PREVIOUS
from mrnn.train.settings import RunOptions


@dataclass
class Progress:
    """How far a run has come.

    epoch : number of finished epochs.
    batch : number of finished batches of the current epoch.
    cost : cost summed over these batches.
    count : number of units summed over these batches.
    seconds : time that these batches took.
    step : number of finished batches of the whole run.
    best : the task's criterion after the best epoch; None before the first validation.
    best_epoch : number of the best epoch, from 1.
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
        """Progress from the dict of `asdict`. Raises CheckpointError if a field is missing."""
        try:
            return cls(**{field.name: values[field.name] for field in fields(cls)})
        except KeyError as error:
            raise CheckpointError(f"the checkpoint's progress is not complete ({error})") from error

    def finish_epoch(self) -> None:
        """Count the current epoch as finished."""
        self.epoch, self.batch, self.cost, self.count, self.seconds = self.epoch + 1, 0, 0.0, 0, 0.0


class RunFolder:
    """A run folder that this process has locked. Use as a context manager.

    Nothing in it changes before `begin`; a folder that was made for a run that never began is removed.

    path : the folder, which is created if it does not exist.
    overwrite : whether the run in it does not count, and is deleted by `begin`.
    report : called with each notice, a line of text.

    Raises TrainingError if another process trains into the folder.
    """

    def __init__(
        self, path: Path, *, overwrite: bool = False, report: Callable[[str], None] = lambda line: None
    ) -> None:
        self.path, self.report, self._overwrite = path, report, overwrite
        refuse_foreign_folder(
            path, (CONFIG, METRICS), is_ours=lambda folder: is_json_with("settings", "vocabulary_size")(folder / CONFIG)
        )
        self._made = not path.exists()
        self._lock = _lock(path, report)
        self._metrics: Any = None
        self._board: Any = None

    def __enter__(self) -> "RunFolder":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._metrics is not None:
            self._metrics.close()
        elif self._made and [file.name for file in self.path.iterdir()] == [LOCK]:
            (self.path / LOCK).unlink()  # while it is locked, see _lock
            self.path.rmdir()
        if self._board is not None:
            self._board.close()
        self._lock.close()

    def read_last(self) -> dict[str, Any] | None:
        """The newest undamaged checkpoint; None if there is none, or none that counts.

        Raises CheckpointError if all are damaged.
        """
        if self._overwrite:
            return None
        # PREVIOUS covers a damaged LAST, and a kill between the two renames of a save.
        files = [file for file in (self.path / LAST, self.path / PREVIOUS) if file.exists()]
        for file in files:
            try:
                return read_checkpoint(file)
            except CheckpointError as error:
                self.report(f"notice: {error}")
        if files:
            raise CheckpointError(f"{self.path}: no checkpoint can be read; start again with --overwrite")
        return None

    def describe_last(self) -> str:
        """A sentence on the existing checkpoints, for the message of a run that cannot continue."""
        held = [self.path / name for name in (LAST, BEST) if (self.path / name).exists()]
        steps = [f"{file} holds step {read_checkpoint(file)['progress']['step']}" for file in held]
        return ", ".join(steps) or "no checkpoint had been written yet"

    def begin(self, config: dict[str, Any], *, metrics_bytes: int, step: int, tensorboard: bool) -> None:
        """Delete a run that does not count; write config.json, cut metrics.jsonl to its length at the checkpoint, and
        open the TensorBoard events.

        config : content of config.json.
        metrics_bytes : length of metrics.jsonl at the last checkpoint; 0 for a new run.
        step : last step; TensorBoard drops later events, which a killed process left.
        tensorboard : whether to write TensorBoard events, if TensorBoard is installed.
        """
        if self._overwrite:
            for name in (LAST, PREVIOUS, BEST, CONFIG, METRICS):
                (self.path / name).unlink(missing_ok=True)
            for events in self.path.glob("events.out.tfevents.*"):
                events.unlink()
        # A killed process may have logged steps after its last checkpoint; the resumed run will log them again.
        self._metrics = open(self.path / METRICS, "ab")  # noqa: SIM115 (until __exit__)
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
        """Append a line to metrics.jsonl, and write its numbers to TensorBoard."""
        with writing(self.path / METRICS):
            self._metrics.write(json.dumps(record).encode() + b"\n")
            self._metrics.flush()
        if self._board is not None:
            for name, value in record.items():
                if isinstance(value, float):
                    self._board.add_scalar(f"{record['kind']}/{name}", value, record["step"])

    def save_last(self, content: dict[str, Any], progress: Progress, training: dict[str, Any]) -> None:
        """Write checkpoint_last.pt; the file that it replaces becomes checkpoint_previous.pt.

        content : the model and its origin; see checkpoint.py.
        progress : how far the run has come.
        training : the state that only resuming needs.
        """
        # Metrics reach the disk first, so that a checkpoint never counts lines that a power failure can take away.
        sync_file(self._metrics.fileno())
        training = {**training, "metrics_bytes": os.fstat(self._metrics.fileno()).st_size}
        content = {**content, "progress": asdict(progress), "training": training}
        write_checkpoint(self.path / LAST, content, previous=self.path / PREVIOUS)

    def save_best(self, content: dict[str, Any], progress: Progress) -> None:
        """Write checkpoint_best.pt."""
        write_checkpoint(self.path / BEST, {**content, "progress": asdict(progress)})


def _lock(path: Path, report: Callable[[str], None]) -> TextIO:
    """The lock file of a folder, locked; both are made if they are not there.

    Raises TrainingError if another process has locked it.
    """
    while True:
        path.mkdir(parents=True, exist_ok=True)
        try:
            lock = open(path / LOCK, "a")  # noqa: SIM115 (the caller closes it)
        except FileNotFoundError:  # a run that never began has just removed the folder
            continue
        try:
            # The kernel releases the lock when the process ends, so a killed run leaves no stale lock.
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            raise TrainingError(
                f"{path}: another process is training into this folder; choose another --output"
            ) from None
        except OSError as error:
            report(
                f"{path}: its file system has no locks ({error.strerror}); make sure that no other process trains here"
            )
        with suppress(FileNotFoundError):
            if os.path.samestat(os.stat(path / LOCK), os.fstat(lock.fileno())):
                return lock
        lock.close()  # the file was removed after it was opened; a lock on it keeps nobody out


class WatchedFolder(RunFolder):
    """The run folder for the processes that do not write: it reads the last checkpoint and changes nothing."""

    def __init__(self, path: Path, *, overwrite: bool = False) -> None:
        self.path, self.report, self._overwrite = path, lambda line: None, overwrite

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
    """Decides when to save within an epoch: after an interval of seconds or steps."""

    def __init__(self, options: RunOptions) -> None:
        self._seconds, self._steps = options.saving_interval()
        self._saved = time.monotonic()

    def after(self, step: int) -> bool:
        """Whether to save after this step; if so, the interval starts again."""
        if self._steps is not None:
            return step % self._steps == 0
        now = time.monotonic()
        if now - self._saved < (self._seconds or 0):
            return False
        self._saved = now
        return True

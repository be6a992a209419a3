"""What an evaluation has finished, on disk, so that a killed one goes on instead of beginning again.

Below the output folder: parts/NAME.json with a stage's result and the settings it depends on, and matrices of retrieval
scores, parts/NAME.npy. A part counts only where its settings equal those of the present run.
"""

import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np

from mrnn.data.errors import EvaluationError
from mrnn.data.files import write_whole

MARK_SECONDS = 5.0  # between two markings of finished rows: what a kill can cost


class Parts:
    """The parts folder of one output folder; `settings` are what every stage's result depends on."""

    def __init__(self, output: Path, settings: dict[str, Any]) -> None:
        self.folder = output / "parts"
        self.folder.mkdir(parents=True, exist_ok=True)
        self._settings = settings

    def clear(self) -> None:
        """Forget everything finished."""
        shutil.rmtree(self.folder)
        self.folder.mkdir()

    def load(self, name: str, settings: dict[str, Any]) -> Any:
        """The stored result of a stage with these settings of its own, or None."""
        try:
            content = json.loads((self.folder / f"{name}.json").read_text())
        except (FileNotFoundError, json.JSONDecodeError, UnicodeDecodeError):
            return None
        if not isinstance(content, dict) or content.get("settings") != self._all(settings):
            return None
        return content.get("result")

    def save(self, name: str, settings: dict[str, Any], result: Any) -> None:
        """Store the result of a stage, replacing an earlier one whole."""
        content = {"settings": self._all(settings), "result": result}
        write_whole(self.folder / f"{name}.json", json.dumps(content).encode())

    def _all(self, settings: dict[str, Any]) -> Any:
        return json.loads(json.dumps({**self._settings, **settings}))


class ScoreFile:
    """A matrix of float32 that is filled in any order and goes on where it was: what is not there yet is not a number.

    values : the matrix, mapped from parts/NAME.npy (NumPy's format). A killed process loses nothing that it has put
    there, a machine that goes down what was put there in the last MARK_SECONDS.
    """

    def __init__(self, parts: Parts, name: str, settings: dict[str, Any], shape: tuple[int, int]) -> None:
        """settings : what the numbers depend on. Raises EvaluationError where the disk has no room for it."""
        path = parts.folder / f"{name}.npy"
        settings = {**settings, "shape": list(shape)}
        try:
            if parts.load(name, settings) is None:
                raise ValueError("nothing fits")
            self.values = np.lib.format.open_memmap(path, mode="r+")
            if self.values.shape != shape or self.values.dtype != np.float32:
                raise ValueError("not ours")
        except (ValueError, FileNotFoundError):
            (parts.folder / f"{name}.json").unlink(missing_ok=True)
            self.values = self._create(path, shape)
            parts.save(name, settings, "begun")
        self._marked = monotonic()

    def mark(self, *, now: bool = False) -> None:
        """Bring what is finished to disk, if that is due."""
        if now or monotonic() - self._marked > MARK_SECONDS:
            self.values.flush()
            self._marked = monotonic()

    @staticmethod
    def _create(path: Path, shape: tuple[int, int]) -> np.memmap:
        values = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=shape)
        with path.open("r+b") as stream:
            try:
                os.posix_fallocate(stream.fileno(), 0, path.stat().st_size)
            except OSError as error:
                raise EvaluationError(
                    f"{path} needs {path.stat().st_size / 1e6:.0f} MB ({error.strerror}); free some space, or "
                    "limit the pool with --pool"
                ) from error
        values[:] = np.nan
        values.flush()
        return values


@contextmanager
def only_one(output: Path) -> Iterator[None]:
    """Hold the output folder for this process. Raises EvaluationError if another one is evaluating into it."""
    output.mkdir(parents=True, exist_ok=True)
    with (output / ".lock").open("w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise EvaluationError(
                f"another evaluation is writing to {output}; wait for it or choose another --output"
            ) from None
        except OSError:
            pass  # a file system without locks: two evaluations at once are then the user's own care
        yield

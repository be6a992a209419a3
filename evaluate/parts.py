"""The finished work of an evaluation, on disk, so that an interrupted evaluation resumes.

The output folder contains parts/NAME.json, the result of a stage with the settings that it depends on, and
parts/NAME.npy, matrices of retrieval scores. A part is used only if its settings equal those of the present run.
"""

import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np

from mrnn.data.errors import EvaluationError
from mrnn.data.files import reserve_space, write_whole

PARTS, LOCK = "parts", ".lock"
MARK_SECONDS = 5.0  # between two writes of finished work: the most that is lost if the process is killed


class Parts:
    """The parts folder of an output folder."""

    def __init__(self, output: Path, settings: dict[str, Any]) -> None:
        """settings : what the results of all stages depend on, kept as an attribute."""
        self.folder = output / PARTS
        self.folder.mkdir(parents=True, exist_ok=True)
        self.settings = settings

    def clear(self) -> None:
        """Discard all finished work."""
        for pattern in ("*.json", "*.npy"):
            for path in self.folder.glob(pattern):
                path.unlink()

    def load(self, name: str, settings: dict[str, Any]) -> Any:
        """The stored result of a stage, or None if there is none with these settings.

        settings : what the result depends on beside the settings of all stages.
        """
        try:
            content = json.loads((self.folder / f"{name}.json").read_text())
        except (FileNotFoundError, json.JSONDecodeError, UnicodeDecodeError):
            return None
        if not isinstance(content, dict) or content.get("settings") != self._all(settings):
            return None
        return content.get("result")

    def save(self, name: str, settings: dict[str, Any], result: Any) -> None:
        """Store the result of a stage in place of an earlier one, whole or not at all.

        name : of the part
        settings : what the result depends on beside the settings of all stages
        result : of plain types
        """
        content = {"settings": self._all(settings), "result": result}
        write_whole(self.folder / f"{name}.json", json.dumps(content).encode())

    def _all(self, settings: dict[str, Any]) -> Any:
        return json.loads(json.dumps({**self.settings, **settings}))


class ScoreFile:
    """A float32 matrix on disk that is filled in any order; elements that are not computed yet are NaN.

    values : the matrix, mapped from parts/NAME.npy (NumPy's format). If the process is killed, nothing written to it is
    lost; if the machine fails, what was written in the last MARK_SECONDS may be.
    """

    def __init__(self, parts: Parts, name: str, settings: dict[str, Any], shape: tuple[int, int]) -> None:
        """Open the file of an earlier run with the same settings, or create it.

        parts : where it is kept
        name : of the part
        settings : what the numbers depend on beside the settings of all stages
        shape : of the matrix

        Raises EvaluationError if the disk is full.
        """
        path = parts.folder / f"{name}.npy"
        settings = {**settings, "shape": list(shape)}
        try:
            if parts.load(name, settings) is None:
                raise ValueError("no file with these settings")
            self.values = np.lib.format.open_memmap(path, mode="r+")
            if self.values.shape != shape or self.values.dtype != np.float32:
                raise ValueError("another matrix")
        except (ValueError, FileNotFoundError):
            (parts.folder / f"{name}.json").unlink(missing_ok=True)
            self.values = self._create(path, shape)
            parts.save(name, settings, "begun")
        self._marked = monotonic()

    def mark(self, *, now: bool = False) -> None:
        """Write to disk if MARK_SECONDS have passed, or if `now`."""
        if now or monotonic() - self._marked > MARK_SECONDS:
            self.values.flush()
            self._marked = monotonic()

    @staticmethod
    def _create(path: Path, shape: tuple[int, int]) -> np.memmap:
        values = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=shape)
        with path.open("r+b") as stream:
            try:
                reserve_space(stream.fileno(), path.stat().st_size)
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
    """Lock the output folder. Raises EvaluationError if another evaluation has locked it."""
    output.mkdir(parents=True, exist_ok=True)
    with (output / LOCK).open("w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise EvaluationError(
                f"another evaluation is writing to {output}; wait for it or choose another --output"
            ) from None
        except OSError:
            pass  # on a file system without locks, nothing keeps a user from running two evaluations at once
        yield

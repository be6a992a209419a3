"""Stopping on request: SIGTERM, SIGUSR1 and Ctrl-C let the step in hand finish and be saved."""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from mrnn.data.errors import Stopped

EXIT_STOPPED = 75  # EX_TEMPFAIL: run the same command again
EXIT_INTERRUPTED = 130


class StopRequest:
    """Whether somebody asked this process to stop. `check` is called between steps, after saving."""

    def __init__(self, *, time_limit: float | None = None) -> None:
        """time_limit : seconds from now after which a stop counts as asked for; None for no limit."""
        self._signal: signal.Signals | None = None
        self._deadline = None if time_limit is None else time.monotonic() + time_limit

    def receive(self, number: int, frame: FrameType | None) -> None:
        """Signal handler. A second Ctrl-C ends the process at once."""
        if number == signal.SIGINT and self._signal == signal.SIGINT:
            raise KeyboardInterrupt
        self._signal = signal.Signals(number)

    @property
    def reason(self) -> str:
        """Why to stop, or '' as long as there is no reason."""
        if self._signal is not None:
            return "Ctrl-C" if self._signal == signal.SIGINT else self._signal.name
        if self._deadline is not None and time.monotonic() >= self._deadline:
            return "the time limit"
        return ""

    @property
    def code(self) -> int:
        """The reason as a number, for other processes: 0 for none, 1 for the time limit, else the signal's."""
        return int(self._signal) if self._signal is not None else int(bool(self.reason))

    def adopt(self, code: int) -> None:
        """Take over the reason of another process, given as its `code`."""
        if code > 1:
            self._signal = signal.Signals(code)
        elif code == 1:
            self._deadline = 0.0

    def stopped(self, saved: str) -> Stopped:
        """The exception that ends the command. saved : what is safe on disk, for the message."""
        code = EXIT_INTERRUPTED if self._signal == signal.SIGINT else EXIT_STOPPED
        return Stopped(f"stopped by {self.reason}: {saved}; the same command goes on from here", exit_code=code)


@contextmanager
def stop_on_signals(*, time_limit: float | None = None) -> Iterator[StopRequest]:
    """Turn SIGTERM, SIGUSR1 and SIGINT into a StopRequest for the duration of a with block."""
    request = StopRequest(time_limit=time_limit)
    numbers = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
    before = {number: signal.signal(number, request.receive) for number in numbers}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

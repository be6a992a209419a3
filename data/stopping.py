"""Stopping on request: after a signal or Ctrl-C the current step is finished and saved.

Batch systems announce the end of a job in ways of their own: Slurm with SIGTERM or SIGUSR1, LSF and Grid Engine with
SIGUSR2 or SIGXCPU; a terminal that goes away sends SIGHUP.
"""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from mrnn.data.errors import Stopped

EXIT_STOPPED = 75  # EX_TEMPFAIL: run the same command again
EXIT_INTERRUPTED = 130
SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGXCPU, signal.SIGHUP, signal.SIGINT)


class StopRequest:
    """Whether this process was asked to stop. Loops look at `reason` between steps, after saving."""

    def __init__(self, *, time_limit: float | None = None) -> None:
        """time_limit : seconds from now after which to stop; None for no limit."""
        self._signal: signal.Signals | None = None
        self._deadline = None if time_limit is None else time.monotonic() + time_limit

    def receive(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal. A second Ctrl-C ends the process at once."""
        if number == signal.SIGINT and self._signal == signal.SIGINT:
            raise KeyboardInterrupt
        self._signal = signal.Signals(number)

    @property
    def reason(self) -> str:
        """Why to stop, or '' while there is no reason to."""
        if self._signal is not None:
            return "Ctrl-C" if self._signal == signal.SIGINT else self._signal.name
        if self._deadline is not None and time.monotonic() >= self._deadline:
            return "the time limit"
        return ""

    @property
    def code(self) -> int:
        """The reason as a number, for other processes: 0 for none, 1 for the time limit, else 1 + the signal's."""
        return int(self._signal) + 1 if self._signal is not None else int(bool(self.reason))

    def adopt(self, code: int) -> None:
        """Take over the reason of another process, given as its `code`."""
        if code > 1:
            self._signal = signal.Signals(code - 1)
        elif code == 1:
            self._deadline = 0.0

    def stopped(self, saved: str) -> Stopped:
        """The exception that ends the command. saved : what is on disk, for the message."""
        code = EXIT_INTERRUPTED if self._signal == signal.SIGINT else EXIT_STOPPED
        return Stopped(f"stopped by {self.reason}: {saved}; run the same command again to resume", exit_code=code)


@contextmanager
def stop_on_signals(*, time_limit: float | None = None) -> Iterator[StopRequest]:
    """Turn SIGNALS into a StopRequest for the duration of a with block.

    SIGHUP stays ignored where this process was started so, as `nohup` does.

    Only the main thread may install signal handlers; in any other thread the request knows the time limit alone.
    """
    request = StopRequest(time_limit=time_limit)
    in_main = threading.current_thread() is threading.main_thread()
    without_hangup = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    numbers = [each for each in SIGNALS if in_main and not (each is signal.SIGHUP and without_hangup)]
    before = {number: signal.signal(number, request.receive) for number in numbers}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

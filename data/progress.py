"""Progress with rate and time left: a bar on a terminal, else a line every half minute; shown by commands only.

Other programs follow it through a listener (`progress_told`).
"""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import click

LINE_SECONDS = 30.0

# A context variable rather than an argument of every function on the way from a command to the loop that it runs.
_shown = ContextVar("progress is shown", default=False)


Listener = Callable[[str, int, int], None]  # what is being done, units done, units in all
_listener: ContextVar[Listener | None] = ContextVar("listener of progress", default=None)


@contextmanager
def progress_told(listener: Listener) -> Iterator[None]:
    """Call `listener` whenever something in a with block progresses, in this thread."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


@contextmanager
def progress_shown() -> Iterator[None]:
    """Show progress on stderr in a with block, in this thread. Commands do; whoever calls the library need not."""
    token = _shown.set(True)
    try:
        yield
    finally:
        _shown.reset(token)


def silent(text: str) -> None:
    """Ignore a line of text: the default of every `report` argument in the library."""


class Progress:
    """A count of units of work. Use it as a context manager and call `add`.

    On a terminal it is a tqdm bar on stderr, elsewhere a line at most every LINE_SECONDS and one at the end, so that
    the logs of batch jobs stay short. Outside of `progress_shown` it prints nothing. A listener of `progress_told` is
    called with every count.

    label : what is being done.
    total : number of units in all.
    unit : their name, in the plural.
    done : number of units that were finished before this run.
    """

    def __init__(self, label: str, total: int, *, unit: str, done: int = 0) -> None:
        self._label, self._total, self._unit, self._done, self._start_done = label, total, unit, done, done
        self._start = self._last = time.monotonic()
        self._note = ""
        self._shown, self._listener = _shown.get(), _listener.get()
        self._bar: Any = None
        if self._shown and sys.stderr.isatty():
            from tqdm import tqdm  # here, so that --help does not wait for it

            self._bar = tqdm(desc=label, total=total, unit=f" {unit}", initial=done, dynamic_ncols=True)

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *exception: object) -> None:
        if self._bar is not None:
            self._bar.close()
        elif self._shown and self._done > self._start_done:
            click.echo(self._line(time.monotonic()), err=True)

    def add(self, count: int, *, note: str = "") -> None:
        """Count more units as done. note : a few words to show after the numbers."""
        self._done += count
        self._note = note
        if self._listener is not None:
            self._listener(self._label, self._done, self._total)
        if self._bar is not None:
            if note:
                self._bar.set_postfix_str(note, refresh=False)
            self._bar.update(count)
        elif self._shown and (now := time.monotonic()) - self._last >= LINE_SECONDS and self._done < self._total:
            self._last = now
            click.echo(self._line(now), err=True)

    def _line(self, now: float) -> str:
        elapsed = now - self._start
        rate = (self._done - self._start_done) / max(elapsed, 1e-9)
        left = (self._total - self._done) / max(rate, 1e-9)
        when = f"{left:.0f} s left" if self._done < self._total else f"{elapsed:.0f} s"
        note = f", {self._note}" if self._note else ""
        return f"{self._label}: {self._done} of {self._total} {self._unit}, {rate:.1f} {self._unit}/s, {when}{note}"

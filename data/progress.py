"""Progress with rate and time left: a bar on a terminal, else a line every so often."""

import sys
import time

import click
from tqdm import tqdm

LINE_SECONDS = 30.0


class Progress:
    """Counts `total` units of work, `done` of them before this run. Use as a context manager, call `add`.

    On a terminal a tqdm bar on stderr; elsewhere a line at most every LINE_SECONDS and one at the end, so that logs of
    batch jobs stay short. `note` is a few words shown behind the numbers.
    """

    def __init__(self, label: str, total: int, *, unit: str, done: int = 0) -> None:
        self._label, self._total, self._unit, self._done, self._start_done = label, total, unit, done, done
        self._start = self._last = time.monotonic()
        self._note = ""
        self._bar = (
            tqdm(desc=label, total=total, unit=f" {unit}", initial=done, dynamic_ncols=True)
            if sys.stderr.isatty()
            else None
        )

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *exception: object) -> None:
        if self._bar is not None:
            self._bar.close()
        elif self._done > self._start_done:
            click.echo(self._line(time.monotonic()), err=True)

    def add(self, count: int, *, note: str = "") -> None:
        """Count more units as done."""
        self._done += count
        self._note = note
        if self._bar is not None:
            if note:
                self._bar.set_postfix_str(note, refresh=False)
            self._bar.update(count)
        elif (now := time.monotonic()) - self._last >= LINE_SECONDS and self._done < self._total:
            self._last = now
            click.echo(self._line(now), err=True)

    def _line(self, now: float) -> str:
        elapsed = now - self._start
        rate = (self._done - self._start_done) / max(elapsed, 1e-9)
        left = (self._total - self._done) / max(rate, 1e-9)
        when = f"{left:.0f} s left" if self._done < self._total else f"{elapsed:.0f} s"
        note = f", {self._note}" if self._note else ""
        return f"{self._label}: {self._done} of {self._total} {self._unit}, {rate:.1f} {self._unit}/s, {when}{note}"

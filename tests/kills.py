"""Kill a process at a chosen point of its work. Points are counted in function calls, so no clock decides where."""

import itertools
import os
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType


def count_calls(*, die_at: int = 0) -> Callable[[], int]:
    """Count the function calls, of Python and of C, that this thread and threads started later make from now on.

    die_at : number of the call, from 1, just before which the process kills itself with SIGKILL; 0 for never.
    Returns a function that tells the calls so far.
    """
    counter, last = itertools.count(1), 0

    def note(frame: FrameType, event: str, argument: object) -> None:
        nonlocal last
        if event in ("call", "c_call"):
            last = next(counter)
            if last == die_at:
                os.kill(os.getpid(), signal.SIGKILL)

    threading.setprofile(note)
    sys.setprofile(note)
    return lambda: last

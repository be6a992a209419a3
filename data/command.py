"""The edge of every command: errors become one line and an exit code."""

import ctypes
import gc
import sys
import traceback
from collections.abc import Callable
from functools import wraps
from typing import Any

import click

from mrnn.data.errors import MrnnError, Stopped
from mrnn.data.stopping import EXIT_INTERRUPTED

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
KEPT, LARGE = 2**30, 2**25  # LARGE is the most that older glibc takes
EXIT_FAILED = 1
EXIT_IMAGES_FAILED = 3

debug_option = click.option("--debug", is_flag=True, help="On failure show the whole traceback.")


def one_line_errors(command: Callable[..., None]) -> Callable[..., None]:
    """Decorate the function of a click command that has `debug_option`.

    MrnnError and OSError end as one line on stderr and exit code 1, Stopped as its message and its code, Ctrl-C as 130.
    Anything else is a defect of ours and keeps its traceback.
    """

    @wraps(command)
    def run(*args: Any, debug: bool, **kwargs: Any) -> None:
        suit_process()
        try:
            command(*args, **kwargs)
        except Stopped as stop:
            click.echo(str(stop), err=True)
            sys.exit(stop.exit_code)
        except KeyboardInterrupt:
            click.echo("stopped by Ctrl-C", err=True)
            sys.exit(EXIT_INTERRUPTED)
        except (MrnnError, OSError) as error:
            if debug:
                traceback.print_exc()
            click.echo(f"error: {describe(error)}", err=True)
            sys.exit(EXIT_FAILED)

    return run


def suit_process() -> None:
    """Set garbage collection and memory allocation of this process for few, large arrays and many small objects.

    A data set is millions of small objects in no cycle; looking through them again and again while they come in took
    more than half of the time that train-mrnn needs before its first step. And glibc gives the memory of large arrays
    back to the system as soon as they are freed: with 7,415 words a training step took 47 MB anew, page by page, a
    tenth of its time. Kept up to KEPT bytes, arrays of up to LARGE bytes are used again. Other libraries have no
    mallopt, and need none.
    """
    gc.set_threshold(100_000, 50, 100)
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt:
        mallopt(M_TRIM_THRESHOLD, KEPT)
        mallopt(M_MMAP_THRESHOLD, LARGE)


def describe(error: MrnnError | OSError) -> str:
    """One line: our own text, or for an OSError what the system said and about which file."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    return " ".join(str(error).split())

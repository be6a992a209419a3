"""The edge of every command: its common options, and errors that become one line and an exit code."""

import ctypes
import gc
import sys
import traceback
from collections.abc import Callable, Collection
from functools import wraps
from typing import Any

import click

from mrnn.data.errors import MrnnError, Stopped
from mrnn.data.settings import Declared, declared_settings
from mrnn.data.stopping import EXIT_INTERRUPTED

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
KEPT, LARGE = 2**30, 2**25  # LARGE is the most that older glibc takes
EXIT_FAILED = 1
EXIT_IMAGES_FAILED = 3

debug_option = click.option("--debug", is_flag=True, help="On failure show the whole traceback.")


def command(name: str, *, epilog: str = "") -> Callable[[Callable[..., None]], click.Command]:
    """Decorate a function as the command `name`: with -h, --version, --debug, and errors of one line.

    epilog : shown below the options of --help; it holds a worked example.
    """

    def decorate(function: Callable[..., None]) -> click.Command:
        settings = {"help_option_names": ["-h", "--help"]}
        made = click.command(name, epilog=epilog, context_settings=settings)(one_line_errors(function))
        return click.version_option(package_name="mrnn")(debug_option(made))

    return decorate


def setting_options(
    config: type, *, only: Collection[str] | None = None, leave_out: Collection[str] = ()
) -> Callable[[Callable[..., None]], Any]:
    """Decorate the function of a command with an option for the settings of a dataclass (mrnn.data.settings).

    only : names of the settings to make options of, None for all. leave_out : names of settings to leave out.
    """

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        for name, default, declared in reversed([*declared_settings(config)]):
            if name not in leave_out and (only is None or name in only):
                function = setting_option(name, default, declared)(function)
        return function

    return decorate


def setting_option(name: str, default: Any, declared: Declared) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """The option of one setting: `--batch-size` for `batch_size`; for a bool `--sample`, or `--graphs/--no-graphs`.

    A bool that is off by default gets no second flag, which would change nothing.
    """
    flag = "--" + name.replace("_", "-")
    kind: Any = declared.kind
    if declared.kind is bool:
        flag, kind = f"{flag}/--no-{flag[2:]}" if default else flag, None
    elif declared.choices:
        kind = click.Choice(declared.choices)
    elif declared.kind is int and declared.at_least is not None:
        kind = click.IntRange(min=int(declared.at_least))
    elif declared.kind is float and (declared.lowest != float("-inf") or declared.below is not None):
        low, open_ = declared.lowest, declared.above is not None
        kind = click.FloatRange(min=low, max=declared.below, min_open=open_, max_open=declared.below is not None)
    return click.option(
        flag,
        name,
        default=default,
        type=kind,
        is_flag=declared.kind is bool,
        show_default=default not in (None, "") and default is not False,
        help=declared.help,
    )


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

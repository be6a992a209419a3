"""What every command has in common: -h, --version and --debug, and errors that become one line and an exit code."""

import sys
import traceback
from collections.abc import Callable, Collection
from functools import wraps
from typing import Any

import click

from mrnn.data.errors import MrnnError, SettingError, Stopped
from mrnn.data.exhaustion import first_line, is_out_of_memory
from mrnn.data.memory import suit_process
from mrnn.data.outputs import check_outputs
from mrnn.data.progress import progress_shown
from mrnn.data.settings import Declared, declared_settings
from mrnn.data.stopping import EXIT_INTERRUPTED
from mrnn.data.streams import suit_streams, use_utf8

EXIT_FAILED = 1
EXIT_IMAGES_FAILED = 3

MEMORY_REMEDY = "lower --batch-size, --workers, --beam or --pool, as the command has them, or use a larger machine"

debug_option = click.option("--debug", is_flag=True, help="Show the whole traceback of an error.")


def command(name: str, *, epilog: str = "") -> Callable[[Callable[..., None]], click.Command]:
    """Decorate a function as a command with -h, --version, --debug, and one-line errors.

    name : the name of its console script.
    epilog : shown below the options of --help; contains a worked example.
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


def setting_option(
    name: str, default: Any, declared: Declared, *, unset: bool = False
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """The option of one setting: `--batch-size` for `batch_size`; for a bool `--sample`, or `--graphs/--no-graphs`.

    A bool that is off by default gets no second flag, which would change nothing. unset : the option is None where it
    is not given, instead of its default, which then the help text must tell.
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
        default=None if unset else default,
        type=kind,
        is_flag=declared.kind is bool,
        show_default=not unset and default not in (None, "") and default is not False,
        help=declared.help,
    )


def one_line_errors(command: Callable[..., None]) -> Callable[..., None]:
    """Decorate the function of a click command that has `debug_option`.

    A SettingError ends as wrong usage with exit code 2, other MrnnErrors and OSErrors as one line on stderr with 1,
    Stopped as its message with its own code, Ctrl-C with 130, running out of memory as one line with 1. Any other
    error is a defect and keeps its traceback.
    """

    @wraps(command)
    def run(*args: Any, debug: bool, **kwargs: Any) -> None:
        use_utf8()
        suit_streams()
        suit_process()
        try:
            with progress_shown():
                check_outputs(click.get_current_context())
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
            if isinstance(error, SettingError):
                raise click.UsageError(describe(error)) from error
            click.echo(f"error: {describe(error)}", err=True)
            sys.exit(EXIT_FAILED)
        except (MemoryError, RuntimeError) as error:
            if debug or not is_out_of_memory(error):
                raise
            click.echo(f"error: not enough memory ({first_line(error)}); {MEMORY_REMEDY}", err=True)
            sys.exit(EXIT_FAILED)

    return run


def describe(error: MrnnError | OSError) -> str:
    """One line: our own text, or for an OSError the message of the system and the file concerned."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    return " ".join(str(error).split())

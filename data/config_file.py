"""`--config FILE`: options of a command from a file, and what the command line of a run is recorded as.

The file is TOML, with a line for each option, under its long name:

    model = "generator"
    epochs = 12
    image-dropout = 0.6
    graphs = false                     # --no-graphs
    combine = [["runs/grid", "grid.h5"]]

or the config.json of a run, whose settings are taken. Options on the command line win over the file. Paths count from
the working directory, as on the command line.
"""

import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Callable
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import click

from mrnn.data.options import path_type

NOT_IN_FILES = ("config", "help", "version", "debug")
GIT_SECONDS = 10  # a repository on a slow disk may take long; then its state is not recorded


def config_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """`--config`. The command's function gets no argument for it: the file's values become the options' defaults."""
    return click.option(
        "--config",
        type=path_type,
        metavar="FILE",
        is_eager=True,  # before the options whose values it gives
        expose_value=False,
        callback=_take,
        help="TOML file with options by their long names, or config.json of a run, to train with its settings again. "
        "Options on the command line win.",
    )(command)


def _take(context: click.Context, parameter: click.Parameter, file: Path | None) -> None:
    if file is not None and not context.resilient_parsing:
        context.default_map = {**(context.default_map or {}), **_options(context.command, _read(file), file)}


def _read(file: Path) -> dict[str, Any]:
    """The values in a file by the names of options. Raises click.BadParameter for one that cannot be understood."""
    try:
        text = file.read_text(encoding="utf-8")
        values = json.loads(text) if file.suffix == ".json" else tomllib.loads(text)
    except OSError as error:
        raise click.BadParameter(f"{file}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise click.BadParameter(f"{file} is not {'JSON' if file.suffix == '.json' else 'TOML'}: {error}") from error
    if isinstance(values, dict) and isinstance(values.get("settings"), dict):  # config.json of a run
        values = values["settings"]
    if not isinstance(values, dict):
        raise click.BadParameter(f"{file} must hold one object with options by their names")
    return {name: value for name, value in values.items() if value is not None}


def _options(command: click.Command, values: dict[str, Any], file: Path) -> dict[str, Any]:
    """The default_map of a file's values. Raises click.BadParameter for names and values that the command refuses."""
    own = [option for option in command.params if isinstance(option, click.Option) and option.name not in NOT_IN_FILES]
    options = {flag[2:]: option for option in own for flag in option.opts if flag.startswith("--")}
    given: dict[str, Any] = {}
    for name, value in values.items():
        option = options.get(name.replace("_", "-"))
        if option is None or option.name is None:
            near = get_close_matches(name.replace("_", "-"), options, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise click.BadParameter(f"{file}: {command.name} has no option {name!r}{hint}")
        given[option.name] = _value(option, value, f"{file}: {name}")
    return given


def _value(option: click.Option, value: Any, where: str) -> Any:
    """A value as click takes it: words as on a command line, which its types then convert and check."""
    if option.is_flag or isinstance(value, bool):
        if not (option.is_flag and isinstance(value, bool)):
            raise click.BadParameter(f"{where} must be {'true or false' if option.is_flag else 'no truth value'}")
        return value
    if not option.multiple:
        return _word(value, where)
    values = value if isinstance(value, list) else [value]
    if option.nargs == 1:
        return [_word(each, where) for each in values]
    if not all(isinstance(each, list) and len(each) == option.nargs for each in values):
        raise click.BadParameter(f"{where} must be a list of lists of {option.nargs} values")
    return [[_word(word, where) for word in each] for each in values]


def _word(value: Any, where: str) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        return repr(value)
    raise click.BadParameter(f"{where} must be a text or a number")


def command_line() -> dict[str, Any]:
    """How this process was started, for config.json.

    argv : the words of the command line. folder : the working directory. git : of the repository that it lies in, if
    any, `commit`, and whether files were `changed` since.
    """
    found: dict[str, Any] = {"argv": [*sys.argv], "folder": os.getcwd()}
    commit, status = _git("rev-parse", "HEAD"), _git("status", "--porcelain", "--untracked-files=no")
    if commit:
        found["git"] = {"commit": commit, "changed": None if status is None else bool(status)}
    return found


def _git(*words: str) -> str | None:
    """What a git command prints for the working directory; None if it fails or there is no git."""
    try:
        done = subprocess.run(
            ["git", "--no-optional-locks", *words], capture_output=True, text=True, timeout=GIT_SECONDS, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()

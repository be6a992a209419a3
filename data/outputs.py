"""What a command may replace: only files that mrnn made, and never one that the same command reads.

Every option of a command that names a file to write declares what is written there (`OutputFile`); commands look at all
of them before they do anything (`check_outputs`). Functions that write several files into a folder call
`refuse_foreign_folder` before they begin.
"""

import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import click

from mrnn.data.errors import SettingError

BEGINNING = 4096  # bytes of a file that are looked at
LONGEST_LINE = 2**20  # characters


def is_page(path: Path) -> bool:
    """Whether a file is a web page that mrnn wrote: its policy names its own script and style by their hashes."""
    start = _start(path)
    return (
        start.startswith(b"<!doctype html>\n<html lang=") and b"default-src 'none'; img-src data:; style-src" in start
    )


def is_cache(path: Path) -> bool:
    """Whether a file is a feature cache, damaged or not."""
    return _start(path).startswith(b'{"format": "mrnn-features"')


def is_marked(mark: str) -> Callable[[Path], bool]:
    """A recogniser of files that hold a text, such as the title that is written into a figure."""

    def recognise(path: Path) -> bool:
        return mark.encode() in path.read_bytes()

    return recognise


def is_json_with(*keys: str) -> Callable[[Path], bool]:
    """A recogniser of JSON objects that have all the keys."""

    def recognise(path: Path) -> bool:
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            return False
        return isinstance(content, dict) and content.keys() >= set(keys)

    return recognise


def is_json_line_with(*keys: str) -> Callable[[Path], bool]:
    """A recogniser of JSON lines, of which the first is an object that has all the keys."""

    def recognise(path: Path) -> bool:
        try:
            with path.open(encoding="utf-8") as stream:
                content = json.loads(stream.readline(LONGEST_LINE))
        except (OSError, ValueError, RecursionError):
            return False
        return isinstance(content, dict) and content.keys() >= set(keys)

    return recognise


class OutputFile(click.Path):
    """The type of an option or argument that names a file to write.

    what : what is written, for messages. is_ours : whether a file that exists may be replaced, or gone on with.
    """

    def __init__(self, what: str, is_ours: Callable[[Path], bool]) -> None:
        super().__init__(path_type=Path)
        self.what, self.is_ours = what, is_ours


def check_outputs(context: click.Context) -> None:
    """Refuse outputs that would destroy something, for all options of the command that is about to run.

    Raises SettingError for an output that is a folder, lies in no folder, is one of the command's own inputs, or exists
    and is not what is_ours recognises.
    """
    params = context.command.params
    given = [(option, path) for option in params for path in _paths(context.params.get(option.name or ""))]
    for option, path in given:
        if isinstance(option.type, OutputFile):
            others = [(other, value) for other, value in given if other is not option]
            name = f"{option.opts[0]} {path}" if isinstance(option, click.Option) else str(path)
            remedy = f"name another file for {option.type.what}"
            for other, value in others:
                if _same_file(path, value):
                    label = "an output" if isinstance(other.type, OutputFile) else "an input"
                    raise SettingError(f"{name} is also {label} of this command and would be overwritten; {remedy}")
            refuse_foreign(path, option.type.is_ours, what=option.type.what, name=name)


def refuse_foreign(path: Path, is_ours: Callable[[Path], bool], *, what: str, name: str = "") -> None:
    """Raise SettingError unless a file can be written: it is not there, in a folder that is, or is one of ours.

    what : what would be written. name : the file and its option, for the message.
    """
    name = name or str(path)
    if path.is_dir():
        raise SettingError(f"{name} is a folder; name a file for {what}")
    if not path.absolute().parent.is_dir():
        raise SettingError(f"{name}: there is no folder {path.absolute().parent}")
    if path.exists() and path.stat().st_size and not is_ours(path):
        raise SettingError(
            f"{name} exists and is not {what} that mrnn wrote, so it is not replaced; name another file for {what}"
        )


def refuse_foreign_folder(folder: Path, names: Iterable[str], *, is_ours: Callable[[Path], bool]) -> None:
    """Raise SettingError if writing to a folder would replace files that mrnn did not write.

    names : patterns of the files that will be written, relative to the folder
    is_ours : whether such files in the folder are from an earlier run
    """
    if folder.exists() and not folder.is_dir():
        raise SettingError(f"{folder} is a file, not a folder; name a folder for the output")
    if folder.is_dir() and not is_ours(folder):
        files = (path for pattern in names for path in folder.glob(pattern) if path.is_dir() or path.stat().st_size)
        found = sorted(str(path.relative_to(folder)) for path in files)
        if found:
            listed = ", ".join(found[:3]) + (", ..." if len(found) > 3 else "")
            raise SettingError(
                f"{folder} holds {listed}, which mrnn did not write and would replace; choose another folder for the "
                "output"
            )


def _start(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            return stream.read(BEGINNING)
    except OSError:
        return b""


def _paths(value: Any) -> Iterable[Path]:
    if isinstance(value, Path):
        return [value]
    if isinstance(value, tuple):
        return [each for each in value if isinstance(each, Path)]
    return []


def _same_file(one: Path, other: Path) -> bool:
    try:
        return os.path.samefile(one, other)
    except OSError:
        return os.path.realpath(one) == os.path.realpath(other)

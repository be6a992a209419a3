"""Files of a data set as they come: whatever is in them, a reader gets their content or a CorpusError."""

import csv
import gzip
import io
import json
import os
import zlib
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from mrnn.data.errors import CorpusError

MAX_BYTES = 2**30  # more than any caption file; a small .gz can unpack to any size
PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff")
Field = TypeVar("Field")


def require_folder(root: Path, name: str) -> None:
    """Raise CorpusError unless root is a folder."""
    if not root.is_dir():
        reason = "is not a folder" if root.exists() else "does not exist"
        raise CorpusError(
            f"{name}: {root} {reason}; name the data set's folder with --root, "
            f"or set MRNN_DATA to the folder that holds {name}/"
        )


def folder_content(folder: Path) -> str:
    """What stands in a folder, in words, for error messages."""
    names = sorted(entry.name + "/" * entry.is_dir() for entry in os.scandir(folder) if not entry.name.startswith("."))
    shown = ", ".join(printable(name) for name in names[:10])
    return (shown + (f" and {len(names) - 10} more" if len(names) > 10 else "")) or "nothing"


def find_file(root: Path, folders: Sequence[str], names: Sequence[str]) -> Path | None:
    """The first of the file names, in the first of the folders below root ('' = root itself), that exists."""
    for folder in folders:
        for name in names:
            if (root / folder / name).is_file():
                return root / folder / name
    return None


def not_found(name: str, what: str, root: Path, wanted: Sequence[str]) -> CorpusError:
    """The error for a root that lacks a file or folder: what was looked for, and what is there."""
    return CorpusError(
        f"{name}: no {what} in {root}: looked for {', '.join(wanted)}; found {folder_content(root)}; "
        "is --root the data set's own folder?"
    )


def read_text(path: Path, *, encoding: str = "utf-8-sig") -> str:
    """The text of a file, unpacked if its name ends in .gz; a byte order mark is dropped.

    Raises CorpusError if it does not decode, holds NUL characters, or is longer than MAX_BYTES.
    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else open(path, "rb") as file:
            content = file.read(MAX_BYTES + 1)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise CorpusError(f"{path}: not a whole gzip file ({error}); fetch it again") from error
    if len(content) > MAX_BYTES:
        raise CorpusError(f"{path}: longer than {MAX_BYTES} bytes, which no caption file is")
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise CorpusError(
            f"{path}, line {line}: not UTF-8 text (byte {content[error.start]:#04x}); save the file as UTF-8"
        ) from error
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise CorpusError(f"{path}, line {line}: holds a NUL character; if the file is UTF-16, save it as UTF-8")
    return text


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines of a text file that are not blank, with their numbers from 1.

    Only line feeds part lines (str.splitlines would also split at characters that occur inside captions).
    """
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if line.strip():
            yield number, line.rstrip("\r")


def parse_json(text: str, *, where: str) -> Any:
    """The value that a JSON text stands for. Raises CorpusError for anything but JSON."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise CorpusError(f"{where}: not JSON ({error}); is the file whole?") from error
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, brackets nested without end
        raise CorpusError(f"{where}: not JSON that a data set would hold ({error})") from error


def json_field(record: object, key: str, kind: type[Field], *, where: str) -> Field:
    """record[key], if record is an object and the value of the right type. Raises CorpusError otherwise.

    kind : dict, list, str or int; true and false do not count as int.
    """
    if not isinstance(record, dict):
        raise CorpusError(f"{where}: expected an object with {key!r}, found {shortened(record)}")
    if key not in record:
        raise CorpusError(f"{where}: {key!r} is missing; found {', '.join(map(repr, list(record)[:10])) or 'no keys'}")
    value = record[key]
    if not isinstance(value, kind) or isinstance(value, bool):
        names = {dict: "an object", list: "a list", str: "a string", int: "an integer"}
        raise CorpusError(f"{where}: {key!r} must be {names[kind]}, not {shortened(value)}")
    return value


def read_table(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Header and rows of a CSV file with commas, semicolons or tabs, whichever its header has most of.

    Header names come in lower case and stripped. Rows are as long as the header and come with the number of their last
    line; blank ones are left out. Raises CorpusError for rows of another length and for quotes that do not match.
    """
    text = read_text(path)
    delimiter = max(",;\t", key=text.split("\n", 1)[0].count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        rows = [(reader.line_num, row) for row in reader if any(row)]
    except csv.Error as error:
        raise CorpusError(
            f"{path}, line {reader.line_num}: not a row of a CSV file ({error}); are its double quotes in pairs?"
        ) from error
    header = [column.strip().lower() for column in rows[0][1]] if rows else []
    for number, row in rows[1:]:
        if len(row) != len(header):
            raise CorpusError(
                f"{path}, line {number}: {len(row)} columns where the header has {len(header)}; "
                f"a caption that holds {delimiter!r} must stand in double quotes"
            )
    return header, rows[1:]


def list_pictures(folder: Path, *, recursive: bool) -> set[str]:
    """Paths of the picture files in a folder, relative to it, by their names alone; hidden files do not count.

    Links are followed (people link picture folders into place), each folder is entered once.
    """
    found: set[str] = set()
    entered: set[str] = set()
    pending = [""]
    while pending:
        below = pending.pop()
        place = os.path.realpath(folder / below)
        if place in entered:
            continue
        entered.add(place)
        with os.scandir(folder / below) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if entry.name.lower().endswith(PICTURE_SUFFIXES):
                    found.add(below + entry.name)
                elif recursive and entry.is_dir():
                    pending.append(f"{below}{entry.name}/")
    return found


class Pictures(NamedTuple):
    """What was found of a data set's pictures.

    prefix : to put before a named path, '' or with a final slash. paths : the pictures that are there, with it.
    lacking : why there is none at all, where there is no folder of pictures: their captions can be used all the same.
    """

    prefix: str
    paths: set[str]
    lacking: str = ""


def find_pictures(
    root: Path, folders: Sequence[str], *, name: str, named: Collection[str], recursive: bool = False
) -> Pictures:
    """Where the pictures lie: the first of the folders that holds a named one, else the first that exists.

    folders : below root; '' is root itself, which counts only if it holds a named picture.
    named : the paths that the data set gives, relative to the folder sought.
    """
    fallback: Pictures | None = None
    for folder in folders:
        if not (root / folder).is_dir():
            continue
        found = list_pictures(root / folder, recursive=recursive)
        prefix = f"{folder}/" if folder else ""
        if not found.isdisjoint(named):
            return Pictures(prefix, {prefix + path for path in found})
        if folder and fallback is None:
            fallback = Pictures(prefix, {prefix + path for path in found})
    if fallback is None:
        example = min(named, default="")
        wanted = [f"{folder}/" if folder else f"pictures such as {example!r} beside the captions" for folder in folders]
        return Pictures("", set(), lacking=str(not_found(name, "folder of pictures", root, wanted)))
    return fallback


def printable(name: str) -> str:
    """A file name in which bytes that are no UTF-8 are written out."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def shortened(value: object) -> str:
    """A value in at most 60 characters, for messages."""
    text = repr(value) if isinstance(value, str | int | float | bool | None) else type(value).__name__
    return text if len(text) <= 60 else text[:57] + "..."

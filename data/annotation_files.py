"""Files of a data set as they come: whatever is in them, a reader gets their content or a CorpusError."""

import codecs
import gzip
import json
import os
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from mrnn.data.errors import CorpusError

TEXT = "utf-8-sig"  # UTF-8, with or without a byte order mark
MAX_BYTES = 2**30  # more than any caption file; a small .gz can unpack to any size
Field = TypeVar("Field")


def require_folder(root: str | Path, name: str) -> Path:
    """The root as a Path. Raises CorpusError unless it is a folder."""
    root = Path(root)
    if not os.path.isdir(root):
        reason = "is not a folder" if os.path.exists(root) else "does not exist"
        raise CorpusError(
            f"{name}: {root} {reason}; name the data set's folder with --root, "
            f"or set MRNN_DATA to the folder that holds {name}/"
        )
    return root


def folder_content(folder: Path) -> str:
    """What stands in a folder, in words, for error messages."""
    try:
        with os.scandir(folder) as entries:
            shown = [entry for entry in entries if not entry.name.startswith(".")]
    except OSError as error:
        return f"that it cannot be read ({error.strerror})"
    names = sorted(entry.name + "/" * os.path.isdir(entry) for entry in shown)
    listed = ", ".join(printable(name) for name in names[:10])
    return (listed + (f" and {len(names) - 10} more" if len(names) > 10 else "")) or "nothing"


def find_file(root: Path, folders: Sequence[str], names: Sequence[str]) -> Path | None:
    """The first of the file names, in the first of the folders below root ('' = root itself), that exists."""
    for folder in folders:
        for name in names:
            if os.path.isfile(root / folder / name):
                return root / folder / name
    return None


def other_files(chosen: Path, names: Sequence[str]) -> list[str]:
    """A note for each other file that could have been chosen and is not read."""
    others = [name for name in names if name != chosen.name and (chosen.parent / name).is_file()]
    return [f"{name} lies beside {chosen.name} and is not read" for name in others]


def not_found(name: str, what: str, root: Path, wanted: Sequence[str]) -> CorpusError:
    """The error for a root that lacks a file or folder: what was looked for, and what is there."""
    return CorpusError(
        f"{name}: no {what} in {root}: looked for {', '.join(wanted)}; found {folder_content(root)}; "
        "is --root the data set's own folder?"
    )


def read_text(path: Path, *, encoding: str = TEXT) -> str:
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
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) and encoding == TEXT:
        raise CorpusError(f"{path}, line 1: UTF-16 text, not UTF-8; save the file as UTF-8")
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise CorpusError(
            f"{path}, line {line}: not UTF-8 text (byte {content[error.start]:#04x}); save the file as UTF-8"
        ) from error
    text = text.lstrip("\ufeff")  # a file that was saved or joined with a mark twice
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


def parse_json(text: str, *, where: str, pairs: Callable[[list[tuple[str, Any]]], Any] | None = None) -> Any:
    """The value that a JSON text stands for. Raises CorpusError for anything but JSON.

    pairs : makes an object of its keys and values in their order; without, a key that occurs twice is an error (JSON
    allows it, and the first value would be lost without a word).
    """
    try:
        return json.loads(text, object_pairs_hook=pairs or _object)
    except json.JSONDecodeError as error:
        raise CorpusError(f"{where}: not JSON ({error}); is the file whole?") from error
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, brackets nested without end
        raise CorpusError(f"{where}: not JSON that a data set would hold ({error})") from error


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(key for number, (key, _) in enumerate(pairs) if key in dict(pairs[:number]))
        raise ValueError(f"the key {twice!r} occurs twice in one object")
    return found


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


def json_id(record: object, key: str, *, where: str) -> str:
    """record[key] as text, if it is a string or an integer, as ids are. Raises CorpusError otherwise."""
    whole = isinstance(record, dict) and isinstance(record.get(key), int)
    return str(json_field(record, key, int if whole else str, where=where))


def printable(name: str) -> str:
    """A file name in which bytes that are no UTF-8 are written out."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def shortened(value: object) -> str:
    """A value in at most 60 characters, for messages."""
    text = repr(value) if isinstance(value, str | int | float | bool | None) else type(value).__name__
    return text if len(text) <= 60 else text[:57] + "..."

"""Tables of captions: CSV, tab-separated, or lines of JSON. Everything in them is read, or said not to be."""

import csv
import io
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from mrnn.data.annotation_files import json_field, json_id, parse_json, read_lines, read_text, shortened
from mrnn.data.errors import CorpusError

IMAGE_KEYS = ("image", "file", "filename", "file_name", "image_path", "path", "image_name")
ID_KEYS = ("image_id", *IMAGE_KEYS)  # where pictures are named by ids
CAPTION_KEYS = ("caption", "sentence", "text", "comment")
SPLIT_KEYS = ("split", "set", "subset", "partition")
NUMBERED = re.compile(r"s?(?:[\s_.:#-]*\d+)?")  # captions, caption_1, caption 2, caption.3
SPLITS = {
    **dict.fromkeys(("train", "training", "restval"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
    **dict.fromkeys(("", "none"), ""),
}


@dataclass(frozen=True, slots=True)
class Row:
    """One row. where : file and line, for messages. split : 'train', 'val', 'test' or '' for none."""

    where: str
    image: str
    captions: list[str]
    split: str


@dataclass(frozen=True)
class Table:
    """Rows, and what of the file was not read: notes name each column or key once."""

    rows: list[Row]
    notes: tuple[str, ...] = ()


@dataclass
class _Columns:
    """Which columns hold what. captions : every column of captions. ignored : names of the others."""

    image: int
    captions: list[int]
    split: int | None
    ignored: list[str] = field(default_factory=list)


def read_caption_table(path: str | Path, *, with_splits: bool = True, image_keys: Sequence[str] = IMAGE_KEYS) -> Table:
    """A table with a header, with commas, semicolons or tabs, whichever the header has most of.

    with_splits : whether a column of splits is read; if not, every row has none.
    image_keys : columns that can name the picture, the first of them that is there

    One column names the picture; all columns of captions count (`caption`, or `caption_1` and so on, or
    `caption` several times); `split`, or another of SPLIT_KEYS that holds nothing but splits, gives the split.
    Raises CorpusError for a header that lacks picture or caption, rows of another length than the header, unknown
    splits, and double quotes that are not in pairs; the line named is the first of the row concerned.
    """
    path = Path(path)
    text = read_text(path)
    delimiter = max(",;\t", key=text.split("\n", 1)[0].count)
    lines, notes = _tabbed(text, path) if delimiter == "\t" else (_separated(text, path, delimiter), [])
    header = [cell.strip().lower() for cell in lines[0][1]] if lines else []
    columns = _choose(header, [row for _, row in lines[1:]], path, with_splits=with_splits, image_keys=image_keys)
    rows = []
    for number, row in lines[1:]:
        where = f"{path}, line {number}"
        if len(row) != len(header):
            raise CorpusError(
                f"{where}: {len(row)} columns where the header has {len(header)}; "
                f"a caption that holds {delimiter!r} must stand in double quotes"
            )
        _refuse_swallowed_rows(row, columns.image, delimiter=delimiter, where=where)
        captions = [row[column] for column in columns.captions]
        if len(captions) > 1 and any(map(str.strip, captions)):
            captions = [caption for caption in captions if caption.strip()]  # fewer captions than columns for them
        split = "" if columns.split is None else row[columns.split]
        rows.append(Row(where, row[columns.image].strip(), captions, parse_split(split, where=where)))
    if columns.ignored:
        notes.append(f"{path.name}: columns that are not read: {', '.join(columns.ignored)}")
    if columns.split is not None and header[columns.split] != "split":
        notes.append(f"{path.name}: splits are read from the column {header[columns.split]!r}")
    return Table(rows, tuple(notes))


def read_json_lines(path: str | Path, *, image_keys: Sequence[str] = IMAGE_KEYS) -> Table:
    """A JSON object per line: a picture under one of image_keys, its captions (a string or a list) under CAPTION_KEYS.

    A picture is named by a string, under `image_id` also by an integer.
    Numbered keys (`caption_1`) and keys that occur several times are all read. Raises CorpusError as
    `read_caption_table` does.
    """
    path = Path(path)
    rows: list[Row] = []
    ignored: Counter[str] = Counter()
    for number, line in read_lines(path):
        where = f"{path}, line {number}"
        record = parse_json(line, where=where, pairs=_all_captions)
        if not isinstance(record, dict):
            raise CorpusError(f"{where}: expected an object with 'image' and 'caption', found {shortened(record)}")
        image = next((key for key in image_keys if key in record), "image")
        base = next((base for base in CAPTION_KEYS if any(_is_numbered(key, base) for key in record)), "caption")
        captions: list[str] = []
        for key in [key for key in record if _is_numbered(key, base)] or [base]:
            if isinstance(record.get(key), list):
                if not all(isinstance(each, str) for each in record[key]):
                    raise CorpusError(f"{where}: {key!r} must be a list of strings")
                captions += record[key]
            else:
                captions.append(json_field(record, key, str, where=where))
        others = [each for each in SPLIT_KEYS if _is_split(record.get(each))]
        key = "split" if "split" in record or not others else others[0]
        split = json_field(record, key, str, where=where) if record.get(key) is not None else ""
        ignored.update(each for each in record if each not in (image, key) and not _is_numbered(each, base))
        is_id = image == "image_id"
        name = json_id(record, image, where=where) if is_id else json_field(record, image, str, where=where)
        rows.append(Row(where, name, captions, parse_split(split, where=where)))
    notes = (f"{path.name}: keys that are not read: {', '.join(map(shortened, ignored))}",) if ignored else ()
    return Table(rows, notes)


def parse_split(text: str, *, where: str) -> str:
    """'train', 'val', 'test' or '' from the words in use for them. Raises CorpusError for any other."""
    split = SPLITS.get(text.strip().lower())
    if split is None:
        raise CorpusError(f"{where}: the split is {shortened(text)}, expected train, val or test")
    return split


def _is_split(value: object) -> bool:
    return isinstance(value, str) and bool(SPLITS.get(value.strip().lower()))


def _is_numbered(name: str, base: str) -> bool:
    """Whether a column or key is the base with an 's' or a number behind it, or the base itself."""
    return name.startswith(base) and NUMBERED.fullmatch(name, len(base)) is not None


def _all_captions(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The object of the pairs; captions under a key that occurs twice are joined, any other such key is an error."""
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found and any(_is_numbered(key, base) for base in CAPTION_KEYS):
            both = [found[key], value]
            found[key] = [each for part in both for each in (part if isinstance(part, list) else [part])]
        elif key in found:
            raise ValueError(f"the key {key!r} occurs twice in one object")
        else:
            found[key] = value
    return found


def _choose(
    header: list[str],
    rows: Sequence[Sequence[str]],
    path: Path,
    *,
    with_splits: bool,
    image_keys: Sequence[str],
) -> _Columns:
    """The columns by their names. Raises CorpusError without one for the picture or one for the caption."""
    image = next((header.index(key) for key in image_keys if key in header), None)
    base = next((base for base in CAPTION_KEYS if any(_is_numbered(name, base) for name in header)), None)
    if image is None or base is None:
        raise CorpusError(
            f"{path}, line 1: expected a column for the picture ({', '.join(image_keys)}) and one for the caption "
            f"({', '.join(CAPTION_KEYS)}); found the columns {', '.join(map(repr, header)) or 'none'}"
        )
    captions = [number for number, name in enumerate(header) if number != image and _is_numbered(name, base)]
    split = header.index("split") if with_splits and "split" in header else None
    for key in SPLIT_KEYS:
        if with_splits and split is None and key in header:
            column = header.index(key)
            values = {row[column].strip().lower() for row in rows if column < len(row)}
            if values <= SPLITS.keys() and values - {"", "none"}:
                split = column
    used = {image, split, *captions}
    others = [(number, name) for number, name in enumerate(header) if number not in used]
    ignored = [(f"{name!r}" if name else f"number {n + 1}") + " (again)" * (name in header[:n]) for n, name in others]
    return _Columns(image, captions, split, ignored)


def _separated(text: str, path: Path, delimiter: str) -> list[tuple[int, list[str]]]:
    """Rows of a CSV text with the numbers of their first lines; blank ones are left out."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    rows: list[tuple[int, list[str]]] = []
    while True:
        first = reader.line_num + 1
        try:
            row = next(reader)
        except StopIteration:
            return rows
        except csv.Error as error:
            raise CorpusError(
                f"{path}, line {first}: not a row of a CSV file ({error}); are the double quotes in it in pairs?"
            ) from error
        if any(row):
            rows.append((first, row))


def _tabbed(text: str, path: Path) -> tuple[list[tuple[int, list[str]]], list[str]]:
    """Rows of a tab-separated text, one per line, and notes.

    Double quotes around a field within one line are taken off, as spreadsheets put them there; any other double quote
    is text. Raises CorpusError for a line that lacks columns after a field that opened with a double quote.
    """
    rows: list[tuple[int, list[str]]] = []
    unpaired: list[int] = []
    width = None
    for number, line in enumerate(text.split("\n"), start=1):
        line = line.rstrip("\r")
        if not line.strip():
            continue
        row = line.split("\t")
        if '"' in line:
            try:
                quoted = next(csv.reader([line], delimiter="\t", strict=True))
            except csv.Error:
                if any(cell.startswith('"') for cell in row):
                    unpaired.append(number)
            else:
                row = quoted if width in (None, len(quoted)) else row
        width = width or len(row)
        if len(row) != width and unpaired and unpaired[-1] == rows[-1][0]:
            raise CorpusError(
                f"{path}, line {unpaired[-1]}: a double quote opens a field and does not close it in the line; a row "
                "of a tab-separated file is one line, so put the caption into one"
            )
        rows.append((number, row))
    notes = []
    if unpaired:
        lines = f"line{'s' * (len(unpaired) > 1)} {', '.join(map(str, unpaired[:5]))}{', ...' * (len(unpaired) > 5)}"
        notes.append(f"{path.name}: double quotes without a partner are taken as text ({lines})")
    return rows, notes


def _refuse_swallowed_rows(row: Sequence[str], image: int, *, delimiter: str, where: str) -> None:
    """Raise CorpusError if a quoted field over several lines holds what looks like rows of the same table.

    That is what a single double quote at the beginning of one caption and another at the end of a later one do.
    """
    for cell in row:
        for line in _later_lines(cell):
            cells = line.split(delimiter)
            if len(cells) == len(row) and _looks_alike(cells[image].strip(), row[image].strip()):
                raise CorpusError(
                    f"{where}: a double quote opens here and closes only after {cell.count(chr(10))} more lines, which "
                    f"look like rows of their own ({shortened(line)}); take the quote away, or write it twice inside "
                    "quotes"
                )


def _later_lines(cell: str) -> Iterator[str]:
    if "\n" in cell:
        yield from cell.split("\n")[1:]


def _looks_alike(name: str, other: str) -> bool:
    """Whether a text could name a picture, given the name of another one."""
    suffix = PurePosixPath(other).suffix.lower()
    return PurePosixPath(name).suffix.lower() == suffix and bool(suffix or (name and " " not in name))

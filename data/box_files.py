"""Boxes that a detector or a person wrote to a file: COCO results JSON, or CSV."""

import csv
import math
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mrnn.data.annotation_files import parse_json, read_lines, read_text
from mrnn.data.captions import Corpus
from mrnn.data.errors import CorpusError
from mrnn.data.regions import NO_CLASS, Regions, found_regions

COLUMNS = ("left", "top", "width", "height")


@dataclass(frozen=True)
class BoxFile:
    """by_id : image id -> its boxes, best score first, those of equal score in the file's order.

    strays : boxes of images that the data set does not have.
    """

    by_id: dict[str, Regions]
    strays: int


def read_box_file(path: str | Path, corpus: Corpus) -> BoxFile:
    """The boxes of a corpus's images, in pixels of the upright picture.

    path : COCO results ([{image_id, bbox: [left, top, width, height], score, category_id}, ...]; also .gz), COCO
    annotations ({annotations: [...]}), or a CSV with the columns image, left, top, width, height and, if there is one,
    score. Boxes without a score get 1. Raises CorpusError for anything else, and if no box is of the corpus.
    """
    path = Path(path)
    text_form = path.name.lower().removesuffix(".gz").endswith((".csv", ".tsv"))
    known = {image.id for image in corpus.images}
    boxes: dict[str, list[tuple[float, ...]]] = defaultdict(list)
    strays: Counter[str] = Counter()
    for image_id, *box in _read_csv(path) if text_form else _read_json(path):
        if image_id in known:
            boxes[image_id].append(tuple(box))
        else:
            strays[image_id] += 1
    if not boxes:
        example = next(iter(strays), None)
        found = f"the first is of {example!r}" if example else "the file has none"
        raise CorpusError(f"{path}: no box is of an image of {corpus.name} ({found}); are these the right names?")
    by_id = {}
    for image_id, drawn in boxes.items():
        table = np.array(drawn, dtype=np.float64)
        order = np.argsort(-table[:, 4], kind="stable")
        by_id[image_id] = found_regions(table[order, :4], table[order, 4], table[order, 5])
    return BoxFile(by_id, sum(strays.values()))


def _read_json(path: Path) -> Iterator[tuple[Any, ...]]:
    content = parse_json(read_text(path), where=str(path))
    if isinstance(content, dict):
        content = content.get("annotations")
    if not isinstance(content, list):
        raise CorpusError(f"{path}: expected a list of COCO results, or an object with 'annotations'")
    for number, entry in enumerate(content):
        where = f"{path}, entry {number}"
        if not isinstance(entry, dict) or not isinstance(entry.get("image_id"), int | str):
            raise CorpusError(f"{where}: expected an object with 'image_id', 'bbox' and 'score', not {entry!r:.60}")
        box = entry.get("bbox")
        if not isinstance(box, list) or len(box) != 4:
            raise CorpusError(f"{where}: 'bbox' must be [left, top, width, height], not {box!r:.60}")
        kind = _number(entry.get("category_id", NO_CLASS), where=where)
        yield str(entry["image_id"]), *_box([*box, entry.get("score", 1)], where=where), kind


def _read_csv(path: Path) -> Iterator[tuple[Any, ...]]:
    lines = list(read_lines(path))
    delimiter = max(",;\t", key=lines[0][1].count) if lines else ","
    rows = [_cells(line, delimiter, where=f"{path}, line {number}") for number, line in lines]
    header = [name.strip().lower() for name in rows[0]] if rows else []
    missing = [name for name in ("image", *COLUMNS) if name not in header]
    if missing:
        raise CorpusError(f"{path}: the column {missing[0]} is missing; found {', '.join(header) or 'none'}")
    places = [header.index(name) for name in COLUMNS]
    score = header.index("score") if "score" in header else None
    for (number, _), row in zip(lines[1:], rows[1:], strict=True):
        where = f"{path}, line {number}"
        if len(row) != len(header):
            raise CorpusError(f"{where}: {len(row)} columns where the header has {len(header)}")
        values = [row[place] for place in places] + ["1" if score is None else row[score]]
        yield row[header.index("image")].strip(), *_box(values, where=where), NO_CLASS


def _cells(line: str, delimiter: str, *, where: str) -> list[str]:
    try:
        return next(csv.reader([line], delimiter=delimiter, strict=True))
    except csv.Error as error:
        raise CorpusError(f"{where}: not a row of a CSV file ({error})") from error


def _box(values: list[Any], *, where: str) -> tuple[float, ...]:
    left, top, width, height, score = (_number(value, where=where) for value in values)
    if width < 0 or height < 0:
        raise CorpusError(f"{where}: a box of {width:g} x {height:g} pixels; width and height come third and fourth")
    return left, top, width, height, score


def _number(value: Any, *, where: str) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if isinstance(value, bool) or not abs(number) < 2**31:
        raise CorpusError(f"{where}: expected a number, found {value!r:.40}")
    return number

"""Tab-separated lines of bottom-up attention (Anderson et al. 2018), an image per line, arrays in base64.

    image_id image_w image_h num_boxes boxes features
    img_id img_h img_w objects_id objects_conf attrs_id attrs_conf num_boxes boxes features        (LXMERT)

boxes are left, top, right, bottom in pixels, float32; features are float32, 2048 for each box. A file of COCO has 20 to
80 GB, so the places of the lines are noted once, and the lines are decoded as their images are wanted.
"""

import base64
import binascii
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mrnn.data.foreign.formats import Given
from mrnn.data.foreign.source import ImageRows, Source, with_regions

COLUMNS = {
    6: ("image_id", "image_w", "image_h", "num_boxes", "boxes", "features"),
    10: (
        "image_id", "image_h", "image_w", "objects_id", "objects_conf", "attrs_id", "attrs_conf", "num_boxes", "boxes",
        "features",
    ),
}  # fmt: skip
LONGEST_LINE = 64 << 20  # bytes; 100 boxes of 2048 numbers take 1.1 MB
LOOKED_AT = 4096


@dataclass(frozen=True)
class _Line:
    """An image. number : of its line, from 1. place, size : in bytes. boxes, width : as in COLUMNS; D."""

    number: int
    place: int
    size: int
    id: str
    boxes: int
    width: int


def recognise(path: Path) -> bool:
    """Whether a file begins with an id and two numbers, parted by tabs."""
    if not path.is_file():
        return False
    with path.open("rb") as stream:
        fields = stream.readline(LOOKED_AT).split(b"\t")
    return len(fields) > 3 and all(field.isdigit() for field in fields[1:3])


def read(path: Path, given: Given) -> list[Source]:
    """A file of lines with 6 or 10 columns. Its whole length is read once for their places."""
    lines = _index(path)

    def read_image(number: int) -> ImageRows:
        line = lines[number]
        with path.open("rb") as stream:
            stream.seek(line.place)
            return _decode(_columns(stream.read(line.size)), line)

    return [
        Source(
            path=path,
            ids=tuple(line.id for line in lines),
            count=len(lines),
            feature_size=lines[0].width,
            regions=max(line.boxes for line in lines),
            read=read_image,
            where=lambda number: f"{path}, line {lines[number].number}",
            files=(path,),
        )
    ]


def _index(path: Path) -> list[_Line]:
    lines: list[_Line] = []
    place = number = 0
    with path.open("rb") as stream:
        while text := stream.readline(LONGEST_LINE):
            number += 1
            try:
                if text.strip():
                    lines.append(_place(text, number, place))
                    if lines[-1].width != lines[0].width:
                        raise ValueError(f"{lines[-1].width} numbers for a box, and {lines[0].width} in line 1")
            except ValueError as error:
                raise ValueError(f"line {number}: {error}") from error
            place += len(text)
    if not lines:
        raise ValueError("it holds no line")
    return lines


def _place(text: bytes, number: int, place: int) -> _Line:
    if len(text) == LONGEST_LINE:
        raise ValueError(f"longer than {LONGEST_LINE} bytes, which no line of features is")
    columns = _columns(text)
    boxes = _integer(columns, "num_boxes")
    size = len(columns["features"]) // 4 * 3 - columns["features"][-2:].count(b"=")
    if not boxes or size % (4 * boxes):
        raise ValueError(f"{size} bytes of features do not divide into float32 for {boxes} boxes; is the file whole?")
    return _Line(number, place, len(text), columns["image_id"].decode().strip(), boxes, size // (4 * boxes))


def _columns(text: bytes) -> dict[str, bytes]:
    fields = text.rstrip(b"\r\n").split(b"\t")
    if len(fields) not in COLUMNS:
        raise ValueError(f"{len(fields)} columns, not 6 (bottom-up attention) or 10 (LXMERT); is the file whole?")
    return dict(zip(COLUMNS[len(fields)], fields, strict=True))


def _decode(columns: dict[str, bytes], line: _Line) -> ImageRows:
    count = line.boxes
    scores = classes = None
    if "objects_conf" in columns:
        scores = _array(columns, "objects_conf", "<f4", (count,))
        classes = _array(columns, "objects_id", "<i8", (count,))
        if not np.isfinite(scores).all() or not (abs(classes) < 2**31).all():
            raise ValueError("scores or classes that are none")
    return with_regions(
        _array(columns, "features", "<f4", (count, line.width)),
        corners=_array(columns, "boxes", "<f4", (count, 4)),
        size=(_integer(columns, "image_w"), _integer(columns, "image_h")),
        scores=scores,
        classes=classes,
    )


def _integer(columns: dict[str, bytes], name: str) -> int:
    if not columns[name].strip().isdigit() or len(columns[name]) > 9:
        raise ValueError(f"{name} is {columns[name][:20]!r}, not a number")
    return int(columns[name])


def _array(columns: dict[str, bytes], name: str, dtype: str, shape: tuple[int, ...]) -> np.ndarray:
    try:
        data = base64.b64decode(columns[name], validate=True)
    except binascii.Error as error:
        raise ValueError(f"{name} is not base64 ({error})") from error
    if len(data) != np.dtype(dtype).itemsize * int(np.prod(shape)):
        raise ValueError(f"{name} has {len(data)} bytes, not those of {' x '.join(map(str, shape))} numbers")
    return np.frombuffer(data, dtype).reshape(shape)

"""The captions of a data set as tables of a feature cache, written once and read back untrustingly."""

from collections.abc import Mapping, Sequence
from typing import Any

import h5py
import numpy as np

from mrnn.data.captions import NO_WORDS, Box, Corpus, Image, Problem


def write_tables(file: h5py.File, corpus: Corpus) -> None:
    """Write images, sentences, boxes and problems; the specification is in mrnn.data.cache."""

    def table(name: str, texts: Mapping[str, Sequence[str]], numbers: Mapping[str, np.ndarray]) -> None:
        group = file.create_group(name)
        for column, values in texts.items():
            group.create_dataset(column, data=np.array(values, dtype=object), dtype=h5py.string_dtype())
        for column, array in numbers.items():
            group.create_dataset(column, data=array)

    images = corpus.images
    table(
        "images",
        {"id": [i.id for i in images], "path": [i.path for i in images], "split": [i.split for i in images]},
        {},
    )
    sentences = [(n, text) for n, image in enumerate(images) for text in image.sentences]
    table(
        "sentences",
        {"text": [text for _, text in sentences]},
        {"image": np.array([n for n, _ in sentences], dtype=np.int64)},
    )
    boxes = [(n, box) for n, image in enumerate(images) for box in image.boxes]
    rectangles = [(box.left, box.top, box.width, box.height) for _, box in boxes]
    table(
        "boxes",
        {"phrase": [box.phrase for _, box in boxes], "kind": [box.kind for _, box in boxes]},
        {
            "image": np.array([n for n, _ in boxes], dtype=np.int64),
            "sentence": np.array([box.sentence for _, box in boxes], dtype=np.int64),
            "words": np.array([box.words for _, box in boxes], dtype=np.int64).reshape(-1, 2),
            "rectangle": np.array(rectangles, dtype=np.float64).reshape(-1, 4),
        },
    )
    found = corpus.problems
    table(
        "problems",
        {"kind": [p.kind for p in found], "subject": [p.subject for p in found], "detail": [p.detail for p in found]},
        {},
    )


def plain(file: h5py.File, name: str) -> h5py.Dataset:
    """A data set that lies in this file itself: external links and virtual sources are not followed.

    Raises ValueError if there is none.
    """
    place: Any = file
    for part in name.split("/"):
        if not isinstance(place.get(part, getlink=True), h5py.HardLink):
            raise ValueError(f"{name} is missing or a link")
        place = place[part]
    if not isinstance(place, h5py.Dataset) or place.is_virtual or place.external:
        raise ValueError(f"the contents of {name} lie in another file")
    return place


def read_tables(file: h5py.File, *, version: int) -> tuple[tuple[Image, ...], tuple[Problem, ...]]:
    """Images (with sentences and boxes) and problems of a cache. Raises as h5py does, and ValueError."""

    def text(name: str) -> list[str]:
        return [value.decode() for value in plain(file, name)[:]]

    def numbers(name: str, *, below: int) -> list[int]:
        """Numbers of images."""
        found = plain(file, name)[:]
        if len(found) and not 0 <= found.min() <= found.max() < below:
            raise ValueError(f"{name} names images that are not there")
        return found.tolist()

    ids = text("images/id")
    sentences: list[list[str]] = [[] for _ in ids]
    for number, sentence in zip(numbers("sentences/image", below=len(ids)), text("sentences/text"), strict=True):
        sentences[number].append(sentence)
    boxes: list[list[Box]] = [[] for _ in ids]
    of_image = numbers("boxes/image", below=len(ids))
    words = [NO_WORDS] * len(of_image) if version == 1 else map(tuple, plain(file, "boxes/words")[:].tolist())
    columns = (
        of_image,
        plain(file, "boxes/rectangle")[:].tolist(),
        text("boxes/phrase"),
        plain(file, "boxes/sentence")[:].tolist(),
        words,
        [""] * len(of_image) if version == 1 else text("boxes/kind"),
    )
    for i, (left, top, width, height), phrase, j, (begin, end), kind in zip(*columns, strict=True):
        boxes[i].append(Box(left, top, width, height, phrase, j, (begin, end), kind))
    images = tuple(
        Image(image_id, relative, split, tuple(said), tuple(drawn))
        for image_id, relative, split, said, drawn in zip(
            ids, text("images/path"), text("images/split"), sentences, boxes, strict=True
        )
    )
    found = zip(*(text(f"problems/{name}") for name in ("kind", "subject", "detail")), strict=True)
    return images, tuple(Problem(*parts) for parts in found)

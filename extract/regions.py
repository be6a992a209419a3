"""Where the regions of a picture are: a grid, a detector, boxes that are given, or several of these.

A source returns at most the asked number of rectangles, best first, in pixels of the upright picture. It says whether
it looks at the pixels, and what of it belongs into the provenance of the features.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from mrnn.data.box_files import read_box_file
from mrnn.data.captions import Corpus
from mrnn.data.errors import CorpusError, SettingError
from mrnn.data.regions import NO_CLASS, Regions, found_regions
from mrnn.extract.config import source_names
from mrnn.extract.detectors import Detector, build_detector, parse_detector
from mrnn.extract.images import Picture

# Scales of the grid: width and height of a cell as fractions of the picture, cells across and down, evenly spaced. The
# first 19 hold the boxes of 58.7 % of the phrases of Flickr8k's test photographs (IoU 0.5, the whole picture included).
GRID = (
    (1 / 2, 1, 3, 1),
    (1, 1 / 2, 1, 3),
    (2 / 3, 2 / 3, 2, 2),
    (1 / 2, 1 / 2, 3, 3),
    (1 / 3, 1 / 3, 5, 5),
    (1 / 4, 1 / 4, 7, 7),
)
GRID_MOST = sum(across * down for _, _, across, down in GRID)


class RegionSource(Protocol):
    """looks : whether `find` needs the pixels; without, regions depend on the id and the picture's size alone."""

    looks: bool

    def find(self, image_id: str, size: tuple[int, int], picture: Picture | None) -> Regions:
        """The regions of a picture of that size, best first; scores, and classes where there are any."""
        ...

    def provenance(self) -> Mapping[str, str]:
        """What decides on the regions: 'regions', 'region_settings' and, where there are some, weights and classes."""
        ...


class Grid:
    """The same parts of every picture, from large to small. At most GRID_MOST."""

    looks = False

    def __init__(self, count: int) -> None:
        cells = [
            (x, y, width, height)
            for width, height, across, down in GRID
            for y in np.linspace(0, 1 - height, down)
            for x in np.linspace(0, 1 - width, across)
        ]
        self._cells = np.array(cells[:count])

    def find(self, image_id: str, size: tuple[int, int], picture: Picture | None) -> Regions:
        n = len(self._cells)
        return found_regions(self._cells * np.tile(size, 2), np.zeros(n), np.full(n, NO_CLASS))

    def provenance(self) -> Mapping[str, str]:
        return {"regions": "grid", "region_settings": json.dumps({"cells": GRID})}


class GivenBoxes:
    """Boxes from a file or from the annotations, cut to the picture; those outside of it are left out."""

    looks = False

    def __init__(self, name: str, by_id: Mapping[str, Regions], *, settings: Mapping[str, str], count: int) -> None:
        self._name, self._by_id, self._settings, self._count = name, by_id, settings, count

    def find(self, image_id: str, size: tuple[int, int], picture: Picture | None) -> Regions:
        boxes = self._by_id.get(image_id)
        if boxes is None:
            return Regions.empty(0)
        corners = boxes.rectangles.copy()
        corners[:, 2:] += corners[:, :2]
        corners = np.clip(corners, 0, np.tile(np.array(size, dtype=np.float32), 2))
        corners[:, 2:] -= corners[:, :2]
        inside = np.flatnonzero((corners[:, 2:] > 0).all(1))[: self._count]
        return found_regions(corners[inside], boxes.scores[inside], boxes.classes[inside])

    def provenance(self) -> Mapping[str, str]:
        return {"regions": self._name, "region_settings": json.dumps(self._settings)}


class Detected:
    """The best boxes of a detector."""

    looks = True

    def __init__(self, detector: Detector, *, count: int) -> None:
        self._detector, self._count = detector, count

    def find(self, image_id: str, size: tuple[int, int], picture: Picture | None) -> Regions:
        assert picture is not None
        found = self._detector.find(picture.pixels, count=self._count)
        scale = np.array(size, dtype=np.float32) / np.array(picture.pixels.size, dtype=np.float32)
        return found_regions(found.rectangles * np.tile(scale, 2), found.scores, found.classes)

    def provenance(self) -> Mapping[str, str]:
        return {
            "regions": f"detector:{self._detector.name}",
            "region_settings": "{}",
            "region_weights": self._detector.weights,
            "region_weights_sha256": self._detector.weights_sha256,
            "region_classes": json.dumps(self._detector.classes),
        }


class Joined:
    """The regions of several sources, those of the first before those of the second. One detector at most."""

    def __init__(self, sources: Sequence[RegionSource]) -> None:
        self._sources = sources
        self.looks = any(source.looks for source in sources)

    def find(self, image_id: str, size: tuple[int, int], picture: Picture | None) -> Regions:
        found = [source.find(image_id, size, picture) for source in self._sources]
        return Regions(
            *(np.concatenate(table) for table in zip(*(each.tables().values() for each in found), strict=True))
        )

    def provenance(self) -> Mapping[str, str]:
        parts = [source.provenance() for source in self._sources]
        return {
            **{name: value for part in parts for name, value in part.items()},
            "regions": "+".join(part["regions"] for part in parts),
            "region_settings": json.dumps([json.loads(part["region_settings"]) for part in parts]),
        }


def open_source(text: str, corpus: Corpus, *, count: int, device: torch.device) -> RegionSource:
    """The source that `--regions` names.

    text : 'grid', 'detector:NAME[:WEIGHTS]', 'boxes:annotated' or 'boxes:FILE', or several of them joined by '+'.
    corpus : whose boxes are wanted. count : regions of an image at most, from each source.
    Raises SettingError for anything else, CorpusError for boxes that cannot be read or belong to no image, WeightsError
    for weights that cannot be had.
    """
    names = source_names(text)
    if len(names) == 1:
        return _open_one(text, corpus, count=count, device=device)
    if sum(name.startswith("detector:") for name in names) > 1:
        raise SettingError(f"regions may come from one detector, not from two: {text!r}")
    return Joined([_open_one(name, corpus, count=count, device=device) for name in names])


def _open_one(text: str, corpus: Corpus, *, count: int, device: torch.device) -> RegionSource:
    kind, _, rest = text.partition(":")
    if text == "grid":
        if count > GRID_MOST:
            raise SettingError(f"the grid has {GRID_MOST} regions at most, not {count}")
        return Grid(count)
    if kind == "detector" and rest:
        name, weights = parse_detector(rest)
        return Detected(build_detector(name, weights=weights, device=device), count=count)
    if text == "boxes:annotated":
        return GivenBoxes(text, annotated_boxes(corpus), settings={}, count=count)
    if kind == "boxes" and rest:
        path = Path(rest)
        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        boxes = read_box_file(path, corpus)
        return GivenBoxes("boxes:file", boxes.by_id, settings={"sha256": digest}, count=count)
    raise SettingError(
        "regions are grid, detector:NAME[:WEIGHTS], boxes:annotated or boxes:FILE (JSON or CSV), or several of them "
        f"joined by +, not {text!r}"
    )


def annotated_boxes(corpus: Corpus) -> dict[str, Regions]:
    """The different boxes that a data set draws in each image, in the order in which its sentences name them.

    Raises CorpusError if there is none at all.
    """
    by_id = {}
    for image in corpus.images:
        places = dict.fromkeys((box.left, box.top, box.width, box.height) for box in image.boxes)
        if places:
            n = len(places)
            by_id[image.id] = found_regions(np.array(list(places)), np.ones(n), np.full(n, NO_CLASS))
    if not by_id:
        raise CorpusError(
            f"{corpus.name} has no annotated boxes; scenes and flickr30k-entities have some, and --boxes adds those of "
            "Flickr30k Entities to flickr8k and flickr30k"
        )
    return by_id

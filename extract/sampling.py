"""How pictures become rows of features: as a whole, or region by region cut out and warped as R-CNN does.

The third way, one pass over the picture with its regions pooled from the map, is in mrnn.extract.roi. Every pass
through a network has the same number of rows, and a picture has the same place in its pass in every run.
"""

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from mrnn.data.errors import SettingError
from mrnn.data.regions import Regions
from mrnn.extract.backbones import Backbone
from mrnn.extract.config import images_of_pass
from mrnn.extract.images import RESAMPLING, Picture, Preprocessing, frame
from mrnn.extract.network import BatchNetwork

# R-CNN (Girshick et al. 2014, appendix A): pixels of surroundings on each side of the box, counted after warping.
CONTEXT = 16


class Sampler(Protocol):
    """images : pictures of a pass. rows : R, rows of each. least : as for `decode_picture`. feature_size : D.

    preprocessing : of row 0. settings : of the sampling itself, for the provenance.
    """

    feature_size: int
    images: int
    rows: int
    least: int | None
    preprocessing: Preprocessing
    settings: Mapping[str, Any]

    def empty_batch(self) -> Tensor:
        """Zeros for the bytes of `images` pictures."""
        ...

    def fill(self, pixels: np.ndarray, place: int, picture: Picture, regions: Regions) -> None:
        """Put a picture into its place in the bytes of a batch. regions : its R rows."""
        ...

    def compute(self, pixels: Tensor, regions: Regions) -> np.ndarray:
        """Features (images * R, D) float32 of a filled batch and its images * R regions; zeros where not valid."""
        ...


class WholePictures:
    """One row a picture, by the backbone's own preprocessing."""

    rows = 1
    least: int | None
    settings: Mapping[str, Any] = {}

    def __init__(self, backbone: Backbone, *, batch_size: int, device: torch.device, precision: str) -> None:
        self.images, self.least = batch_size, 2 * backbone.preprocessing.resize
        self.feature_size = backbone.feature_size
        self.preprocessing = backbone.preprocessing
        self._network = BatchNetwork(backbone, batch_size=batch_size, device=device, precision=precision)

    def empty_batch(self) -> Tensor:
        return self._network.empty_batch()

    def fill(self, pixels: np.ndarray, place: int, picture: Picture, regions: Regions) -> None:
        pixels[place] = frame(picture, self.preprocessing)

    def compute(self, pixels: Tensor, regions: Regions) -> np.ndarray:
        return self._network(pixels)


class CroppedRegions:
    """Row 0 as WholePictures has it, then every region cut out with its surroundings, warped, and through the network.

    least is None: pictures are decoded once and in full, since a region may be small.
    """

    least: int | None = None
    settings: Mapping[str, Any] = {"context": CONTEXT}

    def __init__(self, backbone: Backbone, *, rows: int, batch_size: int, device: torch.device, precision: str) -> None:
        """rows : R. batch_size : rows of a pass, rounded down to whole pictures, but at least one."""
        side = backbone.preprocessing.crop
        if side <= 2 * CONTEXT:
            raise SettingError(f"crops of {side} pixels leave nothing between {CONTEXT} pixels of surroundings")
        self.rows, self.images = rows, images_of_pass(batch_size, rows)
        self.feature_size = backbone.feature_size
        self.preprocessing = backbone.preprocessing
        self._network = BatchNetwork(backbone, batch_size=self.images * rows, device=device, precision=precision)

    def empty_batch(self) -> Tensor:
        return self._network.empty_batch()

    def fill(self, pixels: np.ndarray, place: int, picture: Picture, regions: Regions) -> None:
        first = place * self.rows
        pixels[first] = frame(picture, self.preprocessing)
        for row in range(1, self.rows):
            if regions.valid[row]:
                pixels[first + row] = cut_region(picture.pixels, regions.rectangles[row], self.preprocessing)

    def compute(self, pixels: Tensor, regions: Regions) -> np.ndarray:
        features = self._network(pixels)
        features[regions.valid == 0] = 0
        return features


def cut_region(pixels: Image.Image, rectangle: np.ndarray, preprocessing: Preprocessing) -> np.ndarray:
    """A region with its surroundings, warped to the network's input: (crop, crop, 3) uint8, RGB.

    rectangle : left, top, width, height. As in R-CNN it is enlarged until, warped, it has CONTEXT pixels around it;
    what lies outside of the picture has the mean colour, which is 0 after normalisation. It is cut at whole pixels, so
    the result is that of the cut-out saved to a file and warped.
    """
    box = context_box(rectangle, preprocessing.crop)
    inside = (max(box[0], 0), max(box[1], 0), min(box[2], pixels.width), min(box[3], pixels.height))
    cut = pixels.crop(inside)
    if inside != box:
        mean = tuple(round(255 * value) for value in preprocessing.mean)
        canvas = Image.new("RGB", (box[2] - box[0], box[3] - box[1]), mean)
        canvas.paste(cut, (inside[0] - box[0], inside[1] - box[1]))
        cut = canvas
    side = preprocessing.crop
    return np.asarray(cut.resize((side, side), RESAMPLING[preprocessing.interpolation]).convert("RGB"))


def context_box(rectangle: np.ndarray, side: int) -> tuple[int, int, int, int]:
    """Left, top, right, bottom in whole pixels of a rectangle with its surroundings; perhaps beyond the picture."""
    left, top, width, height = (float(value) for value in rectangle)
    share = CONTEXT / (side - 2 * CONTEXT)
    x0, y0 = round(left - share * width), round(top - share * height)
    x1, y1 = round(left + width + share * width), round(top + height + share * height)
    return x0, y0, max(x1, x0 + 1), max(y1, y0 + 1)

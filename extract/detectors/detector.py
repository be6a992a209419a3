"""What every family of detectors builds: boxes of one picture at a time, so that they depend on nothing else."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.ops import nms

from mrnn.data.regions import Regions, found_regions

OVERLAP = 0.5  # of two boxes with more intersection over union the one of lower score goes, whatever their classes
CANDIDATES = 1000  # the best ones, from which those are chosen

Candidates = tuple[Tensor, Tensor, Tensor]


@dataclass(frozen=True)
class Detector:
    """A detector ready for use.

    name, weights : as given. weights_sha256 : of the file, or of the random values.
    classes : names; class n of a region is classes[n].
    candidates : from an RGB picture to boxes (n, 4) as left, top, right, bottom in its pixels, scores (n,) and
    classes (n,) int64, on the CPU.
    """

    name: str
    weights: str
    weights_sha256: str
    classes: tuple[str, ...]
    candidates: Callable[[Image.Image], Candidates]

    def find(self, picture: Image.Image, *, count: int) -> Regions:
        """The best `count` boxes after suppression across classes, in pixels of the picture; no score is too low."""
        with torch.inference_mode():
            boxes, scores, classes = self.candidates(picture.convert("RGB"))
            limits = torch.tensor([picture.width, picture.height], dtype=boxes.dtype).repeat(2)
            boxes = boxes.clamp(min=0).minimum(limits)
            usable = ((boxes[:, 2:] - boxes[:, :2] >= 1).all(1) & scores.isfinite()).nonzero()[:, 0]
            best = usable[scores[usable].sort(descending=True, stable=True).indices[:CANDIDATES]]
            kept = best[nms(boxes[best], scores[best], OVERLAP)[:count]]
        rectangles = boxes[kept].numpy().astype(np.float32)
        rectangles[:, 2:] -= rectangles[:, :2]
        return found_regions(rectangles, scores[kept].numpy(), classes[kept].numpy())

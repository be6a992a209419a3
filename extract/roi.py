"""Regions pooled from one pass over the picture (Fast R-CNN, Girshick 2015; RoIAlign, He et al. 2017).

The picture is warped to a square larger than the network's own input, its convolutions run once, each region is pooled
to the size that the map has at the network's own input, and the rest of the network runs on every region. A region's
place on the map is its fraction of the picture times the map's size; the centres of AlexNet's cells lie up to half a
cell from that at the borders, where padding has moved them. Bins take as many samples as their size in cells, rounded
up. So a region that is the whole picture, at the network's own size, gives exactly the network's output; and row 0 is,
at any size, what the network returns for the warped picture.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.ops import roi_align

from mrnn.data.errors import MrnnError, SettingError
from mrnn.data.regions import Regions
from mrnn.extract.backbones import Backbone
from mrnn.extract.backbones.layers import PooledLayers
from mrnn.extract.backbones.timm_models import PREFIX as TIMM
from mrnn.extract.backbones.torchvision_models import CLASSIFIER_CUTS
from mrnn.extract.config import ENLARGED, FLIP, images_of_pass
from mrnn.extract.images import Picture, frame, normalise
from mrnn.extract.network import check_precision

Layer = Callable[[Tensor], Tensor]
# How much larger than its own input the picture is: networks with fully connected layers spend most on those, which run
# on every region anyway; the others spend all on the convolutions, 2 times the work at this size.
FACTOR_CONNECTED, FACTOR_POOLED, MULTIPLE = 2.0, 10 / 7, 32


class PooledRegions:
    """One pass over the warped picture; row 0 from the whole map, the regions by RoIAlign."""

    def __init__(
        self,
        backbone: Backbone,
        *,
        rows: int,
        side: int,
        batch_size: int,
        device: torch.device,
        precision: str,
        cells: tuple[int, int] | None = None,
    ) -> None:
        """rows : R. side : pixels that both sides of the picture are warped to.

        batch_size : a pass has a quarter as many pictures.
        cells : height and width that a region is pooled to; None for those of the map at the backbone's own input.
        Raises SettingError for backbones that cannot be cut in front of their pooling.
        """
        self.rows, self.images = rows, images_of_pass(batch_size, ENLARGED)
        self.least: int | None = 2 * side
        self.feature_size = backbone.feature_size
        self.preprocessing = replace(backbone.preprocessing, resize=side, crop=side, mode="warp")
        check_precision(precision, device)
        self._device, self._mixed, self._flip = device, precision == "bfloat16", backbone.views == FLIP
        self._trunk, self._rest, own = split_network(backbone)
        self._map = cells or own
        self.settings: Mapping[str, Any] = {"side": side, "map": self._map}
        backbone.network.to(device).to(memory_format=torch.channels_last)

    def empty_batch(self) -> Tensor:
        shape = (self.images, self.preprocessing.crop, self.preprocessing.crop, 3)
        return torch.zeros(shape, dtype=torch.uint8, pin_memory=self._device.type == "cuda")

    def fill(self, pixels: np.ndarray, place: int, picture: Picture, regions: Regions) -> None:
        pixels[place] = frame(picture, self.preprocessing)

    def compute(self, pixels: Tensor, regions: Regions) -> np.ndarray:
        """Raises MrnnError if the GPU's memory is full."""
        boxes = torch.from_numpy(self._fractions(regions)).to(self._device)
        try:
            with torch.inference_mode(), torch.autocast(self._device.type, torch.bfloat16, enabled=self._mixed):
                features = self._features(pixels, boxes)
                if self._flip:
                    mirrored = torch.stack([1 - boxes[..., 2], boxes[..., 1], 1 - boxes[..., 0], boxes[..., 3]], -1)
                    features = (features + self._features(pixels.flip(2), mirrored)) / 2
        except torch.OutOfMemoryError as error:
            raise MrnnError(
                f"{self._device} has not memory enough for {self.images} pictures of {self.preprocessing.crop} pixels; "
                "use a smaller --batch-size (a new file) or --device cpu"
            ) from error
        rows = features.cpu().numpy().reshape(self.images * self.rows, -1)
        rows[regions.valid == 0] = 0
        return rows

    def _features(self, pixels: Tensor, boxes: Tensor) -> Tensor:
        """(P, side, side, 3) uint8 and (P, R, 4) fractions to (P, R, D) float32."""
        maps = self._trunk(normalise(pixels, self.preprocessing, self._device))
        whole = self._rest(maps)[:, None]
        if self.rows == 1:
            return whole.float()
        parts = self._rest(pool(maps, boxes[:, 1:], self._map)).unflatten(0, (-1, self.rows - 1))
        return torch.cat([whole, parts], 1).float()

    def _fractions(self, regions: Regions) -> np.ndarray:
        """(P, R, 4) left, top, right, bottom of all rows as fractions of the picture; all of it for rows not valid."""
        corners = regions.rectangles.astype(np.float64).reshape(self.images, self.rows, 4)
        sizes = np.where(corners[:, :1, 2:] > 0, corners[:, :1, 2:], 1)
        corners[..., 2:] += corners[..., :2]
        fractions = corners / np.tile(sizes, 2)
        fractions[regions.valid.reshape(self.images, self.rows) == 0] = (0, 0, 1, 1)
        return fractions.astype(np.float32)


def default_side(backbone: Backbone) -> int:
    """The size a picture is warped to if nobody says another."""
    own = backbone.preprocessing.crop
    if backbone.name in CLASSIFIER_CUTS:
        return round(FACTOR_CONNECTED * own)
    return max(own, round(FACTOR_POOLED * own / MULTIPLE) * MULTIPLE)


def pool(maps: Tensor, boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """RoIAlign: (P, C, H, W) and (P, n, 4) fractions of the picture to (P * n, C, *size)."""
    height, width = maps.shape[2:]
    cells = boxes * boxes.new_tensor([width, height, width, height])
    places = torch.arange(len(maps), device=maps.device).repeat_interleave(boxes.shape[1]).to(cells)
    pooled: Tensor = roi_align(
        maps.float().contiguous(), torch.cat([places[:, None], cells.flatten(0, 1)], 1), size, aligned=True
    )
    return pooled


def split_network(backbone: Backbone) -> tuple[Layer, Layer, tuple[int, int]]:
    """Cut a backbone in front of its last pooling.

    Returns the convolutions, (B, 3, h, w) to (B, C, H, W); the rest, (n, C, *size) to (n, D); and that size, the map's
    at the network's own input. Raises SettingError if the two do not make up the whole.
    """
    if isinstance(backbone.network, PooledLayers):
        raise SettingError(
            f"region_features roi pools each region from the last map only; for layer {backbone.layer} use crop"
        )
    trunk, rest = _parts(backbone)
    side = backbone.preprocessing.crop
    probe = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0))
    refused = f"{backbone.name} cannot be cut in front of its pooling; use --region-features crop"
    try:
        with torch.inference_mode():
            maps = trunk(probe)
            whole, parts = backbone.network(probe), rest(maps) if maps.ndim == 4 else None
    except (RuntimeError, TypeError, AttributeError, IndexError) as error:
        raise SettingError(f"{refused} ({error})") from error
    if parts is None or parts.shape != whole.shape or not torch.allclose(parts, whole, rtol=1e-4, atol=1e-5):
        raise SettingError(refused)
    return trunk, rest, (maps.shape[2], maps.shape[3])


def _parts(backbone: Backbone) -> tuple[Layer, Layer]:
    """What of a network comes in front of its last pooling, and the rest from that pooling on."""
    network: Any = backbone.network
    if backbone.name.startswith(TIMM):
        return network.forward_features, network.forward_head
    if backbone.name not in CLASSIFIER_CUTS:
        return _before_pooling(network), _mean

    def rest(maps: Tensor) -> Tensor:
        rows: Tensor = network.classifier(network.avgpool(network.features[-1](maps)).flatten(1))
        return rows

    return network.features[:-1], rest  # the last layer of AlexNet's and VGG's convolutions pools


def _mean(maps: Tensor) -> Tensor:
    return maps.mean((2, 3))


def _before_pooling(network: nn.Module) -> Layer:
    """What goes into the last pooling layer of a network that pools its last map as a whole."""
    layers = [module for module in network.modules() if isinstance(module, nn.AdaptiveAvgPool2d)]

    def trunk(batch: Tensor) -> Tensor:
        seen: list[Tensor] = []
        handle = layers[-1].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
        try:
            network(batch)
        finally:
            handle.remove()
        return seen[-1]

    return trunk

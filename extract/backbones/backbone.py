"""What every family of backbones builds."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import nn

from mrnn.data.errors import SettingError
from mrnn.extract.backbones.layers import SEPARATOR, PooledLayers
from mrnn.extract.config import NO_VIEWS
from mrnn.extract.images import Preprocessing


@dataclass
class Backbone:
    """A network cut off after the layer whose values are the features.

    name, layer : as given to `--backbone` and `--layer`.
    relu : whether the rectifier of the layer is applied ('post'), left out ('pre'), or up to the library ('none').
    preprocessing : the library's own for these weights, or as overridden.
    weights : as given ('pretrained', a file, 'random:SEED'). weights_sha256 : of the file, or of the random values.
    network : (B, 3, crop, crop) float32 to (B, D) float32; in eval mode, without the layers after the cut.
    views : 'none', or 'flip' where the features are the mean over the image and its mirror image.
    feature_size : D.
    """

    name: str
    layer: str
    relu: str
    preprocessing: Preprocessing
    weights: str
    weights_sha256: str
    network: nn.Module
    views: str = NO_VIEWS
    feature_size: int = field(init=False)

    def __post_init__(self) -> None:
        """Raise SettingError if the network does not take images of this size or does not return one row per image."""
        side = self.preprocessing.crop
        self.network.eval().requires_grad_(False)
        try:
            with torch.inference_mode():
                row = self.network(torch.zeros(1, 3, side, side))
        except SettingError:
            raise
        except (RuntimeError, AssertionError, ValueError) as error:
            raise SettingError(f"{self.name} does not take images of {side} x {side} pixels: {error}") from error
        if row.ndim != 2 or row.shape[0] != 1:
            raise SettingError(f"{self.name} returns an array of shape {tuple(row.shape)}, not one row of features")
        self.feature_size = int(row.shape[1])

    def provenance(self) -> Mapping[str, str]:
        """The settings that decide what the features mean, by their names in the provenance of a cache."""
        several = {}
        if isinstance(self.network, PooledLayers) and len(self.network.sizes) > 1:
            several["layer_sizes"] = SEPARATOR.join(map(str, self.network.sizes))
        return {
            "backbone": self.name,
            "layer": self.layer,
            **several,
            "relu": self.relu,
            "weights": self.weights,
            "weights_sha256": self.weights_sha256,
            "preprocessing": self.preprocessing.to_json(),
            **({} if self.views == NO_VIEWS else {"views": self.views}),
        }

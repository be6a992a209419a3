"""Feature vectors by image number, held in memory or memory-mapped."""

from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from mrnn.data.cache import FeatureCache
from mrnn.data.settings import layer_sizes


class RegionRows(Protocol):
    """Rows of images by number, of a cache (`Features`) or of pictures that are in none."""

    def __getitem__(self, images: np.ndarray) -> Tensor:
        """(n, D) float32 of the whole images of n image numbers."""
        ...

    def regions(self, images: np.ndarray) -> tuple[Tensor, Tensor]:
        """(n, R, D) float32 for n image numbers, and (n, R) bool: which rows hold a region; zeros where they do not."""
        ...


class Features:
    """Feature vectors by image number: held in memory if they fit the budget, else memory-mapped; equal either way.

    They are held in the memory of the device, so that only image numbers are sent to a GPU. If an image has several
    rows (regions), indexing gives the first, which is the whole image, and `regions` all of them.
    """

    def __init__(
        self,
        cache: FeatureCache,
        *,
        budget: float = 4.0,
        device: torch.device | str = "cpu",
        rows: int = 1,
        by_row: bool = False,
    ) -> None:
        """
        cache : the opened feature cache.
        budget : largest size in GB (1e9 bytes) that the features may take in memory.
        device : device that holds them if they fit.
        rows : how many rows of each image are needed, the first ones; at most the cache's rows_per_image.
        by_row : whether every row of the cache counts as an image of one row, so that numbers are those of rows.
        """
        shape = (len(cache.features), 1) if by_row else (len(cache.images), cache.rows_per_image)
        self._mapped = cache.features.reshape(*shape, -1)[:, :rows]
        self.size, self.rows = cache.feature_size, rows
        self._layers = layer_sizes(cache.provenance) or (self.size,)
        self.in_memory = self._mapped.nbytes <= budget * 1e9
        self._held = torch.from_numpy(np.array(self._mapped)).to(device) if self.in_memory else None
        self._valid = valid_rows(cache).reshape(shape)[:, :rows]

    def __getitem__(self, images: np.ndarray) -> Tensor:
        """(n, D) float32 of the whole images of n image numbers, on the device if the features are held there."""
        if self._held is not None:
            return self._held[torch.from_numpy(images).to(self._held.device), 0].float()
        return torch.from_numpy(self._mapped[images, 0].astype(np.float32))

    def regions(self, images: np.ndarray) -> tuple[Tensor, Tensor]:
        """See `RegionRows`; both are on the device if the features are held there."""
        valid = torch.from_numpy(self._valid[images])
        if self._held is not None:
            found = self._held[torch.from_numpy(images).to(self._held.device)].float()
            valid = valid.to(found.device)
        else:
            found = torch.from_numpy(self._mapped[images].astype(np.float32))
        if not self._valid.all():
            found = torch.where(valid[:, :, None], found, 0)
        return found, valid

    def moments(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean over the regions of some images, (D,) float64, and the root mean square of their features minus it.

        The latter is one number for each layer of the CNN that the features come from; mostly that is one layer.
        """
        # In parts of 256 images, so that memory-mapped features are not read into memory at once.
        total, squares, count = np.zeros(self.size), np.zeros(len(self._layers)), 0
        for start in range(0, len(images), 256):
            regions, valid = self.regions(images[start : start + 256])
            rows = regions.flatten(0, 1)
            total += rows.sum(dim=0).cpu().numpy()
            layers = rows.square_().split(self._layers, dim=1)
            squares += [layer.sum(dtype=torch.float64).item() for layer in layers]
            count += int(valid.sum())
        mean = total / count
        means = np.split(mean, np.cumsum(self._layers)[:-1])
        variances = squares / count - [np.square(layer).sum() for layer in means]
        return mean, np.sqrt(np.maximum(variances, 0) / self._layers)


def valid_rows(cache: FeatureCache) -> np.ndarray:
    """Which rows of each image hold features: (N, R) bool."""
    return np.array(cache.regions.valid, dtype=bool).reshape(len(cache.images), cache.rows_per_image)

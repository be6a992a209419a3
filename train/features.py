"""Feature vectors by image number, in memory or memory-mapped."""

import numpy as np
import torch
from torch import Tensor

from mrnn.data.cache import FeatureCache


class Features:
    """Feature vectors by image number: in memory where they fit the budget, else memory-mapped; equal either way.

    In memory means in that of the device, so that on a GPU nothing but numbers of images travels. Where an image has
    several rows (regions), its first is taken: the whole image.
    """

    def __init__(self, cache: FeatureCache, *, budget: float = 4.0, device: torch.device | str = "cpu") -> None:
        """budget : GB (1e9 bytes) that the features may take in memory."""
        self._mapped = cache.features[:: cache.rows_per_image]
        self.size = cache.feature_size
        self.in_memory = self._mapped.nbytes <= budget * 1e9
        self._held = torch.from_numpy(np.array(self._mapped)).to(device) if self.in_memory else None

    def __getitem__(self, images: np.ndarray) -> Tensor:
        """(n, D) float32 for n image numbers, on the device if held there."""
        if self._held is not None:
            return self._held[torch.from_numpy(images).to(self._held.device)].float()
        return torch.from_numpy(self._mapped[images].astype(np.float32))

    def moments(self, images: np.ndarray) -> tuple[np.ndarray, float]:
        """Mean over some images, (D,) float64, and the root of the mean square of what is left without it."""
        total, squares = np.zeros(self.size), 0.0
        for start in range(0, len(images), 256):
            rows = self[images[start : start + 256]]
            total += rows.sum(dim=0).cpu().numpy()
            squares += rows.square_().sum(dtype=torch.float64).item()
        mean = total / len(images)
        variance = squares / len(images) - np.square(mean).sum()
        return mean, float(max(variance, 0) / self.size) ** 0.5

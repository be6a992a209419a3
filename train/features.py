"""Feature vectors by image number, held in memory or memory-mapped."""

import numpy as np
import torch
from torch import Tensor

from mrnn.data.cache import FeatureCache


class Features:
    """Feature vectors by image number: held in memory if they fit the budget, else memory-mapped; equal either way.

    They are held in the memory of the device, so that only image numbers are sent to a GPU. If an image has several
    rows (regions), the first is used, which is the whole image.
    """

    def __init__(self, cache: FeatureCache, *, budget: float = 4.0, device: torch.device | str = "cpu") -> None:
        """
        cache : the opened feature cache.
        budget : largest size in GB (1e9 bytes) that the features may take in memory.
        device : device that holds them if they fit.
        """
        self._mapped = cache.features[:: cache.rows_per_image]
        self.size = cache.feature_size
        self.in_memory = self._mapped.nbytes <= budget * 1e9
        self._held = torch.from_numpy(np.array(self._mapped)).to(device) if self.in_memory else None

    def __getitem__(self, images: np.ndarray) -> Tensor:
        """(n, D) float32 for n image numbers, on the device if the features are held there."""
        if self._held is not None:
            return self._held[torch.from_numpy(images).to(self._held.device)].float()
        return torch.from_numpy(self._mapped[images].astype(np.float32))

    def moments(self, images: np.ndarray) -> tuple[np.ndarray, float]:
        """Mean over some images, (D,) float64, and the root mean square of their features minus that mean."""
        # In parts of 256 rows, so that memory-mapped features are not read into memory at once.
        total, squares = np.zeros(self.size), 0.0
        for start in range(0, len(images), 256):
            rows = self[images[start : start + 256]]
            total += rows.sum(dim=0).cpu().numpy()
            squares += rows.square_().sum(dtype=torch.float64).item()
        mean = total / len(images)
        variance = squares / len(images) - np.square(mean).sum()
        return mean, float(max(variance, 0) / self.size) ** 0.5

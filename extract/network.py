"""A forward pass over a full batch of bytes, on the CPU or the GPU; equal batches give equal bits."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from mrnn.data.errors import MrnnError, SettingError
from mrnn.data.memory import kept_activations
from mrnn.extract.backbones import Backbone
from mrnn.extract.config import FLIP
from mrnn.extract.images import normalise


def choose_device(name: str) -> torch.device:
    """The device for 'auto', 'cpu', 'cuda' or 'cuda:N'. Raises SettingError if it does not exist."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise SettingError(f"there is no device {name!r}; give auto, cpu, cuda or cuda:N") from None
    if device.type not in ("cpu", "cuda"):
        raise SettingError(f"features are computed on cpu or cuda, not on {name!r}")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise SettingError(f"{name} does not exist: torch sees {torch.cuda.device_count()} CUDA devices")
    return device


def check_precision(precision: str, device: torch.device) -> None:
    """Raise SettingError unless the device computes in this precision."""
    if precision != "float32" and device.type != "cuda":
        raise SettingError(f"precision {precision} is for CUDA devices; on the {device.type} use float32")


class BatchNetwork:
    """A backbone on its device, called with batches of exactly `batch_size` rows.

    The fixed size makes the features of a row depend on its image and its place in the batch alone: not on the rest of
    the batch, and not on how often the work was interrupted.
    """

    def __init__(self, backbone: Backbone, *, batch_size: int, device: torch.device, precision: str) -> None:
        check_precision(precision, device)
        self.batch_size, self.device = batch_size, device
        self._side, self._preprocessing = backbone.preprocessing.crop, backbone.preprocessing
        self._mixed, self._flip = precision == "bfloat16", backbone.views == FLIP
        self._network = backbone.network.to(device).to(memory_format=torch.channels_last)

    def empty_batch(self) -> Tensor:
        """(B, crop, crop, 3) uint8 zeros; in pinned memory if they are to be copied to a GPU."""
        shape = (self.batch_size, self._side, self._side, 3)
        return torch.zeros(shape, dtype=torch.uint8, pin_memory=self.device.type == "cuda")

    def __call__(self, batch: Tensor) -> np.ndarray:
        """Features (B, D) float32 of (B, crop, crop, 3) uint8. Raises MrnnError if the memory of the GPU is full."""
        assert len(batch) == self.batch_size
        try:
            with torch.inference_mode(), torch.autocast(self.device.type, torch.bfloat16, enabled=self._mixed):
                features = self._features(batch)
                if self._flip:
                    features = (features + self._features(batch.flip(2))) / 2
                return features.cpu().numpy()
        except torch.OutOfMemoryError as error:
            raise MrnnError(
                f"{self.device} has too little memory for batches of {self.batch_size}; "
                "use a smaller --batch-size (in a new file) or --device cpu"
            ) from error

    def _features(self, batch: Tensor) -> Tensor:
        features: Tensor = self._network(normalise(batch, self._preprocessing, self.device))
        return features.float()


@contextmanager
def repeatable(*, threads: int | None = None) -> Iterator[None]:
    """Fix what the last bits depend on: the number of threads (None: unchanged), cuDNN's algorithms, no TF32."""
    before = torch.get_num_threads()
    exact = torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False)
    with exact, kept_activations():
        try:
            torch.set_num_threads(threads or before)
            yield
        finally:
            torch.set_num_threads(before)

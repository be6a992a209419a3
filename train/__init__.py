"""Stage 2: train a model on cached features and captions. It reads no image file and does not need torchvision."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mrnn.train.dataset import CaptionDataset

__all__ = ["CaptionDataset"]


def __getattr__(name: str) -> Any:
    """Import `CaptionDataset` at first use, since torch takes its time and the help of a command needs none."""
    if name == "CaptionDataset":
        from mrnn.train.dataset import CaptionDataset

        return CaptionDataset
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

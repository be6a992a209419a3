"""What both stages share: corpora, words, and the feature cache. Imports no torch and no other room of mrnn."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mrnn.data.cache import open_cache

__all__ = ["open_cache"]


def __getattr__(name: str) -> Any:
    """Import `open_cache` at first use, since h5py takes its time and the help of a command needs none."""
    if name == "open_cache":
        from mrnn.data.cache import open_cache

        return open_cache
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

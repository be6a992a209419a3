"""Read a checkpoint and a cache: perplexity, captions, retrieval, metrics, report."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mrnn.evaluate.combination import open_combination
    from mrnn.evaluate.run import open_run

__all__ = ["open_combination", "open_run"]


def __getattr__(name: str) -> Any:
    """Import a function at first use, since torch takes its time and the help of a command needs none."""
    if name == "open_run":
        from mrnn.evaluate.run import open_run

        return open_run
    if name == "open_combination":
        from mrnn.evaluate.combination import open_combination

        return open_combination
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

"""How an extraction is run; the command takes its defaults from here. Free of torch, so that `--help` is quick."""

import os
from dataclasses import dataclass, field

DTYPE_NAMES = ("float16", "float32")
PRECISIONS = ("float32", "bfloat16")
ON_ERROR = ("skip", "fail")


def available_cpus() -> int:
    """CPUs that this process may use; fewer than the machine has in most batch jobs. macOS knows only the machine's."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True)
class ExtractionConfig:
    """
    batch_size : rows of every forward pass; recorded, as the last bits of features depend on it. More gains nothing.
    dtype : how features are stored.
    precision : arithmetic of the network; bfloat16 (CUDA only) is faster and rougher.
    device : 'auto' (the GPU where there is one), 'cpu', 'cuda', 'cuda:1'.
    workers : threads that decode pictures. threads : of the network on the CPU; recorded.
    on_error : 'skip' lists pictures that cannot be decoded and goes on, 'fail' stops at the first.
    """

    batch_size: int = 64
    dtype: str = "float16"
    precision: str = "float32"
    device: str = "auto"
    workers: int = field(default_factory=available_cpus)
    threads: int = field(default_factory=available_cpus)
    on_error: str = "skip"

    def __post_init__(self) -> None:
        for name in ("batch_size", "workers", "threads"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        for name, known in (("dtype", DTYPE_NAMES), ("precision", PRECISIONS), ("on_error", ON_ERROR)):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}, not {getattr(self, name)!r}")


def parse_shard(text: str) -> tuple[int, int]:
    """'I/N' as (I, N). Raises ValueError unless 0 <= I < N."""
    index, slash, count = text.partition("/")
    digits = all(part.isascii() and part.isdigit() for part in (index, count))
    if not (slash and digits) or int(index) >= int(count):
        raise ValueError(f"a shard is written I/N with I from 0 to N-1, not {text!r}")
    return int(index), int(count)


def shard_range(total: int, *, batch_size: int, index: int, count: int) -> tuple[int, int]:
    """Begin and end of a contiguous part of `total` images, cut where batches are cut; the parts tile the whole.

    Raises ValueError if there are more parts than batches.
    """
    batches = -(-total // batch_size)
    if count > batches:
        raise ValueError(
            f"{total} images in batches of {batch_size} make at most {batches} shards, not {count}; "
            "use fewer shards or a smaller --batch-size"
        )
    return batches * index // count * batch_size, min(batches * (index + 1) // count * batch_size, total)

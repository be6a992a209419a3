"""Memory of freed arrays is used again where it should be, and one tuning does not undo the other."""

import ctypes
import subprocess
import sys

import pytest

# Arguments: the size of the arrays and what to set up. Prints the page faults of making and freeing them five times.
FAULTS = """
import contextlib, resource, sys
import numpy as np
from mrnn.data.memory import kept_activations, suit_process

size, *setup = sys.argv[1:]
with contextlib.ExitStack() as stack:
    if "suited" in setup:
        suit_process()
    if "extracted" in setup:
        with kept_activations():
            pass
    if "extracting" in setup:
        stack.enter_context(kept_activations())
    for step in range(10):
        if step == 5:
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        arrays = [np.ones(int(size), dtype=np.uint8) for _ in range(4)]
        del arrays
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
MEDIUM, LARGER = 20_000_000, 50_000_000  # below and above mrnn.data.memory.LARGE

pytestmark = pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="the C library has no mallopt")


def faults(size: int, *setup: str) -> int:
    child = [sys.executable, "-c", FAULTS, str(size), *setup]
    return int(subprocess.run(child, capture_output=True, text=True, check=True).stdout)


@pytest.mark.parametrize(
    ("size", "setup"),
    [
        (MEDIUM, ["suited"]),
        (MEDIUM, ["suited", "extracted"]),  # an extraction in the process leaves the command's settings as they were
        (LARGER, ["extracting"]),
        (LARGER, ["suited", "extracting"]),
    ],
)
def test_the_memory_of_large_arrays_is_used_again(size: int, setup: list[str]) -> None:
    assert faults(size, *setup) < 0.1 * faults(size)


def test_after_an_extraction_the_library_keeps_nothing() -> None:
    assert faults(LARGER, "extracted") > 0.9 * faults(LARGER)

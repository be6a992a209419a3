import ctypes
import subprocess
import sys

import pytest

FAULTS = """
import resource, sys
import numpy as np
from mrnn.data.command import suit_process

if sys.argv[1] == "suited":
    suit_process()
for step in range(10):
    if step == 5:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    arrays = [np.ones(20_000_000, dtype=np.uint8) for _ in range(4)]
    del arrays
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="the C library has no mallopt")
def test_the_memory_of_large_arrays_is_used_again() -> None:
    faults = [
        int(subprocess.run([sys.executable, "-c", FAULTS, how], capture_output=True, text=True, check=True).stdout)
        for how in ("as it is", "suited")
    ]
    assert faults[1] < 0.1 * faults[0]

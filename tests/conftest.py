"""Fixtures shared by all tests: where the real data and weights lie."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def hangup_heeded() -> Iterator[None]:
    """SIGHUP as in a terminal, even where the tests run under nohup, which has it ignored."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of the real data sets; the test is skipped where MRNN_DATA does not name it."""
    folder = os.environ.get("MRNN_DATA")
    if not folder:
        pytest.skip("MRNN_DATA does not name the folder of the real data sets")
    return Path(folder).resolve()


@pytest.fixture(scope="session")
def real_weights(real_data: Path) -> Path:
    """The folder of real network weights, beside the data."""
    folder = real_data.parent / "weights"
    if not folder.is_dir():
        pytest.skip(f"no real weights at {folder}")
    return folder

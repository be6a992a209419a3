"""Fixtures shared by all tests: where the real data and weights lie."""

import os
from pathlib import Path

import pytest


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

"""Shared by all tests: where the real data and weights lie, and the one limit that ends a test that hangs."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import pytest

HUNG = 3600  # seconds


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Fail a test, its fixtures included, that has not ended after HUNG seconds.

    No other test limit exists: tests wait for a state, however long a busy machine takes to reach it, and so their
    verdicts do not depend on speed. The alarm interrupts whatever the test waits for: a process, a thread, a file.
    """

    def hung(number: int, frame: FrameType | None) -> None:
        pytest.fail(f"hung: {item.nodeid} has not ended after {HUNG} seconds")

    before = signal.signal(signal.SIGALRM, hung)
    signal.alarm(HUNG)
    try:
        return (yield)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


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

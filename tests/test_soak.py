"""A short run of the soak: processes killed at random points, and everything equals the undisturbed run."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize(("kind", "kills"), [("extraction", 10), ("regions", 5), ("training", 5), ("matching", 5)])
def test_a_few_kills(kind: str, kills: int) -> None:
    command = [sys.executable, "-m", "tests.soak", "--of", kind, "--kills", str(kills)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "everything equals an undisturbed run" in done.stdout

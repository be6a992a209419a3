"""A short run of the soak: processes killed at random moments, and every cache equals the undisturbed one."""

import subprocess
import sys
from pathlib import Path


def test_ten_kills() -> None:
    command = [sys.executable, str(Path(__file__).with_name("soak.py")), "--kills", "10"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "every cache equals the undisturbed one" in done.stdout

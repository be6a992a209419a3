"""The training log: read strictly or leniently, and turned into curves."""

import subprocess
import sys
from pathlib import Path

import pytest

from mrnn.train.run_files import METRICS, DamagedLog, read_log, series


def test_a_line_without_its_end_is_left_out(tmp_path: Path) -> None:
    (tmp_path / METRICS).write_text('{"kind": "step", "step": 1}\n{"kind": "step", "step": 2}')
    assert read_log(tmp_path) == read_log(tmp_path, lenient=True) == [{"kind": "step", "step": 1}]


@pytest.mark.parametrize("line", ["[1]", "{", "", "[" * 100_000, "\ufffd"])
def test_damaged_lines_are_named_or_left_out(tmp_path: Path, line: str) -> None:
    (tmp_path / METRICS).write_text(f'{{"step": 1}}\n{line}\n{{"step": 3}}\n')
    with pytest.raises(DamagedLog, match=r"metrics.jsonl, line 2, is damaged"):
        read_log(tmp_path)
    assert [record["step"] for record in read_log(tmp_path, lenient=True)] == [1, 3]


def test_a_missing_log(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_log(tmp_path)
    assert read_log(tmp_path, lenient=True) == []


def test_a_curve_has_the_last_finite_value_of_each_place_in_order() -> None:
    log = [
        {"kind": "step", "step": 2, "bits": 5.0},
        {"kind": "step", "step": 1, "bits": 6.0},
        {"kind": "step", "step": 2, "bits": 4.0},
        {"kind": "step", "step": 3, "bits": float("nan")},
        {"kind": "step", "step": 4},
        {"kind": "epoch", "step": 2, "bits": 9.0},
    ]
    assert series(log, "step", x="step", y="bits") == [(1.0, 6.0), (2.0, 4.0)]


def test_it_loads_no_torch() -> None:
    code = "import sys, mrnn.train.run_files; assert 'torch' not in sys.modules and 'h5py' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)

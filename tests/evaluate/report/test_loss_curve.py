"""The loss curve stays inside its frame and shows what the log holds."""

import re
from pathlib import Path

import pytest

from mrnn.evaluate.report.loss_curve import HEIGHT, WIDTH, loss_curve, nice_ticks
from mrnn.evaluate.report.sections import training
from mrnn.train.measures import Cost
from mrnn.train.run_files import METRICS, read_log


def test_loss_curve_draws_every_value_inside(tmp_path: Path) -> None:
    log = tmp_path / METRICS
    lines = [f'{{"kind": "step", "step": {step}, "bits": {9 - step / 400}}}' for step in range(2000)]
    lines += [f'{{"kind": "epoch", "step": {step}, "val_bits": {8 - step / 500}}}' for step in (500, 1000, 2000)]
    lines += ['{"kind": "step", "step": 2001, "bits": NaN}', "[1]", '{"kind": "step", "st']
    log.write_text("\n".join(lines))
    curve = loss_curve(read_log(tmp_path, lenient=True))
    train, val = re.findall(r'points="([^"]*)"', curve)
    assert len(val.split()) == 3
    assert 300 < len(train.split()) <= 600
    points = [tuple(map(float, point.split(","))) for point in (train + " " + val).split()]
    assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for x, y in points)
    heights = [float(point.split(",")[1]) for point in train.split()]
    assert heights == sorted(heights), "falling loss goes down the picture"
    assert loss_curve(read_log(tmp_path / "none", lenient=True)) == ""


def test_a_short_run_has_the_training_bits_of_its_epochs() -> None:
    log = [{"kind": "step", "step": 1, "bits": 9.0}]
    log += [{"kind": "epoch", "step": step, "train_bits": 6.0, "val_bits": 5.0} for step in (20, 40)]
    assert [len(points.split()) for points in re.findall(r'points="([^"]*)"', loss_curve(log))] == [2, 2]


def test_a_run_of_another_task_has_its_own_cost() -> None:
    hinge = Cost("hinge", "hinge per pair", "pairs", "pairs")
    log = [{"kind": "epoch", "step": step, "train_hinge": 6.0, "val_recall_sum": 90.0} for step in (20, 40)]
    assert loss_curve(log) == ""
    curve = loss_curve(log, hinge)
    assert [len(points.split()) for points in re.findall(r'points="([^"]*)"', curve)] == [2, 0]
    assert "Hinge per pair" in training(curve, hinge)
    assert "validation" not in training(curve, hinge)


@pytest.mark.parametrize(("low", "high"), [(0, 1), (3.21, 3.22), (0, 45000), (5, 5), (1e-3, 900)])
def test_ticks_enclose_and_are_few(low: float, high: float) -> None:
    ticks = nice_ticks(low, high)
    assert ticks[0] <= low
    assert ticks[-1] >= high
    assert 2 <= len(ticks) <= 9

"""compare-runs: what differs, what came of it, whatever state the runs are in."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from PIL import Image

from mrnn.data.cache import FeatureCache
from mrnn.train import run_folder
from mrnn.train.cli_compare import main
from mrnn.train.comparison import names_of, read_run
from mrnn.train.loop import train
from mrnn.train.run_files import CONFIG, METRICS
from mrnn.train.settings import RunOptions, TrainSettings

FEATURES = {"dataset": "flickr8k", "backbone": "alexnet", "preprocessing": '{"crop": 224, "resize": 256}'}


def write_run(folder: Path, *perplexities: float, seconds: float = 10.0, **settings: Any) -> Path:
    """A run folder as train-mrnn leaves it, an epoch for each dev perplexity, two steps an epoch."""
    folder.mkdir()
    own = {"model": "mrnn", "epochs": 3, "lr": 0.001, "patience": 2, **settings}
    (folder / CONFIG).write_text(json.dumps({"settings": own, "features": FEATURES}))
    lines: list[dict[str, Any]] = []
    for number, perplexity in enumerate(perplexities, start=1):
        lines.append({"kind": "step", "step": 2 * number, "tokens_per_s": 1000.0 * number})
        results = {"train_bits": 9.0 - number, "val_perplexity": perplexity, "seconds": seconds}
        lines.append({"kind": "epoch", "epoch": number, "step": 2 * number, **results})
    (folder / METRICS).write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, list(map(str, arguments)), catch_exceptions=False)


def rows(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines()]


def test_a_table_by_dev_perplexity_of_what_differs(tmp_path: Path) -> None:
    worse = write_run(tmp_path / "a", 30.0, 20.0, 21.0, lr=0.01)
    better = write_run(tmp_path / "b", 25.0, 19.0, 18.5)
    result = run(worse, better)
    assert result.exit_code == 0
    header, first, second = result.output.splitlines()
    assert header.split() == ["run", "dev", "perplexity", "epoch", "steps", "seconds", "words/s", "lr", "state"]
    assert first.split() == ["b", "18.500", "3", "6", "30", "2000", "0.001", "finished"]
    assert second.split() == ["a", "20.000", "2", "6", "30", "2000", "0.01", "finished"]


def test_runs_in_any_state_are_told_not_stumbled_over(tmp_path: Path) -> None:
    fine = write_run(tmp_path / "fine", 20.0, 19.0)
    early = write_run(tmp_path / "early", 20.0, 21.0, 22.0, epochs=9)
    new = write_run(tmp_path / "new")
    diverged = write_run(tmp_path / "diverged", float("nan"), float("inf"))
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn" / CONFIG).write_text('{"sett')
    damaged = write_run(tmp_path / "damaged", 20.0)
    (damaged / METRICS).write_text("[]\n")
    being_written = write_run(tmp_path / "written", 18.0)
    with (being_written / METRICS).open("a") as stream:
        stream.write('{"kind": "st')
    broken = [damaged, tmp_path / "torn", tmp_path / "none", fine / CONFIG]
    result = run(*broken, new, diverged, early, fine, being_written)
    assert result.exit_code == 0
    table = {line.split()[0]: line for line in result.output.splitlines()}
    assert list(table)[1:4] == ["written", "fine", "early"]
    for name, state in {
        "written": "epoch 1 of 3",
        "fine": "epoch 2 of 3",
        "early": "finished early, at epoch 3",
        "new": "step 0, no epoch yet",
        "diverged": "finished early, at epoch 2",
        "damaged": "metrics.jsonl, line 1, is damaged",
        "torn": "config.json is damaged",
        "none": "no config.json",
        "fine/config.json": "Not a directory",
    }.items():
        assert table[name].endswith(state)
    nothing = run(*broken[1:])
    assert nothing.exit_code == 1
    assert "no config.json" in nothing.stderr
    assert nothing.stderr.count("\n") == 1


def test_many_differing_settings_stand_below(tmp_path: Path) -> None:
    one = write_run(tmp_path / "one", 20.0)
    other = write_run(tmp_path / "other", 21.0, **{f"a_setting_of_name_{number}": number for number in range(12)})
    lines = run(one, other).output.splitlines()
    assert lines[3:5] == ["", "setting               one  other"]
    assert lines[5].split() == ["a_setting_of_name_0", "-", "0"]
    assert len(lines) == 5 + 12


def test_json_holds_settings_and_curves(tmp_path: Path) -> None:
    one, other = write_run(tmp_path / "a", 20.0, 19.0), write_run(tmp_path / "b", model="rnn-base")
    found = json.loads(run(other, one, "--json").output)
    assert found["differing"] == ["model"]
    first, second = found["runs"]
    assert (first["run"], first["best_val_perplexity"], first["best_epoch"], first["steps"]) == (str(one), 19.0, 2, 4)
    assert [point["val_perplexity"] for point in first["curve"]] == [20.0, 19.0]
    assert first["settings"]["features resize"] == 256
    assert second["best_val_perplexity"] is None


def test_a_real_run_can_be_read(cache: FeatureCache, tiny: TrainSettings, tmp_path: Path) -> None:
    options = RunOptions(device="cpu", tensorboard=False, log_every=4)
    train(cache, tmp_path / "run", tiny, options=options, report=lambda line: None)
    found = read_run(tmp_path / "run")
    assert found.state == "finished"
    assert found.settings["embedding1"] == tiny.network["embedding1"]
    assert found.settings["features backbone"] == "noise"
    assert [epoch.number for epoch in found.epochs] == [1, 2, 3]
    assert found.speed is not None
    assert (CONFIG, METRICS) == (run_folder.CONFIG, run_folder.METRICS)


def test_runs_judged_by_another_number_have_a_table_of_their_own(tmp_path: Path) -> None:
    one = write_run(tmp_path / "captions", 30.0, 20.0)
    other = tmp_path / "matching"
    other.mkdir()
    task = {
        "name": "matching",
        "criterion": {"key": "val_recalls", "label": "sum of dev recalls", "lower_is_better": False},
        "cost": {"key": "hinge", "label": "hinge loss per pair", "unit": "pairs", "units": "pairs"},
    }
    settings = {"model": "alignment", "epochs": 3}
    (other / CONFIG).write_text(json.dumps({"settings": settings, "features": FEATURES, "task": task}))
    lines: list[dict[str, Any]] = [{"kind": "step", "step": 1, "pairs_per_s": 50.0}]
    for number, recalls in enumerate((90.0, 140.0, 120.0), start=1):
        results = {"train_hinge": 3.0, "val_recalls": recalls, "seconds": 1.0}
        lines.append({"kind": "epoch", "epoch": number, "step": number, **results})
    (other / METRICS).write_text("".join(json.dumps(line) + "\n" for line in lines))
    first, second = run(one, other).output.split("\n\n")
    assert first.splitlines()[1].split()[:3] == ["captions", "20.000", "2"]
    header, row = second.splitlines()
    assert header.split()[:6] == ["run", "sum", "of", "dev", "recalls", "epoch"]
    assert "pairs/s" in header
    assert row.split()[:3] == ["matching", "140.000", "2"]
    assert json.loads(run(other, "--json").output)["runs"][0]["best_val_recalls"] == 140.0
    refused = run(one, other, "--figure", str(tmp_path / "curves.png"))
    assert refused.exit_code == 1
    assert "different numbers" in refused.output


def test_names_are_as_short_as_they_tell_runs_apart(tmp_path: Path) -> None:
    def names(*paths: str) -> list[str]:
        return names_of([read_run(Path(path)) for path in paths])

    assert names("runs/a") == ["a"]
    assert names("runs/a", "runs/b/c") == ["a", "b/c"]
    assert names("x/run", "y/run") == ["x/run", "y/run"]


def test_learning_curves_are_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="the extra analysis is not installed")
    one, other = write_run(tmp_path / "a", 30.0, 20.0), write_run(tmp_path / "b", 25.0, 19.0, lr=0.5)
    assert run(one, other, write_run(tmp_path / "new", lr=7.0), "--figure", tmp_path / "c.png").exit_code == 0
    with Image.open(tmp_path / "c.png") as picture:
        assert picture.format == "PNG"
        assert len(picture.convert("RGB").getcolors(1 << 20) or []) > 20
    assert run(one, other, "--figure", tmp_path / "c.svg").exit_code == 0
    drawing = (tmp_path / "c.svg").read_text()
    assert "<!-- lr 0.001 -->" in drawing
    assert "<!-- lr 0.5 -->" in drawing
    for figure, code, says in ((tmp_path / "c.gif", 1, ".png, .svg"), (tmp_path / "none" / "c.png", 2, "no folder")):
        result = run(one, "--figure", figure)
        assert result.exit_code == code
        assert says in result.stderr
    nothing = run(tmp_path / "new", "--figure", tmp_path / "d.png")
    assert nothing.exit_code == 1
    assert "none of the runs has finished an epoch" in nothing.stderr


def test_without_matplotlib_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    result = run(write_run(tmp_path / "a", 30.0), "--figure", tmp_path / "c.png")
    assert result.exit_code == 1
    assert "pip install 'mrnn[analysis]'" in result.stderr


def test_comparing_imports_neither_torch_nor_matplotlib() -> None:
    code = "import sys, mrnn.train.cli_compare; sys.exit(bool({'torch', 'matplotlib'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

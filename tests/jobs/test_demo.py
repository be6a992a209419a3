"""The script of `make demo`, with commands that only write down how they were called."""

import os
import shlex
import subprocess
from pathlib import Path

import pytest

DEMO = Path(__file__).resolve().parents[2] / "jobs" / "demo.sh"
COMMANDS = ("extract-features", "train-mrnn", "evaluate-mrnn", "align-sentences")
# argv is appended to $CALLS; 'pretrained' weights cannot be had, and a picture of every extraction cannot be read.
STUB = """#!/bin/sh
echo "$(basename "$0") $*" >>"$CALLS"
case "$(basename "$0") $*" in
*"--weights pretrained"*) exit 1 ;;
extract-features*) exit 3 ;;
train-mrnn*) exit "${TRAINED:-0}" ;;
esac
"""


def demo(folder: Path, **environment: str) -> tuple[int, str, list[list[str]]]:
    """Run the script in a folder: exit code, stdout, and the words of every command in turn."""
    tools = folder / "bin"
    tools.mkdir()
    for name in COMMANDS:
        (tools / name).write_text(STUB)
        (tools / name).chmod(0o755)
    own = {"PATH": f"{tools}:{os.environ['PATH']}", "CALLS": str(folder / "calls"), **environment}
    done = subprocess.run(["sh", DEMO], cwd=folder, env=own, capture_output=True, text=True, check=False)
    calls = (folder / "calls").read_text().splitlines()
    return done.returncode, done.stdout, [shlex.split(call) for call in calls]


def value(call: list[str], option: str) -> str:
    return call[call.index(option) + 1]


def test_the_scenes_show_captions_and_regions_with_the_same_weights(tmp_path: Path) -> None:
    code, said, calls = demo(tmp_path)
    assert code == 0
    assert [call[0] for call in calls] == [
        "extract-features", "extract-features", "train-mrnn", "evaluate-mrnn",
        "extract-features", "train-mrnn", "evaluate-mrnn", "align-sentences",
    ]  # fmt: skip
    assert [value(call, "--weights") for call in calls if "--weights" in call] == ["pretrained", "random:0", "random:0"]
    assert "RANDOM weights" in said
    regions, alignment, _, aligned = calls[4:]
    assert value(regions, "--regions") == "boxes:annotated"
    assert value(alignment, "--model") == "alignment"
    assert value(regions, "--output") == value(alignment, "--features") == value(aligned, "--features")
    assert value(alignment, "--output") == value(aligned, "--checkpoint")
    assert said.splitlines()[-2:] == [
        f"Regions and words: {value(aligned, '--html')}",
        "The report: runs/demo-scenes/results/report.html",
    ]
    assert (tmp_path / "runs" / "demo-scenes" / "aligned.jsonl").exists()


def test_a_data_set_of_your_own_has_no_boxes(tmp_path: Path) -> None:
    code, said, calls = demo(tmp_path, DATASET="flickr8k", ROOT="photos", WEIGHTS="alexnet.pt", LIMIT="20")
    assert code == 0
    assert [call[0] for call in calls] == ["extract-features", "train-mrnn", "evaluate-mrnn"]
    assert [value(calls[0], option) for option in ("--root", "--limit", "--weights")] == ["photos", "20", "alexnet.pt"]
    assert said.splitlines()[-1] == "The report: runs/demo-flickr8k/results/report.html"


@pytest.mark.parametrize("code", [1, 75])
def test_it_ends_with_the_code_of_what_failed(tmp_path: Path, code: int) -> None:
    found, _, calls = demo(tmp_path, TRAINED=str(code))
    assert found == code
    assert calls[-1][0] == "train-mrnn"

"""jobs/reproduce.sh: which commands run for which data set, and a small data set from pictures to the papers' table."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image as Picture

from mrnn.data.iaprtc12 import parse_description

SCRIPT = Path(__file__).resolve().parents[2] / "jobs" / "reproduce.sh"
COMMANDS = ("extract-features", "train-mrnn", "evaluate-mrnn", "evaluate-baselines")
# argv is appended to $CALLS, a word a line; a picture of every extraction cannot be read, and training may fail.
STUB = """#!/bin/sh
{ basename "$0"; printf '%s\\n' "$@"; echo; } >>"$CALLS"
case "$(basename "$0")" in
extract-features) exit 3 ;;
train-mrnn) exit "${TRAINED:-0}" ;;
esac
"""


def reproduce(folder: Path, *dataset: str, **environment: str) -> tuple[int, str, list[list[str]]]:
    """Run the script with commands that only write down how they were called: exit code, stderr, all calls."""
    tools = folder / "bin"
    tools.mkdir(exist_ok=True)
    for name in COMMANDS:
        (tools / name).write_text(STUB)
        (tools / name).chmod(0o755)
    calls = folder / "calls"
    calls.write_text("")
    own = {"PATH": f"{tools}:{os.environ['PATH']}", "CALLS": str(calls), **environment}
    done = subprocess.run(["sh", SCRIPT, *dataset], cwd=folder, env=own, capture_output=True, text=True, check=False)
    return done.returncode, done.stderr, [call.splitlines() for call in calls.read_text().split("\n\n") if call]


def value(call: list[str], option: str) -> str:
    return call[call.index(option) + 1]


def sentences(descriptions: Path, numbers: list[str]) -> int:
    """How many sentences the descriptions of some images hold."""
    texts = [(descriptions / f"00/{number}.eng").read_text(encoding="iso-8859-1") for number in numbers]
    return sum(len(parse_description(text)[0]) for text in texts)


def test_flickr_has_the_models_of_both_papers(tmp_path: Path) -> None:
    code, _, calls = reproduce(tmp_path, "flickr8k", ROOT="my photos", OUT="the results", WEIGHTS="alexnet.pt")
    assert code == 0
    trained = {value(call, "--model"): call for call in calls if call[0] == "train-mrnn"}
    assert list(trained) == ["mrnn", "rnn-base", "generator", "alignment"]
    assert {value(call, "--cutoff") for call in trained.values()} == {"5"}
    whole, regions = (call for call in calls if call[0] == "extract-features")
    for call in (whole, regions):
        assert [value(call, name) for name in ("--root", "--backbone", "--weights")] == [
            "my photos", "alexnet", "alexnet.pt"
        ]  # fmt: skip
    assert "--regions" not in whole
    assert value(regions, "--regions") == "grid"
    assert value(trained["alignment"], "--features") == value(regions, "--output") == "the results/regions.h5"
    assert {value(trained[name], "--features") for name in ("mrnn", "rnn-base", "generator")} == {
        value(whole, "--output")
    }
    evaluated = {value(call, "--checkpoint"): call for call in calls if call[0] == "evaluate-mrnn"}
    assert list(evaluated) == [value(call, "--output") for call in trained.values()]
    only = {name.split("/")[1]: value(call, "--only") for name, call in evaluated.items()}
    assert only == {
        "mrnn": "perplexity,generation,retrieval",
        "rnn-base": "perplexity,generation",
        "generator": "perplexity,generation",
        "alignment": "retrieval",
    }
    assert value(evaluated["the results/mrnn"], "--beam") == "1"
    assert value(evaluated["the results/generator"], "--beam") == "7"
    assert calls[-1][0] == "evaluate-baselines"
    assert [calls[-1][n + 1] for n, word in enumerate(calls[-1]) if word == "--beside"] == [
        value(call, "--output") for call in evaluated.values()
    ]


def test_coco_is_ranked_among_5000_and_among_1000(tmp_path: Path) -> None:
    _, _, calls = reproduce(tmp_path, "coco", MODELS="mrnn alignment", REGIONS="detector:yolox-nano:y.pt")
    pools = {value(call, "--output"): call for call in calls if call[0] == "evaluate-mrnn"}
    assert [name.removeprefix("runs/reproduce-coco/") for name in pools] == [
        "mrnn-results", "mrnn-results-1k", "alignment-results", "alignment-results-1k"
    ]  # fmt: skip
    for name, call in pools.items():
        assert ("--pool" in call) == name.endswith("-1k")
        if "--pool" in call:
            assert (value(call, "--pool"), value(call, "--folds"), value(call, "--only")) == ("1000", "5", "retrieval")
        assert name in calls[-1]
    assert any("detector:yolox-nano:y.pt" in call for call in calls)


def test_iapr_is_compared_with_the_log_bilinear_models(tmp_path: Path) -> None:
    given = {"LIMIT": "60", "EPOCHS": "1", "EXTRACT": "--threads 1", "TRAIN": "--seed 3", "EVALUATE": "--device cpu"}
    _, _, calls = reproduce(tmp_path, "iaprtc12", **given)
    models = [value(call, "--model") for call in calls if call[0] == "train-mrnn"]
    assert models == ["mrnn", "rnn-base", "lbl", "mlbl-b", "mlbl-f"]
    options = {
        "extract-features": {"--limit": "60", "--threads": "1"},
        "train-mrnn": {"--epochs": "1", "--seed": "3", "--cutoff": "2"},
        "evaluate-mrnn": {"--device": "cpu"},
        "evaluate-baselines": {"--cutoff": "2"},
    }
    for call in calls:
        assert {name: value(call, name) for name in options[call[0]]} == options[call[0]]


def test_it_needs_a_name_and_ends_with_the_code_of_what_failed(tmp_path: Path) -> None:
    code, said, calls = reproduce(tmp_path)
    assert code != 0
    assert "name a data set: sh jobs/reproduce.sh flickr8k" in said
    assert not calls
    for stopped in (1, 75):
        code, _, calls = reproduce(tmp_path, "flickr8k", TRAINED=str(stopped))
        assert code == stopped
        assert calls[-1][0] == "train-mrnn"


def test_the_iapr_sample_from_pictures_to_the_papers_table(real_data: Path, tmp_path: Path) -> None:
    """Its nine descriptions are real; the photographs are not free, so noise stands for them."""
    root, descriptions = tmp_path / "iaprtc12", real_data / "iapr-tc12-sample/annotations_complete_eng"
    (root / "images/00").mkdir(parents=True)
    (root / "annotations_complete_eng").symlink_to(descriptions)
    numbers = sorted(path.stem for path in (descriptions / "00").glob("*.eng"))
    draw = np.random.default_rng(0)
    for number in numbers:
        Picture.fromarray(draw.integers(0, 256, (48, 64, 3), dtype=np.uint8)).save(root / f"images/00/{number}.jpg")
    (root / "iaprtc12_train_list.txt").write_text("".join(f"00/{number}\n" for number in numbers[:6]))
    (root / "iaprtc12_test_list.txt").write_text("".join(f"00/{number}\n" for number in numbers[6:]))
    own = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "ROOT": str(root),
        "OUT": str(tmp_path / "out"),
        "WEIGHTS": "random:0",
        "BACKBONE": "torchvision:shufflenet_v2_x0_5",
        "MODELS": "mrnn",
        "EPOCHS": "1",
    }
    lines: list[list[str]] = []
    for _ in range(2):  # the second time everything but the baselines is there
        done = subprocess.run(["sh", SCRIPT, "iaprtc12"], env=own, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        lines.append([line for line in done.stdout.splitlines() if "iaprtc12 in the papers" in line or "> " in line])
    assert lines[0][-7:] == lines[1][-7:]
    table = done.stdout[done.stdout.rindex("iaprtc12 in the papers") :]
    rows = [shlex.split(line) for line in table.splitlines() if line.startswith("> ")]
    assert [row[1].rstrip(",") for row in rows] == ["2-gram", "3-gram", *["this"] * 3]  # run, mrnn
    assert re.search(r"^m-RNN v1 +v1 ", table, flags=re.MULTILINE)
    assert " ".join(rows[-1][3:6]) == f"3 x {sentences(descriptions, numbers[6:])}"

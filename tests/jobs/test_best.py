"""jobs/best.sh: a small data set from pictures to captions and to retrieval by several models together."""

import json
import os
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[2] / "jobs" / "best.sh"


def with_stubs(folder: Path, dataset: str, **environment: str) -> tuple[int, list[list[str]]]:
    """Run the script with commands that only write down how they were called."""
    for name in ("extract-features", "train-mrnn", "evaluate-mrnn"):
        (folder / name).write_text('#!/bin/sh\n{ basename "$0"; printf \'%s\\n\' "$@"; echo; } >>"$CALLS"\n')
        (folder / name).chmod(0o755)
    own = {"PATH": f"{folder}:{os.environ['PATH']}", "CALLS": str(folder / "calls"), **environment}
    done = subprocess.run(["sh", SCRIPT, dataset], cwd=folder, env=own, check=False)
    return done.returncode, [call.splitlines() for call in (folder / "calls").read_text().split("\n\n") if call]


def value(call: list[str], option: str) -> str:
    return call[call.index(option) + 1]


def test_scenes_from_pictures_to_the_numbers(tmp_path: Path) -> None:
    own = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "OUT": str(tmp_path / "out"),
        "WEIGHTS": "random:0",
        "BACKBONE": "torchvision:resnet18",
        "LAYER": "layer3+penultimate",
        "LIMIT": "30",
        "EPOCHS": "1",
        "SEEDS": "1",
        "TRAIN": "--cutoff 1",
        "EVALUATE": "--normaliser-images 5",
    }
    done = subprocess.run(["sh", SCRIPT, "scenes"], env=own, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    said = {file.parent.name: json.loads(file.read_text()) for file in tmp_path.glob("out/*/metrics.json")}
    assert sorted(said) == ["captions", "captions-1", "retrieval", "retrieval-1"]
    assert said["captions-1"]["decoding"]["consensus_images"] > 0
    members = said["retrieval-1"]["combined"]["members"]
    assert [member["model"] for member in members] == ["mrnn", "devise", "alignment", "alignment"]
    assert said["retrieval-1"]["retrieval"]["local_scaling"]


def test_seeds_are_measured_alone_and_together(tmp_path: Path) -> None:
    code, calls = with_stubs(tmp_path, "flickr8k", ROOT="my photos", OUT="the results", SEEDS="4 7")
    assert code == 0
    assert {value(call, "--root") for call in calls if call[0] == "extract-features"} == {"my photos"}
    trained = [(value(call, "--output"), value(call, "--features")) for call in calls if call[0] == "train-mrnn"]
    whole, regions = "the results/whole.h5", "the results/regions.h5"
    assert trained == [
        ("the results/align-regions", regions),
        *((f"the results/{name}-{seed}", whole) for seed in "47" for name in ("best", "rank", "devise", "align")),
    ]
    evaluated = {value(call, "--output").split("/")[1]: call for call in calls if call[0] == "evaluate-mrnn"}
    names = [f"{name}-{seed}" for seed in "47" for name in ("captions", "retrieval")]
    assert list(evaluated) == [*names, "captions", "retrieval"]
    assert after(evaluated["captions"], "--checkpoint") == ["the results/best-4", "the results/best-7"]
    for name, runs in (
        ("retrieval-7", ["rank-7", "devise-7", "align-7", "align-regions"]),
        ("retrieval", ["rank-4", "rank-7", "devise-4", "align-4", "align-regions"]),
    ):
        call = evaluated[name]
        found = [*after(call, "--checkpoint"), *after(call, "--combine")]
        assert found == [f"the results/{run}" for run in runs]
        assert "--local-scaling" in call


def after(call: list[str], option: str) -> list[str]:
    """What follows an option each time that it is given."""
    return [call[place + 1] for place, word in enumerate(call) if word == option]


def test_it_needs_a_name(tmp_path: Path) -> None:
    done = subprocess.run(["sh", SCRIPT], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "name a data set: sh jobs/best.sh flickr8k" in done.stderr
    assert not list(tmp_path.iterdir())

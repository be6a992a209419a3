"""The two command lines that people know, exactly as they stand, from an empty folder to a trained model."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import h5py
import torch
from PIL import Image
from torchvision.models import AlexNet, AlexNet_Weights

COLOURS = ("red", "green", "blue", "black", "white")


def run(line: str, folder: Path, **environment: str) -> str:
    """Run an installed command; return what it printed on both streams."""
    program, *arguments = shlex.split(line)
    command = [str(Path(sys.executable).with_name(program)), *arguments]
    clean = {name: value for name, value in os.environ.items() if name != "MRNN_DATA"}
    done = subprocess.run(command, cwd=folder, env=clean | environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_the_two_lines_of_the_card(tmp_path: Path) -> None:
    pictures = tmp_path / "datasets" / "flickr30k" / "flickr30k-images"
    pictures.mkdir(parents=True)
    lines = []
    for number in range(20):
        colour = COLOURS[number % 5]
        Image.new("RGB", (60, 50), colour).save(pictures / f"{number:04}.jpg")
        lines += [f"{number:04}.jpg#{k}\tA {colour} picture hangs on the wall ." for k in range(5)]
    (pictures.parent / "results_20130124.token").write_text("\n".join(lines) + "\n")
    # The weights that torchvision would download, put where it keeps its downloads.
    cached = tmp_path / "torch" / "hub" / "checkpoints" / Path(AlexNet_Weights.DEFAULT.url).name
    cached.parent.mkdir(parents=True)
    torch.manual_seed(0)
    torch.save(AlexNet().state_dict(), cached)

    run("extract-features --dataset flickr30k", tmp_path, TORCH_HOME=str(tmp_path / "torch"))
    with h5py.File(tmp_path / "feats.h5") as file:
        assert file["features"].shape == (20, 4096)
        assert file["features"].attrs["rows_per_image"] == 1
        assert file["provenance"].attrs["backbone"] == "alexnet"
        assert file["provenance"].attrs["layer"] == "fc7"

    run("train-mrnn --features feats.h5", tmp_path)
    assert {"config.json", "metrics.jsonl", "checkpoint_last.pt", "checkpoint_best.pt"} <= {
        path.name for path in (tmp_path / "runs" / "feats-mrnn").iterdir()
    }

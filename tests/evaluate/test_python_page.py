"""docs/python.md: its examples run, one after another, on a small cache and two runs made of it."""

import re
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def place(
    make_pictured: Callable[..., tuple[Path, Path]],
    write_combination: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """A folder with what the page names; the image that it calls 1000.jpg is 2.png."""
    (tmp_path / "runs").mkdir()
    for kind, name in (("alignment", "regions-alignment"), ("mrnn", "feats-mrnn")):
        run, cache = make_pictured(source="grid", kind=kind)
        run.rename(tmp_path / "runs" / name)
    cache = cache.rename(tmp_path / "feats.h5")
    runs = tmp_path / "runs"
    combination = write_combination((runs / "feats-mrnn", cache), (runs / "regions-alignment", cache))
    folder = runs / "feats-mrnn" / "evaluation-val-combined"
    folder.mkdir()
    combination.rename(folder / combination.name)
    draw = np.random.default_rng(1)
    for name in ("holiday.jpg", "garden.jpg"):
        Image.fromarray(draw.integers(0, 255, (60, 90, 3), dtype=np.uint8)).save(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_examples_of_the_page_run(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = (ROOT / "docs" / "python.md").read_text().replace("1000.jpg", "2.png")
    blocks = re.findall(r"^```python\n(.*?)^```", page, flags=re.DOTALL | re.MULTILINE)
    assert len(blocks) >= 8
    known: dict = {}
    for block in blocks:
        with warnings.catch_warnings():
            # torch's forked workers beside threads that numpy's libraries keep: Python 3.12 warns of the mixture.
            warnings.filterwarnings("ignore", category=DeprecationWarning, message=".*fork.*")
            exec(compile(block, "docs/python.md", "exec"), known)
        printed = capsys.readouterr()
        assert printed.err == ""
        assert printed.out or "print" not in block
    assert printed.out == "nowhere.jpg: missing: there is no such file\n"


def test_the_example_of_the_readme_runs(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(), flags=re.DOTALL | re.MULTILINE)
    for block in blocks:
        exec(compile(block, "README.md", "exec"), {})
        assert len(capsys.readouterr().out.splitlines()) == 9  # a caption, and all of eight images


def test_the_stages_that_the_page_names_are_there() -> None:
    for module, names in re.findall(
        r"^from (mrnn[\w.]+) import (.*)$", (ROOT / "docs" / "python.md").read_text(), re.M
    ):
        for name in names.split(", "):
            assert hasattr(__import__(module, fromlist=[name]), name), f"{module} has no {name}"

"""compare-results --html: the numbers, and every shared image with both captions."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from PIL import Image as Picture

from mrnn.evaluate.commands.compare_results import main as compare
from mrnn.evaluate.commands.evaluate import main as evaluate

World = Callable[..., tuple[Path, Path]]


def data_of(page: str) -> dict[str, Any]:
    block = re.search(r'id="data">(.*?)</script>', page, flags=re.DOTALL)
    assert block is not None
    content: dict[str, Any] = json.loads(block[1])
    return content


@pytest.fixture
def evaluations(make_world: World, tmp_path: Path) -> tuple[Path, Path]:
    run, cache = make_world()
    folders = tmp_path / "one", tmp_path / "two"
    for folder, beam in zip(folders, ("1", "3"), strict=True):
        options = ["--checkpoint", str(run), "--features", str(cache), "--output", str(folder), "--beam", beam]
        assert CliRunner().invoke(evaluate, [*options, "--normaliser-images", "5"]).exit_code == 0
    return folders


def test_both_captions_of_every_image(evaluations: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "photos" / "pictures").mkdir(parents=True)
    Picture.new("RGB", (60, 40)).save(tmp_path / "photos" / "pictures" / "24.png")
    html = tmp_path / "comparison.html"
    options = [*map(str, evaluations), "--html", str(html), "--images", str(tmp_path / "photos"), "--resamples", "100"]
    done = CliRunner().invoke(compare, options)
    assert done.exit_code == 0, done.output
    page = html.read_text()
    content = data_of(page)
    said = [json.loads((folder / "captions.json").read_text()) for folder in evaluations]
    assert content["systems"] == ["A: one", "B: two"]
    assert content["scores"][0]["key"] == "cider_gap", "what differs most comes first"
    assert len(content["cards"]) == 10
    for card, a, b in zip(content["cards"], *said, strict=True):
        assert card["id"] == a["image_id"]
        assert [" ".join(word for (word,) in each["words"]) for each in card["said"]] == [a["caption"], b["caption"]]
        assert card["scores"]["cider"] == pytest.approx(card["scores"]["cider_b"] - card["scores"]["cider_a"], abs=1e-3)
        assert card["scores"]["rank"] == 0, "the same model ranks alike"
    assert page.count("data:image/webp") == 1
    assert "9 of 10 pictures were not found" in page
    metrics = json.loads((evaluations[1] / "metrics.json").read_text())
    assert f"<td>{metrics['CIDEr']:.3f}</td>" in page
    assert "decoded differently: beam 1 for A, 3 for B" in page


def test_json_stays_json(evaluations: tuple[Path, Path], tmp_path: Path) -> None:
    options = [*map(str, evaluations), "--json", "--html", str(tmp_path / "c.html"), "--resamples", "100"]
    assert "differences" in json.loads(CliRunner().invoke(compare, options).stdout)

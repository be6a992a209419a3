"""caption-images --regions: the captions that the cache's rows get, sources of boxes, the page, refusals."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result

from mrnn.data.cache import open_cache
from mrnn.evaluate.commands.caption import main
from mrnn.evaluate.generation.decode import DecodingConfig, generate
from mrnn.evaluate.image_rows import REGIONS_PER_IMAGE
from mrnn.extract.config import ExtractionConfig
from mrnn.train.checkpoint import load_trained

World = Callable[..., tuple[Path, Path]]


def caption(run: Path, *arguments: object) -> Result:
    return CliRunner().invoke(main, ["--checkpoint", str(run), *map(str, arguments)], catch_exceptions=False)


def described(run: Path, *arguments: object) -> list[dict]:
    done = caption(run, "--json", "--beam", "3", "--max-steps", "6", *arguments)
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


@pytest.mark.parametrize("features", ["crop", "roi"])
def test_regions_of_a_file_are_described_as_the_rows_of_the_cache(make_pictured: World, features: str) -> None:
    run, file = make_pictured(source="grid", kind="generator", features=features)
    cache, trained = open_cache(file), load_trained(run)
    for entry, number in zip(
        described(run, "--regions", "grid", "--regions-per-image", 3, cache.root / "1.png", cache.root / "4.png"),
        (1, 4),
        strict=True,
    ):
        rows = np.arange(number * 4 + 1, number * 4 + 4)
        assert entry["file"] == str(cache.root / f"{number}.png")
        rectangles = [each["rectangle"] for each in entry["regions"]]
        np.testing.assert_allclose(rectangles, cache.regions.rectangles[rows], atol=0.01)
        beams = generate(
            trained.model, torch.from_numpy(cache.features[rows].astype(np.float32)), DecodingConfig(3, max_steps=6)
        )
        for each, (best, *_) in zip(entry["regions"], beams, strict=True):
            assert each["caption"].split() == trained.vocabulary.decode(best.words)
            assert each["log_prob"] == pytest.approx(best.log_prob, abs=1e-3)
            assert each.keys() == {"rectangle", "caption", "log_prob", "words"}


def test_boxes_of_a_file_by_the_names_of_the_pictures(make_pictured: World, tmp_path: Path) -> None:
    run, file = make_pictured(source="grid", kind="generator")
    root = open_cache(file).root
    boxes = tmp_path / "boxes.csv"
    boxes.write_text("image,left,top,width,height,score\n1.png,10,20,30,40,0.5\n1.png,1,2,9,9,0.9\nx.png,1,1,2,2,1\n")
    one, other = described(run, "--regions", f"boxes:{boxes}", root / "1.png", root / "2.png")
    assert [each["rectangle"] for each in one["regions"]] == [[1, 2, 9, 9], [10, 20, 30, 40]]
    assert other["regions"] == []
    limited = described(run, "--regions", f"boxes:{boxes}", "--regions-per-image", 1, root / "1.png")
    assert [each["rectangle"] for each in limited[0]["regions"]] == [[1, 2, 9, 9]]
    joined = described(run, "--regions", f"grid+boxes:{boxes}", "--regions-per-image", 2, root / "1.png")
    assert len(joined[0]["regions"]) == 4


def test_lines_page_and_files_that_cannot_be_read(make_pictured: World, tmp_path: Path) -> None:
    run, file = make_pictured(source="grid", kind="generator")
    root, page = open_cache(file).root, tmp_path / "page.html"
    options = ("--regions", "grid", "--regions-per-image", 2, "--html", page)
    done = caption(run, *options, root / "1.png", tmp_path / "missing.png")
    assert done.exit_code == 3
    assert str(tmp_path / "missing.png") in done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith(f"{root / '1.png'} (0, 0, ")
    content = page.read_text()
    assert content.count("<figure>") == 1
    assert content.count('<rect class="segment') == 2
    assert "data:image/webp" in content
    for line in lines:
        assert f">{line.rpartition(': ')[2]}</span>" in content


def test_what_cannot_be_described_is_refused(make_pictured: World, make_world: World, tmp_path: Path) -> None:
    run, file = make_pictured(source="boxes:annotated", kind="generator")
    picture = open_cache(file).root / "1.png"
    assert described(run, "--regions", "grid", picture), "a model of given boxes describes others"
    for source, reason in (
        ("boxes:annotated", "boxes:annotated are those of a data set"),
        ("nothing", "regions are grid, detector"),
        (f"boxes:{tmp_path / 'none.csv'}", "none.csv"),
    ):
        refused = caption(run, "--regions", source, picture)
        assert refused.exit_code != 0, source
        assert reason in refused.output
        assert refused.stdout == ""
    assert caption(run, "--regions-per-image", "3", picture).exit_code == 2
    whole = caption(make_world()[0], "--regions", "grid", picture)
    assert whole.exit_code == 1
    assert "was trained on whole pictures" in whole.output
    aligned, _ = make_world(kind="alignment", regions=3, name="aligned.h5")
    assert "predicts no words" in caption(aligned, "--regions", "grid", picture).output


def test_the_default_number_of_regions_is_that_of_extraction() -> None:
    assert ExtractionConfig().regions_per_image == REGIONS_PER_IMAGE

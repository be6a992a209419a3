"""The contact sheet shows the pictures of a cache with the regions that are in it."""

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image as Picture

from mrnn.data.cache import open_cache
from mrnn.data.cache_creation import create_cache
from mrnn.data.cache_writer import CacheWriter
from mrnn.data.captions import Corpus, Image
from mrnn.data.cli import inspect
from mrnn.data.contact_sheet import LINE, MARGIN, SIDE, draw_sheet
from mrnn.data.errors import CacheError
from mrnn.data.regions import Regions, found_regions, whole_picture

ROWS = 3


def write(root: Path, *, rows: int = ROWS) -> Path:
    """Two blue pictures of 100 x 50, of which the second has no file; each with one region of the right half."""
    Picture.new("RGB", (100, 50), (0, 0, 200)).save(root / "0.png")
    images = tuple(Image(f"{n}.png", f"{n}.png", "train", ("a",)) for n in range(2))
    provenance = {"region_classes": '["cat", "dog"]'}
    corpus = Corpus("folder", root, images)
    create_cache(root / "a.h5", corpus, provenance, feature_size=2, rows_per_image=rows)
    regions = Regions.empty(2 * rows)
    for n in range(2):
        regions.put(n * rows, whole_picture(100, 50), limit=1)
        regions.put(n * rows + 1, found_regions(np.array([[50, 0, 50, 50]]), [0.5], [1]), limit=rows - 1)
    with CacheWriter(root / "a.h5") as writer:
        writer.write(np.arange(2), np.zeros((2 * rows, 2)), regions=regions)
    return root / "a.h5"


def test_the_region_is_drawn_where_it_is(tmp_path: Path) -> None:
    sheet = np.asarray(draw_sheet(open_cache(write(tmp_path)), tmp_path, count=2))
    left, top = MARGIN, MARGIN + LINE
    inside = sheet[top : top + SIDE // 2, left : left + SIDE]
    assert (inside[90, 60] == (0, 0, 200)).all(), "the picture itself"
    edge = inside[:, SIDE // 2]
    assert (edge != (0, 0, 200)).any(1).mean() > 0.9, "the left edge of the region in the middle"
    assert ((inside[:, SIDE // 4] == (0, 0, 200)).all(1)).mean() > 0.9


def test_the_command_saves_it(tmp_path: Path) -> None:
    path = write(tmp_path)
    result = CliRunner().invoke(inspect, [str(path), "--sheet", str(tmp_path / "sheet.png")])
    assert result.exit_code == 0, result.output
    assert "regions of 2 images" in result.output
    with Picture.open(tmp_path / "sheet.png") as sheet:
        assert sheet.mode == "RGB"


def test_a_cache_of_whole_pictures_has_nothing_to_show(tmp_path: Path) -> None:
    with pytest.raises(CacheError, match="has no regions; extract-features --regions"):
        draw_sheet(open_cache(write(tmp_path, rows=1)), tmp_path)

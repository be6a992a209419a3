"""Figures of aligned sentences: what is drawn, and that file names are safe and their own."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib.patches import Rectangle
from PIL import Image as Picture

from mrnn.data.errors import SettingError
from mrnn.evaluate.grounding.alignments import Aligned
from mrnn.evaluate.grounding.segments import Segment
from mrnn.evaluate.report.aligned import COLOURS, outlines
from mrnn.evaluate.report.aligned_figures import FigureFolder, draw, figure_names

PLACES = np.array([[0, 0, 200, 100], [0, 0, 100, 100], [100, 0, 100, 100], [0, 0, 0, 0]], dtype=np.float32)


def aligned(*regions: int, number: int = 0) -> Aligned:
    """Two words a segment, each with its region."""
    words = [f"word{n}" for n in range(2 * len(regions))]
    segments = [Segment(2 * n, 2 * n + 2, region, 1.5 - n) for n, region in enumerate(regions)]
    return Aligned(0, "a.png", number, " ".join(words), words, segments, PLACES)


def test_outlines_lie_within_their_regions_and_apart() -> None:
    found = [*outlines(aligned(2, 0, 1, 2))]
    assert [number for number, *_ in found] == [0, 1], "by first mention; the whole picture has none"
    right, left = (box for _, *box in found)
    assert left[0] + left[2] < 100 < right[0]
    assert right[0] + right[2] < 200
    for (x, y, width, height), region in ((left, 1), (right, 2)):
        assert x > PLACES[region][0]
        assert y > PLACES[region][1]
        assert min(width, height) > 90
    assert [*outlines(aligned(3))] == [], "a region whose place is unknown"


def test_words_and_boxes_have_the_same_colours() -> None:
    figure = draw(aligned(2, 0, 1, 2), Picture.new("RGB", (200, 100), "white"))
    shown, words = figure.axes
    lines = [each for each in shown.patches if isinstance(each, Rectangle) and each.get_edgecolor()[:3] != (1, 1, 1)]
    said = [text for text in words.texts if text.get_text().startswith("word")]
    assert [text.get_text() for text in said] == ["word0 word1", "word2 word3", "word4 word5", "word6 word7"]
    assert [text.get_text() for text in words.texts if text not in said] == ["1.50", "0.50", "-0.50", "-1.50"]
    patches = [text.get_bbox_patch() for text in said]
    assert [patch and patch.get_edgecolor() for patch in patches] == [
        lines[0].get_edgecolor(), None, lines[1].get_edgecolor(), lines[0].get_edgecolor()
    ]  # fmt: skip
    assert [line.get_x() > 100 for line in lines] == [True, False]
    assert shown.images[0].get_extent() == [0, 200, 100, 0]


@pytest.mark.parametrize("segments", [1, 30])
def test_all_of_it_is_within_the_figure(segments: int) -> None:
    each = aligned(*([1, 2] * segments)[:segments])
    each.words[:] = ["word" * 4] * len(each.words)
    figure = draw(each, None)
    figure.canvas.draw()
    width, height = figure.bbox.size
    for text in figure.axes[1].texts:
        box = text.get_window_extent()
        assert 0 <= box.x0 < box.x1 <= width
        assert 0 <= box.y0 < box.y1 <= height
    assert len({text.get_bbox_patch().get_facecolor() for text in figure.axes[1].texts if text.get_bbox_patch()}) == (
        min(segments, 2)
    )
    assert len(COLOURS) == 8


def test_equal_data_equal_bytes_and_no_trace_of_the_path(tmp_path: Path) -> None:
    contents = []
    for name in ("one", "two"):
        folder = FigureFolder(tmp_path / name, {"a.png": 2})
        folder.save(aligned(1, 2, number=1), None)
        files = sorted((tmp_path / name).iterdir())
        assert [file.name for file in files] == ["a-1.png", "a-1.svg"]
        contents.append([file.read_bytes() for file in files])
    assert contents[0] == contents[1]
    assert b"word0 word1" in contents[0][1], "text stays text"
    with Picture.open(tmp_path / "one" / "a-1.png") as picture:
        assert picture.width > 1000


def test_names_are_safe_and_their_own() -> None:
    ids = ["1007_ab.jpg", "42", "../x/é <b>.PNG", "a/1.jpg", "b/1.jpg", "Dog.png", "dog.png", "...", "日" * 300]
    names = figure_names(ids)
    assert names[:3] == ["1007_ab", "42", "é_b"]
    assert len({name.lower() for name in names}) == len(ids)
    assert names[3].startswith("1-")
    assert figure_names(["a/1.jpg", "c/1.jpg"])[0] == names[3], "the digest is that of the id alone"
    assert all("/" not in name and len(name.encode()) < 200 and not name.startswith(".") for name in names)


def test_only_such_figures_are_replaced(tmp_path: Path) -> None:
    folder = FigureFolder(tmp_path / "f", {"a.png": 1})
    folder.save(aligned(1), None)
    FigureFolder(tmp_path / "f", {"a.png": 1})
    (tmp_path / "f" / "b-1.svg").write_text("mine")
    FigureFolder(tmp_path / "f", {"a.png": 1, "b.png": 1})
    with pytest.raises(SettingError, match=r"holds b-1\.svg, which mrnn did not write"):
        FigureFolder(tmp_path / "f", {"b.png": 2})
    with pytest.raises(SettingError, match="is a file, not a folder"):
        FigureFolder(tmp_path / "f" / "b-1.svg", {"a.png": 1})

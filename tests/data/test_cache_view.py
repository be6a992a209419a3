"""A cache read like a table: rows by id, in order, and as a table of pandas."""

from pathlib import Path

import numpy as np
import pytest

from mrnn.data import open_cache
from mrnn.data.cache_creation import create_cache
from mrnn.data.cache_writer import CacheWriter
from mrnn.data.captions import Corpus, Image
from mrnn.data.errors import CacheError
from mrnn.data.regions import found_regions


def make_cache(folder: Path, *, rows: int = 1) -> Path:
    """Three images of which the second could not be read."""
    images = (
        Image("1000.jpg", "a/1000.jpg", "train", ("A dog.", "Snow")),
        Image("2000.jpg", "a/2000.jpg", "test", ()),
        Image("3000.jpg", "a/3000.jpg", "", ("A cat.",)),
    )
    file = folder / "feats.h5"
    create_cache(file, Corpus("three", folder, images), {}, feature_size=4, rows_per_image=rows)
    with CacheWriter(file) as writer:
        values = np.arange(2 * rows * 4, dtype=np.float32).reshape(2 * rows, 4)
        places = found_regions(np.arange(8.0 * rows).reshape(-1, 4), np.zeros(2 * rows), np.zeros(2 * rows))
        places.valid[-1] = rows == 1
        writer.write(np.array([0, 2]), values, regions=places)
        writer.fail(np.array([1]), ["missing"])
    return file


@pytest.mark.parametrize("text", [True, False])
def test_rows_by_id(tmp_path: Path, text: bool) -> None:
    file = make_cache(tmp_path)
    cache = open_cache(str(file) if text else file)
    assert len(cache) == 3
    row = cache["3000.jpg"]
    assert (row.id, row.path, row.split, row.sentences) == ("3000.jpg", "a/3000.jpg", "", ("A cat.",))
    np.testing.assert_array_equal(row.features, [4, 5, 6, 7])
    assert row.features is not None
    row.features[:] = 0  # a copy: the file does not change
    np.testing.assert_array_equal(cache["3000.jpg"].features, cache.features[2])
    assert cache["2000.jpg"].features is None
    assert [each.id for each in cache] == [image.id for image in cache.images]
    assert "2000.jpg" in cache
    assert "4000.jpg" not in cache
    assert cache.number_of("3000.jpg") == 2
    assert len(repr(row)) < 120
    with pytest.raises(CacheError, match="no image '4000.jpg' in this cache; the first one is '1000.jpg'"):
        cache["4000.jpg"]


def test_rows_of_regions(tmp_path: Path) -> None:
    row = open_cache(make_cache(tmp_path, rows=3))["3000.jpg"]
    assert row.features is not None
    np.testing.assert_array_equal(row.features, np.arange(12.0, 24).reshape(3, 4))
    np.testing.assert_array_equal(row.rectangles, np.arange(12.0, 24).reshape(3, 4))
    assert row.valid.tolist() == [True, True, False]


def test_a_table_of_pandas(tmp_path: Path) -> None:
    pytest.importorskip("pandas", reason="pandas is no dependency of mrnn")
    table = open_cache(make_cache(tmp_path)).to_pandas()
    assert table.index.tolist() == ["1000.jpg", "2000.jpg", "3000.jpg"]
    assert table.loc["1000.jpg"].to_dict() == {
        "path": "a/1000.jpg",
        "split": "train",
        "sentences": ["A dog.", "Snow"],
        "done": True,
    }
    assert table.done.tolist() == [True, False, True]


def test_without_pandas_a_sentence_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pandas", None)
    with pytest.raises(CacheError, match="pip install pandas"):
        open_cache(make_cache(tmp_path)).to_pandas()

"""Regions in the cache: stored, covered by checksums, merged; and caches of version 1, which have none."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mrnn.data.cache import matching_settings, open_cache
from mrnn.data.cache_creation import create_cache
from mrnn.data.cache_writer import CacheWriter
from mrnn.data.captions import NO_WORDS, Box, Corpus, Image
from mrnn.data.errors import CacheError
from mrnn.data.merge import merge_caches
from mrnn.data.regions import NO_CLASS, Regions, found_regions, rows_of, whole_picture
from mrnn.data.verify import verify_cache
from tests.data.cache_v1 import write_version_1

N, R, D = 7, 4, 3
DRAW = np.random.default_rng(0)
FEATURES = DRAW.normal(size=(N * R, D)).astype(np.float32)
REGIONS = Regions(
    DRAW.uniform(0, 300, (N * R, 4)).astype(np.float32),
    DRAW.random(N * R, dtype=np.float32),
    DRAW.integers(-1, 80, N * R, dtype=np.int32),
    (np.arange(N * R) % R < 3).astype(np.uint8),
)
HASHES = DRAW.integers(0, 256, (N, 16), dtype=np.uint8)


def corpus_of(begin: int, end: int) -> Corpus:
    box = Box(1, 2, 3, 4, "a dog", 0, (0, 2), "animals")
    images = tuple(Image(f"{i}.jpg", f"{i}.jpg", "train", ("a dog",), (box,)) for i in range(begin, end))
    return Corpus("folder", Path("root"), images)


def write(path: Path, begin: int = 0, end: int = N) -> Path:
    """A cache of the images begin..end-1, the last of all failed."""
    create_cache(path, corpus_of(begin, end), {}, feature_size=D, rows_per_image=R, first=begin, total=N)
    done = np.arange(begin, min(end, N - 1))
    rows = rows_of(done, R)
    with CacheWriter(path) as writer:
        writer.write(done - begin, FEATURES[rows], regions=REGIONS[rows], hashes=HASHES[done])
        if end == N:
            writer.fail(np.array([N - 1 - begin]), ["truncated"], hashes=HASHES[N - 1 :])
    return path


def test_regions_hashes_and_boxes_come_back(tmp_path: Path) -> None:
    cache = open_cache(write(tmp_path / "a.h5"))
    done = rows_of(np.arange(N - 1), R)
    for name, table in cache.regions.tables().items():
        np.testing.assert_array_equal(table[done], REGIONS.tables()[name][done], err_msg=name)
    np.testing.assert_array_equal(cache.picture_hashes, HASHES)
    assert cache.images == corpus_of(0, N).images
    assert verify_cache(tmp_path / "a.h5").damaged == ()


@pytest.mark.parametrize("name", ["rectangle", "region_score", "region_class", "valid", "picture_hash"])
def test_a_changed_table_names_its_image(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / "a.h5")
    cache = open_cache(path)
    table = (cache.regions.tables() | {"picture_hash": cache.picture_hashes})[name]
    for image in (2, N - 1) if name == "picture_hash" else (2,):
        content = bytearray(path.read_bytes())
        content[cache.offsets[name] + table.nbytes // N * image] ^= 1
        damaged = tmp_path / f"{image}.h5"
        damaged.write_bytes(content)
        assert verify_cache(damaged).damaged == (f"{image}.jpg",)


def test_merged_shards_have_the_bytes_of_the_whole(tmp_path: Path) -> None:
    write(tmp_path / "whole.h5")
    merge_caches(tmp_path / "merged.h5", [write(tmp_path / "1.h5", 3, N), write(tmp_path / "0.h5", 0, 3)])
    assert (tmp_path / "merged.h5").read_bytes() == (tmp_path / "whole.h5").read_bytes()


def test_rows_written_without_regions_are_of_unknown_places(tmp_path: Path) -> None:
    create_cache(tmp_path / "a.h5", corpus_of(0, N), {}, feature_size=D, rows_per_image=R)
    with CacheWriter(tmp_path / "a.h5") as writer:
        writer.write(np.arange(N), FEATURES)
    regions = open_cache(tmp_path / "a.h5").regions
    assert not regions.rectangles.any()
    assert regions.valid.all()
    assert (regions.classes == NO_CLASS).all()
    assert not open_cache(tmp_path / "a.h5").picture_hashes.any()


def test_more_regions_than_there_is_space_for_are_cut() -> None:
    rows = Regions.empty(3)
    rows.put(0, whole_picture(40, 30), limit=1)
    rows.put(1, found_regions(np.arange(12).reshape(3, 4), np.array([0.9, 0.5, 0.1]), np.arange(3)), limit=2)
    assert rows.rectangles.tolist() == [[0, 0, 40, 30], [0, 1, 2, 3], [4, 5, 6, 7]]
    assert rows.valid.tolist() == [1, 1, 1]


def test_regions_count_as_settings_only_for_who_looks_at_them() -> None:
    one = {"backbone": "alexnet", "regions": "grid"}
    assert matching_settings(one, one | {"regions": "boxes"}) == []
    assert matching_settings(one, one | {"regions": "boxes"}, regions=True) == ["regions"]


def version_1(path: Path, *, pending: tuple[int, ...] = ()) -> np.ndarray:
    features = FEATURES[:N].astype(np.float16)
    write_version_1(path, corpus_of(0, N), features, pending=pending)
    return features


def test_version_1_opens_verifies_and_merges(tmp_path: Path) -> None:
    features = version_1(tmp_path / "old.h5")
    cache = open_cache(tmp_path / "old.h5")
    np.testing.assert_array_equal(cache.features, features)
    assert cache.images[0].boxes == (replace(corpus_of(0, 1).images[0].boxes[0], words=NO_WORDS, kind=""),)
    assert not cache.picture_hashes.any()
    assert cache.regions.valid.all()
    assert verify_cache(tmp_path / "old.h5").damaged == ()
    merged = merge_caches(tmp_path / "new.h5", [tmp_path / "old.h5"])
    np.testing.assert_array_equal(merged.features, features)
    assert verify_cache(tmp_path / "new.h5").damaged == ()


def test_a_changed_byte_in_version_1_is_found(tmp_path: Path) -> None:
    version_1(tmp_path / "old.h5")
    content = bytearray((tmp_path / "old.h5").read_bytes())
    content[open_cache(tmp_path / "old.h5").offsets["features"]] ^= 1
    (tmp_path / "old.h5").write_bytes(content)
    assert verify_cache(tmp_path / "old.h5").damaged == ("0.jpg",)


def test_an_unfinished_version_1_is_finished(tmp_path: Path) -> None:
    features = version_1(tmp_path / "whole.h5")
    version_1(tmp_path / "part.h5", pending=(2, 5))
    with CacheWriter(tmp_path / "part.h5") as writer:
        assert writer.pending().tolist() == [2, 5]
        writer.write(np.array([2, 5]), features[[2, 5]], hashes=HASHES[[2, 5]])
    assert (tmp_path / "part.h5").read_bytes() == (tmp_path / "whole.h5").read_bytes()


def test_versions_of_the_future_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.h5")
    path.write_bytes(path.read_bytes().replace(b'"version": 2', b'"version": 3', 1))
    with pytest.raises(CacheError, match="has schema version 3; this mrnn reads versions 1 to 2"):
        open_cache(path)

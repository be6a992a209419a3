"""Damage is found and named; shards make up the whole."""

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from mrnn.data.cache import FeatureCache, open_cache
from mrnn.data.cache_creation import create_cache
from mrnn.data.cache_writer import CacheWriter
from mrnn.data.captions import Corpus, Image
from mrnn.data.cli import inspect, merge, verify
from mrnn.data.errors import CacheError
from mrnn.data.merge import merge_caches
from mrnn.data.verify import verify_cache

N, D = 23, 8
FEATURES = np.random.default_rng(0).normal(size=(N, D)).astype(np.float32)
FAILED = 13


def extract_part(path: Path, begin: int, end: int, *, provenance: dict | None = None, finish: bool = True) -> Path:
    """A finished shard of the images begin..end-1, image FAILED failed."""
    images = tuple(Image(f"{i}.jpg", f"{i}.jpg", "train", (f"picture {i}",)) for i in range(begin, end))
    corpus = Corpus("folder", Path("root"), images)
    recorded = provenance or {"layer": "fc7", "backbone": "alexnet"}
    create_cache(path, corpus, recorded, feature_size=D, first=begin, total=N)
    with CacheWriter(path) as writer:
        done = np.array([i for i in range(begin, end if finish else end - 1) if i != FAILED])
        writer.write(done - begin, FEATURES[done])
        if begin <= FAILED < end:
            writer.fail(np.array([FAILED - begin]), ["truncated"])
    return path


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    return extract_part(tmp_path / "whole.h5", 0, N)


@pytest.fixture
def shards(tmp_path: Path) -> list[Path]:
    return [extract_part(tmp_path / f"{a}.h5", a, b) for a, b in ((0, 8), (8, 16), (16, N))]


def alter(path: Path, offset: int, content: bytes) -> None:
    with path.open("r+b") as stream:
        stream.seek(offset)
        stream.write(content)


def place(cache: FeatureCache, image: int) -> int:
    return cache.offsets["features"] + image * D * 2


def test_an_intact_cache_passes(whole: Path) -> None:
    result = CliRunner().invoke(verify, [str(whole)])
    assert result.exit_code == 0, result.output
    assert "22 done, 1 failed, 0 pending, 0 damaged" in result.output


def test_one_flipped_byte_names_its_image(whole: Path) -> None:
    cache = open_cache(whole)
    at = place(cache, 7) + 5
    alter(whole, at, bytes([whole.read_bytes()[at] ^ 1]))
    result = CliRunner().invoke(verify, [str(whole)])
    assert result.exit_code == 1
    assert "damaged: 7.jpg\n" in result.output
    assert verify_cache(whole).damaged == ("7.jpg",)


def test_two_swapped_rows_name_both_images(whole: Path) -> None:
    cache = open_cache(whole)
    rows = {image: bytes(cache.features[image].tobytes()) for image in (4, 9)}
    alter(whole, place(cache, 4), rows[9])
    alter(whole, place(cache, 9), rows[4])
    assert verify_cache(whole).damaged == ("4.jpg", "9.jpg")


def test_altered_marks_reasons_and_checksums_are_found(whole: Path) -> None:
    cache = open_cache(whole)
    alter(whole, cache.offsets["state"] + 1, b"\2")
    alter(whole, cache.offsets["state"] + 2, b"\7")
    alter(whole, cache.offsets["reason"] + FAILED * 200, b"T")
    alter(whole, cache.offsets["checksum"] + 4 * 20, b"\0\0\0\0")
    assert verify_cache(whole).damaged == ("1.jpg", "2.jpg", "13.jpg", "20.jpg")


def test_merged_shards_equal_the_whole_byte_for_byte(tmp_path: Path, whole: Path, shards: list[Path]) -> None:
    result = CliRunner().invoke(merge, [str(tmp_path / "merged.h5"), *map(str, reversed(shards))])
    assert result.exit_code == 3, result.output
    assert "13.jpg: truncated" in result.output
    assert (tmp_path / "merged.h5").read_bytes() == whole.read_bytes()


def test_an_interrupted_merge_goes_on(
    tmp_path: Path, whole: Path, shards: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    merged = tmp_path / "merged.h5"
    calls = []
    write = CacheWriter.write

    def die_at_the_second(self: CacheWriter, indices: np.ndarray, features: np.ndarray, **tables: Any) -> None:
        calls.append(indices)
        if len(calls) == 2:
            raise KeyboardInterrupt
        write(self, indices, features, **tables)

    monkeypatch.setattr(CacheWriter, "write", die_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        merge_caches(merged, shards)
    monkeypatch.setattr(CacheWriter, "write", write)
    assert len(open_cache(merged, allow_partial=True).done()) == 8
    merge_caches(merged, shards)
    assert merged.read_bytes() == whole.read_bytes()


def test_gaps_overlaps_and_strangers_are_refused(tmp_path: Path, shards: list[Path]) -> None:
    merged = tmp_path / "merged.h5"
    with pytest.raises(CacheError, match="begins at image 8 of 23 is missing before"):
        merge_caches(merged, [shards[0], shards[2]])
    with pytest.raises(CacheError, match="from image 16 of 23 on is missing after"):
        merge_caches(merged, shards[:2])
    with pytest.raises(CacheError, match="overlaps"):
        merge_caches(merged, [*shards, shards[1]])
    stranger = extract_part(tmp_path / "stranger.h5", 16, N, provenance={"layer": "fc6", "backbone": "alexnet"})
    with pytest.raises(CacheError, match=r"differ in layer \(layer: 'fc6' and 'fc7'\)"):
        merge_caches(merged, [*shards[:2], stranger])
    unfinished = extract_part(tmp_path / "unfinished.h5", 16, N, finish=False)
    with pytest.raises(CacheError, match=r"unfinished.h5 is not complete: 1 of 7"):
        merge_caches(merged, [*shards[:2], unfinished])
    assert not merged.exists()


def test_damaged_shards_and_other_outputs_are_refused(tmp_path: Path, whole: Path, shards: list[Path]) -> None:
    cache = open_cache(shards[1])
    alter(shards[1], place(cache, 2), b"\1\2\3")
    with pytest.raises(CacheError, match="rows of '10.jpg' .* are damaged"):
        merge_caches(tmp_path / "merged.h5", shards)
    other = extract_part(tmp_path / "other.h5", 0, 8)
    with pytest.raises(CacheError, match="exists and is not a merge of these"):
        merge_caches(other, shards)


def test_inspect_shows_contents_and_origin(whole: Path) -> None:
    text = CliRunner().invoke(inspect, [str(whole)])
    assert text.exit_code == 0
    assert "23 x 8 float16, 22 images done, 1 failed, 0 pending" in text.output
    assert "layer: fc7" in text.output
    assert "failed: 13.jpg: truncated" in text.output
    as_json = CliRunner().invoke(inspect, [str(whole), "--json"])
    assert '"shape": [\n    23,\n    8\n  ]' in as_json.output


def test_a_missing_file_is_one_line_and_exit_code_1(tmp_path: Path) -> None:
    result = CliRunner().invoke(inspect, [str(tmp_path / "none.h5")])
    assert result.exit_code == 1
    assert result.stderr.startswith("error: there is no feature cache at")
    assert result.stderr.count("\n") == 1


def test_merging_holds_no_more_than_a_stretch_of_rows(tmp_path: Path) -> None:
    """Two shards of 32 MB each; what Python and NumPy hold meanwhile stays far below one."""
    size, each = 4096, 4096
    rows = np.random.default_rng(0).random((512, size), dtype=np.float32)
    shards = []
    for first in (0, each):
        path = tmp_path / f"{first}.h5"
        images = tuple(Image(f"{i}", f"{i}", "train", ("a",)) for i in range(first, first + each))
        create_cache(path, Corpus("folder", Path(), images), {}, feature_size=size, first=first, total=2 * each)
        with CacheWriter(path) as writer:
            for begin in range(0, each, len(rows)):
                writer.write(np.arange(begin, begin + len(rows)), rows)
        shards.append(path)
    tracemalloc.start()
    try:
        merge_caches(tmp_path / "whole.h5", shards)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 24e6

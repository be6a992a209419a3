"""The feature cache: whole at creation, checked at opening, self-contained."""

import errno
import json
import os
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mrnn.data.cache import STATE_PENDING, matching_settings, open_cache
from mrnn.data.cache_creation import create_cache
from mrnn.data.cache_layout import USER_BLOCKS, VERSION, static_digest, user_block
from mrnn.data.cache_writer import CacheWriter
from mrnn.data.captions import Box, Corpus, Image, Problem
from mrnn.data.errors import CacheError, CorpusError
from mrnn.data.verify import verify_cache

FUZZ = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

USER_BLOCK = USER_BLOCKS[VERSION]
PROVENANCE = {"backbone": "alexnet", "layer": "fc7", "batch_size": 4, "weights_sha256": "00ff"}


def make_corpus(n: int = 10) -> Corpus:
    images = tuple(
        Image(
            f"näme {i}.jpg",
            f"pictures/{i}.jpg",
            ("train", "val", "test", "")[i % 4],
            tuple(f"sentence {j} of {i}, “quoted”" for j in range(i % 3)),
            (Box(1.5, 2, 3, 4, "a thing", 0, (2, 4), "other"),) * (i % 2),
        )
        for i in range(n)
    )
    return Corpus("folder", Path("/somewhere/else"), images, problems=(Problem("odd", "x.jpg", "why"),))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    create_cache(tmp_path / "feats.h5", make_corpus(), PROVENANCE, feature_size=6)
    return tmp_path / "feats.h5"


def fill(path: Path) -> np.ndarray:
    features = np.random.default_rng(0).normal(size=(10, 6)).astype(np.float32)
    with CacheWriter(path) as writer:
        writer.write(np.arange(10), features)
    return features


def test_a_complete_cache_holds_everything_that_training_needs(path: Path) -> None:
    features = fill(path)
    cache = open_cache(path)
    corpus = make_corpus()
    assert cache.images == corpus.images
    assert cache.problems == corpus.problems
    assert cache.corpus().sha256() == corpus.sha256()
    assert cache.provenance == PROVENANCE
    assert (cache.dataset, cache.root, cache.integer_ids) == ("folder", Path("/somewhere/else"), False)
    assert cache.done("train").tolist() == [0, 4, 8]
    np.testing.assert_array_equal(cache.features, features.astype(np.float16))


def test_other_programs_read_it_as_plain_hdf5(path: Path) -> None:
    features = fill(path)
    with h5py.File(path) as file:
        assert file["features"].shape == (10, 6)
        assert file["features"].attrs["rows_per_image"] == 1
        np.testing.assert_array_equal(file["features"][:], features.astype(np.float16))
        assert file["images/id"].asstr()[3] == "näme 3.jpg"
        assert file["provenance"].attrs["backbone"] == "alexnet"
        assert file["features"].chunks is None


def test_rows_of_regions_use_the_same_layout(tmp_path: Path) -> None:
    path = tmp_path / "regions.h5"
    create_cache(path, make_corpus(3), {}, feature_size=5, dtype="float32", rows_per_image=20)
    rows = np.random.default_rng(1).normal(size=(40, 5)).astype(np.float32)
    with CacheWriter(path) as writer:
        writer.write(np.array([0, 2]), rows)
    cache = open_cache(path, allow_partial=True)
    assert cache.features.shape == (60, 5)
    np.testing.assert_array_equal(cache.features[:20], rows[:20])
    np.testing.assert_array_equal(cache.read(np.array([2, 0])), np.concatenate([rows[20:], rows[:20]]))
    with pytest.raises(IndexError, match="has images 0 to 2"):
        cache.read(np.array([3]))
    np.testing.assert_array_equal(cache.features[40:], rows[20:])


def test_disk_space_is_taken_at_creation(tmp_path: Path) -> None:
    path = tmp_path / "feats.h5"
    create_cache(path, make_corpus(), {}, feature_size=100_000)
    assert os.stat(path).st_blocks * 512 >= 10 * 100_000 * 2


def test_pending_images_make_a_cache_incomplete(path: Path) -> None:
    with pytest.raises(CacheError, match=r"not complete: 10 of 10 .*run the extract-features"):
        open_cache(path)
    assert (open_cache(path, allow_partial=True).states == STATE_PENDING).all()
    assert len(open_cache(path, allow_partial=True).done()) == 0


def test_an_existing_file_is_never_replaced(path: Path) -> None:
    before = path.read_bytes()
    with pytest.raises(FileExistsError):
        create_cache(path, make_corpus(), PROVENANCE, feature_size=6)
    assert path.read_bytes() == before
    assert [entry.name for entry in path.parent.iterdir()] == ["feats.h5"]


def test_an_empty_corpus_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CacheError, match="at least one image"):
        create_cache(tmp_path / "f.h5", replace(make_corpus(), images=()), {}, feature_size=6)


def test_a_folder_whose_name_is_no_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CacheError, match=r"the root, '.*pictures-\\udcff', is not UTF-8 text"):
        create_cache(tmp_path / "f.h5", replace(make_corpus(), root=Path("pictures-\udcff")), {}, feature_size=6)
    assert not list(tmp_path.iterdir())


def test_text_that_no_file_can_hold_is_refused_by_the_corpus() -> None:
    for text in ("zero \0", "half \ud83d"):
        in_sentence = Image("a.jpg", "a.jpg", "train", (text,))
        in_phrase = Image("a.jpg", "a.jpg", "train", ("a",), (Box(1, 2, 3, 4, text, 0),))
        for image in (in_sentence, in_phrase):
            with pytest.raises(CorpusError, match="NUL or half a surrogate"):
                replace(make_corpus(), images=(image,))


def test_a_full_disk_shows_at_creation_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(CacheError, match=r"needs \d+ MB, and .* MB free \(No space left on device\)"):
        create_cache(tmp_path / "feats.h5", make_corpus(), {}, feature_size=6)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "there is no feature cache at"),
        (b"", "not a feature cache"),
        (b"<html>", "not a feature cache"),
        (b'{"format": "mrnn-features", "vers', "damaged: its header"),
    ],
)
def test_what_is_no_cache_is_named_so(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "feats.h5"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CacheError, match=message):
        open_cache(path)


def test_hdf5_of_others_and_folders_are_named_so(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["features"] = np.zeros((2, 3))
    with pytest.raises(CacheError, match="not a feature cache written by mrnn"):
        open_cache(tmp_path / "other.h5")
    with pytest.raises(CacheError, match="is a folder"):
        open_cache(tmp_path)


def test_a_cache_cut_off_anywhere_says_so(path: Path) -> None:
    fill(path)
    content = path.read_bytes()
    for size in [*range(USER_BLOCK, len(content), 97), len(content) - 1]:
        path.write_bytes(content[:size])
        with pytest.raises(CacheError, match=f"cut off: it has {size} of {len(content)} bytes"):
            open_cache(path)
    for size in range(0, USER_BLOCK, 7):
        path.write_bytes(content[:size])
        with pytest.raises(CacheError, match=r"not a feature cache|damaged: its header|cut off"):
            open_cache(path)


@FUZZ
@given(data=st.data())
def test_a_flipped_byte_is_found_at_opening_or_by_verifying(path: Path, data: st.DataObject) -> None:
    """Wherever it lies; but for the reasons of images that did not fail, which nobody reads."""
    fill(path)
    content = bytearray(path.read_bytes())
    ranges = json.loads(content[:USER_BLOCK])["mutable"]
    areas = {name: range(offset, offset + length) for name, (offset, length) in ranges.items()}
    mutable = {position for area in areas.values() for position in area}
    areas["header"] = range(USER_BLOCK)  # the one part that no digest covers
    areas["fixed"] = [position for position in range(USER_BLOCK, len(content)) if position not in mutable]
    area = data.draw(st.sampled_from(sorted(areas.keys() - {"reason"})))
    position = data.draw(st.sampled_from(areas[area]))
    content[position] ^= data.draw(st.integers(1, 255))
    damaged = path.with_name("damaged.h5")
    damaged.write_bytes(content)
    if position in mutable:
        found = verify_cache(damaged)
        assert found.damaged or found.pending  # a mark of 0 says that the image is still to be done
    else:
        with pytest.raises(CacheError):
            open_cache(damaged, allow_partial=True)


def sign(path: Path) -> None:
    """Give an altered file a header that fits it, as somebody would who means ill."""
    size = path.stat().st_size
    ranges = json.loads(path.read_bytes()[:USER_BLOCK])["mutable"]
    header = user_block(size, ranges, static_digest(path, ranges, size))
    with path.open("r+b") as stream:
        stream.write(header)


TABLES = ("images/id", "images/path", "images/split", "sentences/text", "sentences/image", "boxes/phrase",
          "boxes/image", "boxes/sentence", "boxes/words", "boxes/kind",
          "boxes/rectangle", "features", "rectangle", "valid",
          "problems/kind", "problems/detail")  # fmt: skip
CONTENTS = st.sampled_from(
    [np.zeros(0), np.arange(-3, 7), np.full(10, 2**62), np.full(10, np.nan), np.zeros((10, 4)), np.zeros((2, 3, 4)),
     np.float64(3), np.array([b"\xff"] * 10), np.zeros(10, dtype=[("a", "i4")]), h5py.SoftLink("/nowhere"), None]
)  # fmt: skip


@FUZZ
@given(changes=st.lists(st.tuples(st.sampled_from(TABLES), CONTENTS), min_size=1, max_size=2))
def test_a_forged_cache_is_refused_or_read(path: Path, changes: list[tuple[str, Any]]) -> None:
    forged = path.with_name("forged.h5")
    forged.write_bytes(path.read_bytes())
    with h5py.File(forged, "r+", locking=False) as file:
        for name, content in changes:
            if name in file:
                del file[name]
            if content is not None:
                file[name] = content
    sign(forged)
    with suppress(CacheError):
        cache = open_cache(forged, allow_partial=True)
        assert sum(len(image.sentences) for image in cache.images) <= 10


@given(
    content=st.binary(max_size=600),
    start=st.sampled_from([b"", b"{", b'{"format": "mrnn-features"', b"\x89HDF\r\n\x1a\n"]),
)
def test_any_bytes_are_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes, start: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.h5"
    path.write_bytes(start + content)
    with pytest.raises(CacheError, match="any.h5"):
        open_cache(path)


def test_contents_in_other_files_are_not_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache whose digest is in order, but which links to another file, is refused all the same."""
    create_cache(tmp_path / "other.h5", make_corpus(), {}, feature_size=6)
    original = h5py.File

    class Linking(original):
        def __exit__(self, *exception: object) -> None:
            if self.mode == "r+" and "images" in self:
                del self["images/id"]
                self["images/id"] = h5py.ExternalLink(str(tmp_path / "other.h5"), "/images/id")
            super().__exit__(*exception)

    monkeypatch.setattr(h5py, "File", Linking)
    create_cache(tmp_path / "feats.h5", make_corpus(), {}, feature_size=6)
    monkeypatch.undo()
    with h5py.File(tmp_path / "feats.h5", locking=False) as file:
        assert isinstance(file["images"].get("id", getlink=True), h5py.ExternalLink)
    with pytest.raises(CacheError, match=r"images/id is missing or a link"):
        open_cache(tmp_path / "feats.h5", allow_partial=True)


def test_settings_that_change_the_features_are_told_apart() -> None:
    assert matching_settings(PROVENANCE, PROVENANCE | {"batch_size": 64, "threads": 3}) == []
    assert matching_settings(PROVENANCE, PROVENANCE | {"layer": "fc6"}) == ["layer"]
    assert matching_settings(PROVENANCE, PROVENANCE | {"views": "flip"}) == ["views"]


@pytest.mark.parametrize("locking", [None, True, False, "best-effort"])
def test_a_cache_that_this_process_has_open_can_be_opened(path: Path, locking: object) -> None:
    expected = open_cache(path, allow_partial=True)
    with h5py.File(path, "r", locking=locking) as notebook:
        cache = open_cache(path, allow_partial=True)
        assert cache.images == expected.images
        assert cache.provenance == expected.provenance
        assert notebook["features"].shape == cache.features.shape, "still open after ours is closed"


def test_paths_may_be_text(path: Path) -> None:
    assert open_cache(str(path), allow_partial=True).images == open_cache(path, allow_partial=True).images
    create_cache(f"{path}.2", make_corpus(), PROVENANCE, feature_size=6)
    with CacheWriter(f"{path}.2") as writer:
        assert len(writer.pending()) == 10
    assert verify_cache(f"{path}.2").pending == 10


def test_the_root_is_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    create_cache("f.h5", replace(make_corpus(), root=Path("photos")), {}, feature_size=6)
    assert open_cache("f.h5", allow_partial=True).root == tmp_path / "photos"

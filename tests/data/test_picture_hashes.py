"""What the hashes of pictures tell: changed files, equal pictures, leaks; and captions exchanged under features."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image as Picture

from mrnn.data.cache import open_cache
from mrnn.data.cache_creation import create_cache
from mrnn.data.cache_writer import CacheWriter
from mrnn.data.captions import Corpus, Image
from mrnn.data.cli import import_, inspect, verify
from mrnn.data.picture_files import hash_bytes, hash_file, picture_size
from mrnn.data.picture_hashes import check_pictures, describe_equal, equal_pictures
from mrnn.data.verify import verify_cache

SPLITS = ("train", "val", "train", "test", "train", "")
ROWS = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
PROVENANCE = {"backbone": "alexnet", "layer": "fc7", "weights_sha256": "00ff", "annotation_sha256": "old"}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Files 0 to 5, of which 1 and 3 (val and test), 2 and 4 (both train) are equal, and 5 is missing."""
    folder = tmp_path / "root"
    folder.mkdir()
    for n, content in enumerate((b"a", b"b", b"c", b"b", b"c")):
        (folder / f"{n}.jpg").write_bytes(content)
    return folder


@pytest.fixture
def path(root: Path, tmp_path: Path) -> Path:
    images = tuple(Image(f"{n}.jpg", f"{n}.jpg", split, ("a dog",)) for n, split in enumerate(SPLITS))
    create_cache(tmp_path / "feats.h5", Corpus("folder", root, images), PROVENANCE, feature_size=4)
    hashes = np.stack([np.frombuffer(hash_bytes((root / f"{n}.jpg").read_bytes()), np.uint8) for n in range(5)])
    with CacheWriter(tmp_path / "feats.h5") as writer:
        writer.write(np.arange(5), ROWS[:5], hashes=hashes)
        writer.fail(np.array([5]), ["missing: there is no such file"])
    return tmp_path / "feats.h5"


def test_a_file_has_the_hash_of_its_bytes(root: Path) -> None:
    assert hash_file(root / "0.jpg") == hash_bytes(b"a") != hash_bytes(b"b")
    assert len(hash_bytes(b"a")) == 16
    assert hash_file(root / "5.jpg") is None
    assert hash_file(root) is None


def test_sizes_are_of_the_upright_picture(tmp_path: Path) -> None:
    turned = Picture.Exif()
    turned[0x0112] = 6
    Picture.new("RGB", (40, 30)).save(tmp_path / "a.jpg")
    Picture.new("RGB", (40, 30)).save(tmp_path / "b.jpg", exif=turned)
    (tmp_path / "c.jpg").write_bytes(b"\xff\xd8 not much of a picture")
    assert [picture_size(tmp_path / f"{name}.jpg") for name in "abcd"] == [(40, 30), (30, 40), None, None]


def test_changed_vanished_and_appeared_files_are_told_apart(root: Path, path: Path) -> None:
    cache = open_cache(path)
    assert check_pictures(cache, root).same == 5
    (root / "0.jpg").write_bytes(b"other")
    (root / "2.jpg").unlink()
    (root / "5.jpg").write_bytes(b"here now")
    found = check_pictures(cache, root)
    assert (found.same, found.changed, found.vanished, found.appeared) == (3, ("0.jpg",), ("2.jpg",), ("5.jpg",))
    result = CliRunner().invoke(verify, [str(path), "--pictures"])
    assert result.exit_code == 1
    assert "changed: 0.jpg\nvanished: 2.jpg\nappeared: 5.jpg\n" in result.output
    assert CliRunner().invoke(verify, [str(path)]).exit_code == 0


def test_equal_pictures_are_told_and_leaks_loudly(path: Path) -> None:
    found = equal_pictures(open_cache(path))
    assert found.groups == (("1.jpg", "3.jpg"), ("2.jpg", "4.jpg"))
    assert found.leaks == (("1.jpg", "3.jpg"),)
    lines = describe_equal(open_cache(path))
    assert lines == [
        "WARNING: the same picture is in two splits: 1.jpg (val), 3.jpg (test)",
        "equal pictures: 2.jpg, 4.jpg",
    ]
    assert "WARNING: the same picture" in CliRunner().invoke(inspect, [str(path)]).output
    assert json.loads(CliRunner().invoke(inspect, [str(path), "--json"]).output)["leaks"] == [["1.jpg", "3.jpg"]]


def test_pictures_without_a_hash_are_equal_to_none(tmp_path: Path) -> None:
    images = tuple(Image(f"{n}", f"{n}", "train", ("a",)) for n in range(3))
    create_cache(tmp_path / "a.h5", Corpus("folder", tmp_path, images), {}, feature_size=4)
    with CacheWriter(tmp_path / "a.h5") as writer:
        writer.write(np.arange(3), ROWS[:3])
    assert equal_pictures(open_cache(tmp_path / "a.h5")).groups == ()
    assert check_pictures(open_cache(tmp_path / "a.h5"), tmp_path).unknown == 3


def test_our_own_cache_keeps_its_provenance_under_other_captions(root: Path, path: Path, tmp_path: Path) -> None:
    lines = ["image,caption,split", "0.jpg,a corrected caption,test", "4.jpg,two,train", "new.jpg,three,train"]
    (root / "captions.csv").write_text("\n".join(lines))
    for n in (1, 2, 3):
        (root / f"{n}.jpg").unlink()
    output = tmp_path / "again.h5"
    arguments = [str(path), "--dataset", "folder", "--root", str(root), "--output", str(output)]
    result = CliRunner().invoke(import_, arguments)
    assert result.exit_code == 3, result.output
    assert "2 images done, 1 failed, 0 pending; 4 rows of other images left out" in result.output
    old, cache = open_cache(path), open_cache(output)
    assert [image.id for image in cache.images] == ["0.jpg", "4.jpg", "new.jpg"]
    assert cache.images[0].sentences == ("a corrected caption",)
    assert cache.provenance == {
        **PROVENANCE,
        "dataset": "folder",
        "annotation_sha256": cache.corpus().sha256(),
    }
    np.testing.assert_array_equal(cache.features[:2], old.features[[0, 4]])
    np.testing.assert_array_equal(cache.picture_hashes[:2], old.picture_hashes[[0, 4]])
    assert cache.reasons == {"new.jpg": "no features in feats.h5"}
    assert verify_cache(output).damaged == ()


def test_flickr8k_has_one_pair_of_equal_pictures(real_data: Path, tmp_path: Path) -> None:
    """Both are for training, so nothing leaks."""
    folder = real_data / "flickr8k" / "Flicker8k_Dataset"
    by_hash: dict[bytes | None, list[str]] = {}
    for file in sorted(folder.iterdir()):
        by_hash.setdefault(hash_file(file), []).append(file.name)
    pairs = [names for names in by_hash.values() if len(names) > 1]
    assert pairs == [["2851198725_37b6027625.jpg", "3050606344_af711c726c.jpg"]]

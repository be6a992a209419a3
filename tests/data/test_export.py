"""Caches in the formats of others, and back again."""

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from mrnn.data import export
from mrnn.data.cache import FeatureCache, open_cache
from mrnn.data.cache_creation import create_cache
from mrnn.data.cache_writer import CacheWriter
from mrnn.data.cli import import_
from mrnn.data.datasets import read_dataset
from mrnn.data.errors import CacheError, SettingError
from mrnn.data.exhaustion import DiskFull
from mrnn.data.export import export_cache
from mrnn.data.regions import Regions
from mrnn.data.verify import verify_cache

N, D = 7, 6
SPLITS = ("train", "train", "val", "test", "train", "val", "test")


def make_cache(folder: Path, *, rows: int = 1, dtype: str = "float16", captions: int = 5, failed: int = -1) -> Path:
    """A cache of the `folder` data set in folder/data. captions : of every image; 0 for another number each."""
    (folder / "data").mkdir()
    lines = [
        {"image": f"sub/{n}.jpg", "captions": [f"Nr {n}, way {w} ." for w in range(captions or 1 + n)], "split": split}
        for n, split in enumerate(SPLITS)
    ]
    (folder / "data" / "captions.jsonl").write_text("\n".join(map(json.dumps, lines)))
    corpus = read_dataset("folder", folder / "data")
    provenance = {
        "backbone": "b",
        "dataset": "folder",
        "annotation_sha256": corpus.sha256(),
        "dtype": dtype,
        "limit": 0,
    }
    path = folder / "feats.h5"
    create_cache(path, corpus, provenance, feature_size=D, dtype=dtype, rows_per_image=rows)
    draw = np.random.default_rng(0)
    features = draw.normal(size=(N, rows, D)).astype(np.float32)
    valid = np.ones((N, rows), np.uint8)
    if rows > 1:
        valid[2, -1] = 0
    features[valid == 0] = 0
    regions = Regions(
        draw.uniform(0, 50, (N * rows, 4)).astype(np.float32),
        draw.uniform(0, 1, N * rows).astype(np.float32),
        draw.integers(-1, 5, N * rows).astype(np.int32),
        valid.ravel(),
    )
    hashes = draw.integers(0, 256, (N, 16)).astype(np.uint8)
    done = np.array([n for n in range(N) if n != failed])
    with CacheWriter(path) as writer:
        kept = np.repeat(np.arange(N) != failed, rows)
        writer.write(done, features.reshape(-1, D)[kept], regions=regions[kept], hashes=hashes[done])
        writer.fail(writer.pending(), ["broken"] * len(writer.pending()))
    return path


def reimport(folder: Path, exported: Path, *options: str) -> Result:
    arguments = [exported, "--dataset", "folder", "--root", folder / "data", "--output", folder / "again.h5", *options]
    return CliRunner().invoke(import_, list(map(str, arguments)))


def again(folder: Path, exported: Path, *options: str) -> FeatureCache:
    result = reimport(folder, exported, *options)
    assert result.exit_code == 0, result.output
    assert verify_cache(folder / "again.h5").damaged == ()
    return open_cache(folder / "again.h5")


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("rows", [1, 4])
def test_an_npz_comes_back_byte_for_byte(
    tmp_path: Path, rows: int, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "BYTES_AT_ONCE", 3 * rows * D * 4)  # in several parts
    path = make_cache(tmp_path, rows=rows, dtype=dtype)
    assert export_cache(open_cache(path), tmp_path / "x.npz") == (N, 0)
    again(tmp_path, tmp_path / "x.npz")
    assert (tmp_path / "again.h5").read_bytes() == path.read_bytes()


def test_what_an_npz_holds(tmp_path: Path) -> None:
    cache = open_cache(make_cache(tmp_path, captions=0))
    export_cache(cache, tmp_path / "x.npz")
    with np.load(tmp_path / "x.npz", allow_pickle=False) as found:
        np.testing.assert_array_equal(found["feats"], cache.features)
        assert found["ids"].tolist() == [image.id for image in cache.images]
        assert found["split"].tolist() == list(SPLITS)
        of_image = [
            [c for c, n in zip(found["caption"], found["caption_image"], strict=True) if n == i] for i in range(N)
        ]
        assert of_image == [list(image.sentences) for image in cache.images]
        assert json.loads(str(found["provenance"])) == cache.provenance
    first = (tmp_path / "x.npz").read_bytes()
    export_cache(cache, tmp_path / "x.npz", overwrite=True)
    assert (tmp_path / "x.npz").read_bytes() == first


def test_images_that_failed_are_left_out(tmp_path: Path) -> None:
    path = make_cache(tmp_path, failed=3)
    assert export_cache(open_cache(path), tmp_path / "x.npz") == (N - 1, 1)
    assert reimport(tmp_path, tmp_path / "x.npz").exit_code == 3
    cache = open_cache(tmp_path / "again.h5")
    assert cache.reasons == {"sub/3.jpg": "no features in x.npz"}
    np.testing.assert_array_equal(cache.features[cache.done()], open_cache(path).features[cache.done()])
    assert export_cache(open_cache(path), tmp_path / "y.npz", split="val") == (2, N - 2)


@pytest.mark.parametrize("change", ["provenance", "valid", "ids", "feats"])
def test_an_npz_that_was_changed_is_refused(tmp_path: Path, change: str) -> None:
    export_cache(open_cache(make_cache(tmp_path, rows=4)), tmp_path / "x.npz")
    with np.load(tmp_path / "x.npz") as found:
        arrays = dict(found)
    other = {"provenance": np.array("[1]"), "valid": np.ones(3, np.uint8), "ids": np.array(["a"]), "feats": np.ones(5)}
    np.savez(tmp_path / "x.npz", **(arrays | {change: other[change]}))
    result = reimport(tmp_path, tmp_path / "x.npz")
    assert result.exit_code == 1
    assert f"error: {tmp_path / 'x.npz'}: " in result.stderr


@pytest.mark.parametrize("captions", [5, 0])
def test_vse_files_come_back(tmp_path: Path, captions: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "BYTES_AT_ONCE", 3 * D * 4)
    path = make_cache(tmp_path, captions=captions)
    assert export_cache(open_cache(path), tmp_path / "vse") == (N, 0)
    parts = {f"{split}_{part}" for split in ("train", "dev", "test") for part in ("ims.npy", "caps.txt", "ids.txt")}
    assert {file.name for file in (tmp_path / "vse").iterdir()} == {*parts, "mrnn.json"}
    for split in ("train", "dev", "test"):  # as their data loaders do: five captions for each row, or one
        rows = len(np.load(tmp_path / "vse" / f"{split}_ims.npy"))
        lines = (tmp_path / "vse" / f"{split}_caps.txt").read_text().splitlines()
        assert len(lines) == (5 if captions else 1) * rows
        assert len((tmp_path / "vse" / f"{split}_ids.txt").read_text().splitlines()) == rows
    cache = again(tmp_path, tmp_path / "vse")
    np.testing.assert_array_equal(cache.features, open_cache(path).features)
    (tmp_path / "vse" / "train_ids.txt").unlink()
    (tmp_path / "again.h5").unlink()
    np.testing.assert_array_equal(again(tmp_path, tmp_path / "vse").features, open_cache(path).features)


def test_vse_files_of_regions_leave_the_whole_picture_out(tmp_path: Path) -> None:
    path = make_cache(tmp_path, rows=4)
    export_cache(open_cache(path), tmp_path / "scan", split="train")
    ours = open_cache(path).features.reshape(N, 4, D)
    found = np.load(tmp_path / "scan" / "train_ims.npy")
    np.testing.assert_array_equal(found, ours[[0, 1, 4], 1:])
    assert not (tmp_path / "scan" / "dev_ims.npy").exists()


@pytest.mark.parametrize("rows", [1, 4])
def test_parquet(tmp_path: Path, rows: int) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="the extra parquet is not installed")
    cache = open_cache(make_cache(tmp_path, rows=rows))
    export_cache(cache, tmp_path / "x.parquet")
    table = parquet.read_table(tmp_path / "x.parquet")
    found = table.to_pylist()
    assert [row["id"] for row in found] == [image.id for image in cache.images]
    assert [tuple(row["captions"]) for row in found] == [image.sentences for image in cache.images]
    ours = cache.features.reshape(N, rows, D)
    valid = cache.regions.valid.reshape(N, rows).astype(bool)
    for n, row in enumerate(found):
        np.testing.assert_array_equal(np.array(row["features"]).reshape(-1, D), ours[n][valid[n]])
        if rows > 1:
            np.testing.assert_array_equal(row["rectangles"], cache.regions.rectangles.reshape(N, rows, 4)[n][valid[n]])
    assert json.loads(table.schema.metadata[b"mrnn-features"])["backbone"] == "b"
    with pytest.raises(SettingError, match="exists; pass --overwrite"):
        export_cache(cache, tmp_path / "x.parquet")
    export_cache(cache, tmp_path / "x.parquet", overwrite=True)


def test_parquet_without_pyarrow_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(SettingError, match=r"pip install 'mrnn\[parquet\]'"):
        export_cache(open_cache(make_cache(tmp_path)), tmp_path / "x.parquet")
    assert not (tmp_path / "x.parquet").exists()


def test_nothing_of_others_is_replaced(tmp_path: Path) -> None:
    cache = open_cache(make_cache(tmp_path))
    np.savez(tmp_path / "theirs.npz", a=np.ones(3))
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "train_ims.npy").write_bytes(b"precious")
    for overwrite in (False, True):
        with pytest.raises(SettingError, match="is not an export that mrnn wrote"):
            export_cache(cache, tmp_path / "theirs.npz", overwrite=overwrite)
        with pytest.raises(SettingError, match="which mrnn did not write and would replace"):
            export_cache(cache, tmp_path / "theirs", overwrite=overwrite)
    assert (tmp_path / "theirs" / "train_ims.npy").read_bytes() == b"precious"
    for name, says in (("x.npz", "exists; pass --overwrite"), ("x", "holds an earlier export; pass --overwrite")):
        export_cache(cache, tmp_path / name)
        with pytest.raises(SettingError, match=says):
            export_cache(cache, tmp_path / name)
        export_cache(cache, tmp_path / name, overwrite=True)
    with pytest.raises(SettingError, match="to a file .npz or .parquet, or to a folder"):
        export_cache(cache, tmp_path / "x.csv")


def test_an_export_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = open_cache(make_cache(tmp_path))

    def full(*arguments: object, **options: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(zipfile.ZipFile, "open", full)
    with pytest.raises(DiskFull, match="no space left on the disk"):
        export_cache(cache, tmp_path / "x.npz")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "feats.h5"]


def test_a_cache_without_images_of_a_split_is_refused(tmp_path: Path) -> None:
    path = make_cache(tmp_path, failed=3)
    cache = open_cache(path)
    cache.states[6] = 2
    with pytest.raises(CacheError, match="has no image of test to export"):
        export_cache(cache, tmp_path / "x.npz", split="test")

"""Features from elsewhere become a cache, joined with captions by id."""

import hashlib
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from mrnn.data.cache import open_cache
from mrnn.data.cli import import_
from mrnn.data.errors import CacheError
from mrnn.data.foreign.formats import Given, read_sources
from mrnn.data.verify import verify_cache

IDS = ("a.png", "b.png", "c.png")
FEATURES = np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A `folder` data set of three pictures without their files, which features from elsewhere do not need."""
    folder = tmp_path / "data"
    folder.mkdir()
    rows = ["image,caption,split"]
    rows += [
        f"{name},a picture of {name[0]},{split}" for name, split in zip(IDS, ("train", "val", "test"), strict=True)
    ]
    (folder / "captions.csv").write_text("\n".join(rows))
    return folder


def run(features: Path, root: Path, *options: str) -> Result:
    output = features.with_name("feats.h5")
    arguments = [str(features), "--dataset", "folder", "--root", str(root), "--output", str(output), *options]
    return CliRunner().invoke(import_, arguments)


@pytest.mark.parametrize("form", ["npz", "npy", "h5", "mat"])
def test_every_format_gives_the_same_rows(tmp_path: Path, root: Path, form: str) -> None:
    path, options = tmp_path / f"x.{form}", []
    order = [2, 0, 1]
    ids = [IDS[i] for i in order]
    if form == "npz":
        np.savez(path, feats=FEATURES[order], ids=np.array(ids))
    elif form == "h5":
        with h5py.File(path, "w") as file:
            file["deep/vectors"] = FEATURES[order]
            file["deep/names"] = ids
        options = ["--features-name", "deep/vectors", "--ids-name", "deep/names"]
    else:
        if form == "npy":
            np.save(path, FEATURES[order])
        else:
            from scipy.io import savemat

            savemat(path, {"feats": FEATURES[order].T})
        (tmp_path / "ids.txt").write_text("\n".join(ids) + "\n")
        options = ["--ids", str(tmp_path / "ids.txt")]
    result = run(path, root, *options)
    assert result.exit_code == 0, result.output
    cache = open_cache(tmp_path / "feats.h5")
    np.testing.assert_array_equal(cache.features, FEATURES.astype(np.float16))
    assert cache.images[0].sentences == ("a picture of a",)
    assert cache.provenance["backbone"] == "imported"
    assert cache.provenance["weights"] == str(path)
    assert verify_cache(tmp_path / "feats.h5").damaged == ()


@pytest.mark.parametrize("form", ["\ufeff{}", "{}\r\n", "\ufeff{}\n\n"])
def test_lists_of_ids_are_read_as_other_text_is(tmp_path: Path, root: Path, form: str) -> None:
    np.save(tmp_path / "x.npy", FEATURES)
    (tmp_path / "ids.txt").write_bytes(form.format("\r\n".join(IDS)).encode())
    result = run(tmp_path / "x.npy", root, "--ids", str(tmp_path / "ids.txt"))
    assert result.exit_code == 0, result.output
    assert not open_cache(tmp_path / "feats.h5").reasons


@pytest.mark.parametrize(("encoding", "says"), [("utf-16", "UTF-16 text"), ("latin-1", "line 2: not UTF-8")])
def test_lists_of_ids_in_another_encoding_are_an_error_with_a_remedy(
    tmp_path: Path, root: Path, encoding: str, says: str
) -> None:
    np.save(tmp_path / "x.npy", FEATURES)
    (tmp_path / "ids.txt").write_bytes("a.png\ncafé.png\nc.png\n".encode(encoding))
    result = run(tmp_path / "x.npy", root, "--ids", str(tmp_path / "ids.txt"))
    assert result.exit_code == 1
    assert says in result.output
    assert "save the file as UTF-8" in result.output


def test_without_ids_the_order_is_that_of_the_data_set(tmp_path: Path, root: Path) -> None:
    np.save(tmp_path / "x.npy", FEATURES.T)
    assert run(tmp_path / "x.npy", root).exit_code == 0
    np.testing.assert_array_equal(open_cache(tmp_path / "feats.h5").features, FEATURES.astype(np.float16))


def test_images_without_features_fail_and_strangers_are_listed(tmp_path: Path, root: Path) -> None:
    np.savez(tmp_path / "x.npz", feats=FEATURES[:2], ids=np.array(["b.png", "z.png"]))
    result = run(tmp_path / "x.npz", root)
    assert result.exit_code == 3
    cache = open_cache(tmp_path / "feats.h5")
    assert cache.reasons == {"a.png": "no features in x.npz", "c.png": "no features in x.npz"}
    assert ("features without an image", "z.png") in [(p.kind, p.subject) for p in cache.problems]
    np.testing.assert_array_equal(cache.features[cache.done()], FEATURES[:1].astype(np.float16))


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"feats": FEATURES[:2]}, r"shape \(2, 5\), and the number of images, 3, fits neither axis"),
        ({"feats": np.ones((3, 3))}, "fits both axes; pass --orientation"),
        ({"other": FEATURES}, "has no 'feats'; it has other"),
        ({"feats": np.ones(3)}, "not a number matrix"),
        ({"feats": FEATURES, "ids": np.array(["x", "y", "z"])}, "no id is an image of folder"),
        ({"feats": FEATURES, "ids": np.array(["a.png", "a.png", "b.png"])}, "some ids occur twice"),
    ],
)
def test_what_does_not_fit_is_one_sentence(tmp_path: Path, root: Path, arrays: dict, message: str) -> None:
    np.savez(tmp_path / "x.npz", **arrays)
    result = run(tmp_path / "x.npz", root)
    assert result.exit_code == 1
    with pytest.raises(AssertionError, match=message):
        raise AssertionError(result.stderr)
    assert not (tmp_path / "feats.h5").exists()


def test_a_square_matrix_takes_the_orientation_given(tmp_path: Path, root: Path) -> None:
    square = np.arange(9.0).reshape(3, 3)
    np.savez(tmp_path / "x.npz", feats=square)
    assert run(tmp_path / "x.npz", root, "--orientation", "columns").exit_code == 0
    np.testing.assert_array_equal(open_cache(tmp_path / "feats.h5").features, square.T)


def test_pickled_arrays_are_not_loaded(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(CacheError, match="cannot be read as a features file"):
        read_sources([tmp_path / "x.npy"], Given(count=1))


def test_hdf5_that_leads_to_other_files_is_not_followed(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["feats"] = FEATURES
    with h5py.File(tmp_path / "link.h5", "w") as file:
        file["feats"] = h5py.ExternalLink("other.h5", "/feats")
    with h5py.File(tmp_path / "virtual.h5", "w") as file:
        layout = h5py.VirtualLayout(shape=FEATURES.shape, dtype=FEATURES.dtype)
        layout[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "feats", shape=FEATURES.shape)
        file.create_virtual_dataset("feats", layout)
    with h5py.File(tmp_path / "external.h5", "w") as file:
        file.create_dataset(
            "feats", FEATURES.shape, FEATURES.dtype, external=[(str(tmp_path / "raw"), 0, h5py.h5f.UNLIMITED)]
        )
    for name, says in (("link", "has no 'feats'"), ("virtual", "in another file"), ("external", "in another file")):
        with pytest.raises(CacheError, match=says):
            read_sources([tmp_path / f"{name}.h5"], Given(count=3))


def test_rows_are_joined_with_another_reader_by_id(tmp_path: Path) -> None:
    data = tmp_path / "flickr8k"
    (data / "images").mkdir(parents=True)
    (data / "captions.txt").write_text("image,caption\nb.jpg,B .\na.jpg,A .\n")
    np.savez(tmp_path / "x.npz", feats=FEATURES[:2], ids=np.array(["a.jpg", "b.jpg"]))
    output = tmp_path / "feats.h5"
    arguments = [str(tmp_path / "x.npz"), "--dataset", "flickr8k", "--root", str(data), "--output", str(output)]
    result = CliRunner().invoke(import_, arguments)
    assert result.exit_code == 0, result.output
    cache = open_cache(output)
    assert [(image.id, image.sentences) for image in cache.images] == [("b.jpg", ("B .",)), ("a.jpg", ("A .",))]
    np.testing.assert_array_equal(cache.features, FEATURES[1::-1].astype(np.float16))


@given(content=st.binary(max_size=300), magic=st.sampled_from([b"", b"PK\x03\x04", b"\x93NUMPY\x01\x00", b"MATLAB 5"]))
def test_any_bytes_give_our_own_error(tmp_path_factory: pytest.TempPathFactory, content: bytes, magic: bytes) -> None:
    path = tmp_path_factory.mktemp("fuzz") / "x.bin"
    path.write_bytes(magic + content)
    with pytest.raises(CacheError):
        read_sources([path], Given(count=3))


def test_neuraltalks_own_features(tmp_path: Path, real_data: Path) -> None:
    loadmat = pytest.importorskip("scipy.io", reason="the extra analysis is not installed").loadmat
    source = real_data / "neuraltalk-example"
    names = (source / "tasks.txt").read_text().split()
    folder = tmp_path / "data"
    folder.mkdir()
    for name in names:
        shutil.copy(source / name, folder)
    (folder / "captions.csv").write_text("image,caption\n" + "".join(f"{name},a picture\n" for name in names))
    shutil.copy(source / "vgg_feats.mat", tmp_path)
    result = run(tmp_path / "vgg_feats.mat", folder, "--ids", str(source / "tasks.txt"))
    assert result.exit_code == 0, result.output
    cache = open_cache(tmp_path / "feats.h5")
    assert cache.features.shape == (16, 4096)
    assert cache.features.min() >= 0
    assert 0.25 < (cache.features > 0).mean() < 0.33
    columns = loadmat(source / "vgg_feats.mat")["feats"]
    rows = {image.id: row for image, row in zip(cache.images, cache.features, strict=True)}
    for number, name in enumerate(names):
        np.testing.assert_array_equal(rows[name], columns[:, number].astype(np.float16))
    digest = hashlib.sha256((source / "vgg_feats.mat").read_bytes()).hexdigest()
    assert (cache.provenance["backbone"], cache.provenance["weights_sha256"]) == ("imported", digest)
    (tmp_path / "few.txt").write_text("\n".join(names[:-1]))
    few = run(tmp_path / "vgg_feats.mat", folder, "--ids", str(tmp_path / "few.txt"))
    assert few.exit_code == 1
    assert "the number of images, 15, fits neither axis" in few.stderr

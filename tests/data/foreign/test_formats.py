"""Files in the true form of other projects, made here: the right rows on the right images, wrong files refused."""

import base64
import csv
import json
import pickle
from pathlib import Path

import h5py
import numpy as np
import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from mrnn.data.cache import FeatureCache, open_cache
from mrnn.data.cli import import_
from mrnn.data.errors import CacheError
from mrnn.data.foreign.formats import FORMATS, Given, guess_format, read_sources
from mrnn.data.foreign.ids import read_ids
from mrnn.data.verify import verify_cache

PATHS = ("val/COCO_val_07.jpg", "b.jpg", "val/COCO_val_12.jpg", "d.jpg")
SPLITS = ("train", "train", "val", "test")
N, K, D = len(PATHS), 3, 5
RNG = np.random.default_rng(0)
WHOLE = RNG.normal(size=(N, D)).astype(np.float32)
REGIONS = RNG.normal(size=(N, K, D)).astype(np.float32)
BOXES = np.array([[[0, 1, 10 + i, 20], [5, 5, 40, 30 + i], [1, 2, 3, 4]] for i in range(N)], np.float32)
SIZE = (40, 33)  # of every picture; the second box reaches its right edge


def captions(number: int) -> list[str]:
    return [f"Picture {number}, said in way {way} ." for way in range(5)]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A `folder` data set of four pictures, without their files."""
    folder = tmp_path / "data"
    folder.mkdir()
    lines = [
        json.dumps({"image": path, "captions": captions(number), "split": split})
        for number, (path, split) in enumerate(zip(PATHS, SPLITS, strict=True))
    ]
    (folder / "captions.jsonl").write_text("\n".join(lines))
    return folder


def run(root: Path, *arguments: object, output: str = "feats.h5") -> Result:
    fixed = ["--dataset", "folder", "--root", root, "--dtype", "float32", "--output", root.parent / output]
    return CliRunner().invoke(import_, list(map(str, [*arguments, *fixed])))


def imported(root: Path, *arguments: object) -> FeatureCache:
    result = run(root, *arguments)
    assert result.exit_code == 0, result.output
    assert verify_cache(root.parent / "feats.h5").damaged == ()
    return open_cache(root.parent / "feats.h5")


def check_regions(cache: FeatureCache, *, whole: np.ndarray | None = None, boxes: bool = True) -> None:
    """Every image has its own regions; row 0 is `whole`, or their mean."""
    rows = cache.features.reshape(N, 1 + K, D)
    np.testing.assert_array_equal(rows[:, 1:], REGIONS)
    np.testing.assert_allclose(rows[:, 0], REGIONS.mean(1) if whole is None else whole, rtol=1e-5)
    assert cache.regions.valid.all()
    assert not cache.regions.scores.reshape(N, 1 + K)[:, 1:].any()
    rectangles = cache.regions.rectangles.reshape(N, 1 + K, 4)
    expected = np.concatenate([BOXES[..., :2], BOXES[..., 2:] - BOXES[..., :2]], -1)
    np.testing.assert_array_equal(rectangles[:, 1:], expected if boxes else 0)


# ---- VSE++ and SCAN


def write_vse(
    folder: Path, split: str, numbers: list[int], features: np.ndarray, *, repeat: int = 1, ids: list[str] | None = None
) -> None:
    folder.mkdir(exist_ok=True)
    np.save(folder / f"{split}_ims.npy", np.repeat(features[numbers], repeat, axis=0))
    lines = [line.lower().replace(",", "") for number in numbers for line in captions(number)]  # tokenised as they do
    (folder / f"{split}_caps.txt").write_text("\n".join(lines) + "\n")
    if ids is not None:
        (folder / f"{split}_ids.txt").write_text("\n".join(ids) + "\n")


@pytest.mark.parametrize("repeat", [1, 5])
@pytest.mark.parametrize("ids", [None, "names", "of each caption", "numbers of another file"])
def test_vse_folders_are_joined_by_ids_or_captions(tmp_path: Path, root: Path, repeat: int, ids: str | None) -> None:
    for split, numbers in (("train", [1, 0]), ("dev", [2]), ("test", [3])):
        names = {
            None: None,
            "names": [Path(PATHS[n]).stem for n in numbers for _ in range(repeat)],
            "of each caption": [PATHS[n] for n in numbers for _ in range(5)],
            "numbers of another file": [str(7 - n) for n in numbers],  # Karpathy's imgid, say
        }[ids]
        write_vse(tmp_path / "f30k_precomp", split, numbers, WHOLE, repeat=repeat, ids=names)
    cache = imported(root, tmp_path / "f30k_precomp")
    np.testing.assert_array_equal(cache.features, WHOLE)
    assert cache.rows_per_image == 1


def test_ids_that_contradict_the_captions_are_not_used(tmp_path: Path, root: Path) -> None:
    write_vse(tmp_path / "x", "test", [0, 1, 2, 3], WHOLE, ids=[PATHS[n] for n in (3, 2, 1, 0)])
    result = run(root, tmp_path / "x" / "test_ims.npy")
    assert "joined by captions" in result.stderr
    np.testing.assert_array_equal(open_cache(tmp_path / "feats.h5").features, WHOLE)


def test_scan_has_regions_without_places(tmp_path: Path, root: Path) -> None:
    write_vse(tmp_path / "x", "train", [3, 1, 0, 2], REGIONS, ids=[Path(PATHS[n]).name for n in (3, 1, 0, 2)])
    cache = imported(root, tmp_path / "x")
    check_regions(cache, boxes=False)
    assert cache.provenance["regions"] == "imported"
    assert cache.provenance["regions_per_image"] == K
    assert imported_rows(root, tmp_path / "x", keep=1) == (2, REGIONS[0, 0].tolist())
    assert imported_rows(root, tmp_path / "x", keep=0)[0] == 1


def imported_rows(root: Path, path: Path, *, keep: int) -> tuple[int, list[float]]:
    output = f"feats-{keep}.h5"
    assert run(root, path, "--regions-per-image", keep, output=output).exit_code == 0
    cache = open_cache(root.parent / output)
    return cache.rows_per_image, cache.features[cache.rows_per_image - 1].tolist()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda x: (x / "train_caps.txt").write_text("a\n" * 7), "4 rows, and 7 captions"),
        (lambda x: (x / "train_caps.txt").unlink(), "put train_caps.txt or train_ids.txt beside it"),
        (lambda x: (x / "train_ids.txt").write_text("a\nb\n"), "2 ids for 4 rows"),
        (lambda x: write_vse(x, "test", [1], WHOLE), "has two rows, "),
        (lambda x: np.save(x / "train_ims.npy", np.ones(4)), "of shape (4,), not numbers"),
        (lambda x: np.save(x / "train_ims.npy", np.array([{}])), "x: "),
        (lambda x: (x / "train_ims.npy").write_bytes((x / "train_ims.npy").read_bytes()[:-9]), "x: "),
    ],
)
def test_vse_files_that_do_not_fit(tmp_path: Path, root: Path, change: object, says: str) -> None:
    write_vse(tmp_path / "x", "train", [0, 1, 2, 3], WHOLE)
    change(tmp_path / "x")  # type: ignore[operator]
    refused(run(root, tmp_path / "x"), says, root)


def refused(result: Result, says: str, root: Path) -> None:
    assert result.exit_code == 1, result.output
    assert says in result.stderr
    assert result.stderr.count("\n") == 3  # two notes on the data set, and the sentence
    assert not (root.parent / "feats.h5").exists()


# ---- bottom-up attention


def base64_of(array: np.ndarray) -> str:
    return base64.b64encode(array.tobytes()).decode()


def write_tsv(path: Path, numbers: list[int], *, lxmert: bool = False) -> None:
    with path.open("a", newline="") as stream:
        writer = csv.writer(stream, delimiter="\t")  # ends lines by \r\n, as theirs does
        for n in numbers:
            boxes, features = base64_of(BOXES[n]), base64_of(REGIONS[n])
            if lxmert:
                objects = [
                    base64_of(np.array([7, 8, 9])),
                    base64_of(np.array([0.2, 0.9, 0.5], np.float32)),
                    base64_of(np.zeros(3, np.int64)),
                    base64_of(np.zeros(3, np.float32)),
                ]
                writer.writerow([Path(PATHS[n]).stem, SIZE[1], SIZE[0], *objects, K, boxes, features])
            else:
                writer.writerow([PATHS[n], SIZE[0], SIZE[1], K, boxes, features])


def test_bottom_up_attention_in_several_files(tmp_path: Path, root: Path) -> None:
    write_tsv(tmp_path / "train.tsv.0", [2, 0])
    write_tsv(tmp_path / "train.tsv.1", [3, 1])
    cache = imported(root, tmp_path / "train.tsv.0", tmp_path / "train.tsv.1")
    check_regions(cache)
    assert cache.regions.rectangles[0].tolist() == [0, 0, *SIZE]


def test_lxmert_has_scores_and_classes(tmp_path: Path, root: Path) -> None:
    write_tsv(tmp_path / "x.tsv", [1, 0, 3, 2], lxmert=True)
    cache = imported(root, tmp_path / "x.tsv")
    best_first = [1, 2, 0]
    np.testing.assert_array_equal(cache.features.reshape(N, 1 + K, D)[:, 1:], REGIONS[:, best_first])
    np.testing.assert_allclose(cache.regions.scores[:4], [1, 0.9, 0.5, 0.2])
    assert cache.regions.classes[:4].tolist() == [-1, 8, 9, 7]
    np.testing.assert_array_equal(cache.regions.rectangles[1, :2], BOXES[0, 1, :2])
    assert cache.regions.rectangles[0].tolist() == [0, 0, *SIZE]


def test_images_with_fewer_regions_have_rows_that_are_not_valid(tmp_path: Path, root: Path) -> None:
    write_tsv(tmp_path / "x.tsv", [0, 1, 2])
    with (tmp_path / "x.tsv").open("a") as stream:
        stream.write("\t".join([PATHS[3], "40", "33", "1", base64_of(BOXES[3, :1]), base64_of(REGIONS[3, :1])]) + "\n")
    cache = imported(root, tmp_path / "x.tsv")
    assert cache.regions.valid.reshape(N, -1).sum(1).tolist() == [4, 4, 4, 2]
    assert not cache.features[-2:].any()
    np.testing.assert_array_equal(cache.features[-3], REGIONS[3, 0])


@pytest.mark.parametrize(
    ("column", "value", "says"),
    [
        (5, "AAAA", "line 2: 3 bytes of features do not divide"),
        (5, None, "line 2: 5 columns, not 6"),
        (3, "x", "line 2: num_boxes is b'x'"),
        (3, "0", "do not divide into float32 for 0 boxes"),
        (4, "b'AAAA'", "line 2: boxes is not base64"),
        (4, "AAAA", "line 2: boxes has 3 bytes"),
        (4, base64_of(-BOXES[1]), "line 2: a box whose right or lower edge"),
        (4, base64_of(BOXES[1] * np.float32(np.nan)), "not finite"),
        (5, base64_of(REGIONS[1, :, :4]), "line 2: 4 numbers for a box, and 5 in line 1"),
        (0, PATHS[0], "has two rows, "),
        (1, "9" * 30, "line 2: image_w is "),
    ],
)
def test_damaged_lines_are_named(tmp_path: Path, root: Path, column: int, value: str | None, says: str) -> None:
    write_tsv(tmp_path / "x.tsv", [0, 1, 2, 3])
    lines = [line.split("\t") for line in (tmp_path / "x.tsv").read_text().splitlines()]
    lines[1][column : column + 1] = [] if value is None else [value]
    (tmp_path / "x.tsv").write_text("".join("\t".join(line) + "\n" for line in lines))
    refused(run(root, tmp_path / "x.tsv"), says, root)


def test_a_file_of_lines_that_is_cut_off(tmp_path: Path, root: Path) -> None:
    write_tsv(tmp_path / "x.tsv", [0, 1])
    content = (tmp_path / "x.tsv").read_bytes()
    (tmp_path / "x.tsv").write_bytes(content[:-6])
    refused(run(root, tmp_path / "x.tsv"), "line 2: ", root)


# ---- neuraltalk2


def write_neuraltalk2(folder: Path, parts: str, order: list[int], *, named_by: str = "file_path") -> Path:
    """cocotalk.json as prepro.py makes it, with cocotalk_fc.h5 or cocotalk_att.h5 or both; returns the first."""
    images = [{"split": SPLITS[n], "id": 7, named_by: PATHS[n]} for n in order]
    words = {"1": "picture", "2": "UNK"}
    (folder / "cocotalk.json").write_text(json.dumps({"ix_to_word": words, "images": images}))
    for part in parts.split():
        with h5py.File(folder / f"cocotalk_{part}.h5", "w") as file:
            file[part] = {"fc": WHOLE, "att": REGIONS}[part][order]
    return folder / f"cocotalk_{parts.split()[0]}.h5"


@pytest.mark.parametrize("parts", ["fc", "att", "fc att", "att fc"])
def test_rows_are_in_the_order_of_the_list_of_neuraltalk2(tmp_path: Path, root: Path, parts: str) -> None:
    cache = imported(root, write_neuraltalk2(tmp_path, parts, [2, 0, 3, 1]))
    if parts == "fc":
        np.testing.assert_array_equal(cache.features, WHOLE)
    else:
        check_regions(cache, whole=WHOLE if "fc" in parts else None, boxes=False)


def test_a_list_of_neuraltalk2_without_paths_has_ids(tmp_path: Path, root: Path) -> None:
    cache = imported(root, write_neuraltalk2(tmp_path, "fc", [1, 0, 3, 2], named_by="id"))
    np.testing.assert_array_equal(cache.features, WHOLE)


def test_a_grid_of_neuraltalk2s_successors_is_regions(tmp_path: Path, root: Path) -> None:
    file = write_neuraltalk2(tmp_path, "att", [0, 1, 2, 3])
    grid = np.concatenate([REGIONS, REGIONS[:, :1]], axis=1).reshape(N, 2, 2, D)
    with h5py.File(file, "a") as opened:
        del opened["att"]
        opened["att"] = grid
    features = imported(root, file).features.reshape(N, 5, D)
    np.testing.assert_array_equal(features[:, 1:], grid.reshape(N, 4, D))
    np.testing.assert_allclose(features[:, 0], grid.mean(axis=(1, 2)), atol=1e-6)


def test_files_of_neuraltalk2_that_do_not_fit(tmp_path: Path, root: Path) -> None:
    with h5py.File(tmp_path / "cocotalk.h5", "w") as file:  # what prepro.py makes
        file["images"] = np.zeros((N, 3, 8, 8), np.uint8)
        file["labels"], file["label_length"] = np.ones((5 * N, 16), np.uint32), np.ones(5 * N, np.uint32)
    refused(run(root, tmp_path / "cocotalk.h5"), "holds the pictures themselves, not features", root)
    file = write_neuraltalk2(tmp_path, "fc", [0, 1, 2, 3])
    content = json.loads((tmp_path / "cocotalk.json").read_text())
    (tmp_path / "cocotalk.json").write_text(json.dumps({**content, "images": content["images"][:3]}))
    refused(run(root, file), "4 images, but 3 ids", root)
    (tmp_path / "cocotalk.json").unlink()
    refused(run(root, file, "--format", "neuraltalk2"), "give --ids FILE, or put cocotalk.json beside it", root)
    (tmp_path / "other").mkdir()
    file = write_neuraltalk2(tmp_path / "other", "fc", [0, 1, 2, 3])
    with h5py.File(file, "a") as opened:
        del opened["fc"]
        opened["fc"] = REGIONS
    refused(run(root, file), "fc has shape (4, 3, 5)", root)


# ---- updown


def write_updown(path: Path, order: list[int], *, adaptive: bool = False) -> None:
    shares = np.concatenate([BOXES / np.tile(SIZE, 2), np.zeros((N, K, 2))], -1).astype(np.float32)
    with h5py.File(path, "w") as file:
        for name, data in (("image_features", REGIONS), ("image_bb", BOXES), ("spatial_features", shares)):
            file.create_dataset(name, data=np.concatenate(data[order]) if adaptive else data[order], dtype="f")
        if adaptive:
            file["pos_boxes"] = np.array([[K * n, K * n + K] for n in range(N)])


@pytest.mark.parametrize("adaptive", [False, True])
def test_updown_with_ids_as_json(tmp_path: Path, root: Path, adaptive: bool) -> None:
    order = [2, 3, 1, 0]
    write_updown(tmp_path / "train36.hdf5", order, adaptive=adaptive)
    rows = {PATHS[n]: row for row, n in enumerate(order)}
    (tmp_path / "train36_imgid2idx.json").write_text(json.dumps(rows))
    cache = imported(root, tmp_path / "train36.hdf5")
    check_regions(cache)
    assert cache.regions.rectangles[0].tolist() == [0, 0, SIZE[0], round(20 / 20 * 33)]


def test_a_pickle_of_ids_is_refused_with_the_way_out(tmp_path: Path, root: Path) -> None:
    write_updown(tmp_path / "train36.hdf5", [0, 1, 2, 3])
    rows = {path: row for row, path in enumerate(PATHS)}
    (tmp_path / "train36_imgid2idx.pkl").write_bytes(pickle.dumps(rows, protocol=2))
    refused(run(root, tmp_path / "train36.hdf5"), "mrnn does not read it; if you trust it, python -c", root)
    refused(run(root, tmp_path / "train36.hdf5", "--ids", tmp_path / "train36_imgid2idx.pkl"), "can run any code", root)
    # What the sentence says to type does make the file.
    (tmp_path / "train36_imgid2idx.json").write_text(
        json.dumps(pickle.loads((tmp_path / "train36_imgid2idx.pkl").read_bytes()))
    )
    check_regions(imported(root, tmp_path / "train36.hdf5"))


@pytest.mark.parametrize(
    ("name", "data", "says"),
    [
        ("image_bb", BOXES[:2], "image_bb has shape"),
        ("image_features", WHOLE, "not a form of updown"),
        ("image_features", None, "is none of .mat"),
        ("ids", {"a": 0}, "4 images, but 1 ids"),
        ("ids", {"a": 0, "b": 0}, "every row once"),
        ("ids", [1.5], "entry 0: 1.5 is not an image id"),
        ("ids", None, "put train36_imgid2idx.json beside it"),
    ],
)
def test_updown_files_that_do_not_fit(tmp_path: Path, root: Path, name: str, data: object, says: str) -> None:
    path = tmp_path / "train36.hdf5"
    write_updown(path, [0, 1, 2, 3])
    (tmp_path / "train36_imgid2idx.json").write_text(json.dumps({path: row for row, path in enumerate(PATHS)}))
    if name == "ids":
        (tmp_path / "train36_imgid2idx.json").write_text(json.dumps(data))
        if data is None:
            (tmp_path / "train36_imgid2idx.json").unlink()
    elif data is None:
        path.write_bytes(b"nothing")
    else:
        with h5py.File(path, "a") as file:
            del file[name]
            file[name] = data
    refused(run(root, path), says, root)


# ---- ImageCaptioning.pytorch


def write_parts(folder: Path, parts: str, *, prefix: str = "") -> None:
    for part in parts.split():
        (folder / (prefix + part)).mkdir(parents=True)
    for n, path in enumerate(PATHS):
        name = Path(path).stem
        if "fc" in parts:
            np.save(folder / f"{prefix}fc" / name, WHOLE[n])
        if "att" in parts:
            np.savez_compressed(folder / f"{prefix}att" / name, **{"feat" if n else "z": REGIONS[n]})
        if "box" in parts:
            np.save(folder / f"{prefix}box" / name, BOXES[n])


@pytest.mark.parametrize("given_folder", ["", "cocobu_att"])
@pytest.mark.parametrize("parts", ["fc att box", "att box", "att"])
def test_imagecaptioning_folders(tmp_path: Path, root: Path, parts: str, given_folder: str) -> None:
    write_parts(tmp_path / "bu", parts, prefix="cocobu_")
    cache = imported(root, tmp_path / "bu" / given_folder)
    check_regions(cache, whole=WHOLE if "fc" in parts else None, boxes="box" in parts)


def test_imagecaptioning_vectors_only(tmp_path: Path, root: Path) -> None:
    write_parts(tmp_path, "fc att")
    cache = imported(root, tmp_path / "fc")
    np.testing.assert_array_equal(cache.features, WHOLE)


def test_imagecaptioning_grids_are_regions(tmp_path: Path, root: Path) -> None:
    write_parts(tmp_path / "x", "fc att")
    grid = RNG.normal(size=(2, 3, D)).astype(np.float32)
    np.savez_compressed(tmp_path / "x" / "att" / "b.npz", feat=grid)
    cache = imported(root, tmp_path / "x")
    assert cache.rows_per_image == 7
    np.testing.assert_array_equal(cache.features.reshape(N, 7, D)[1, 1:], grid.reshape(6, D))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda x: (x / "fc" / "b.npy").unlink(), "has no b.npy or b.npz"),
        (lambda x: np.savez(x / "att" / "b.npz", other=REGIONS[1]), "no array feat or z"),
        (lambda x: np.savez(x / "att" / "b.npz", feat=np.array([{}])), "not features"),
        (
            lambda x: np.savez(x / "att" / "b.npz", feat=REGIONS[1][:, :4]),
            "b.npz: 5 numbers for the whole picture, and 4",
        ),
        (lambda x: np.save(x / "fc" / "b.npy", WHOLE[1, :4]), "4 numbers for the whole picture"),
        (lambda x: np.save(x / "box" / "b.npy", BOXES[1, :1]), "3 x 4 corners were expected"),
        (lambda x: (x / "att" / "b.npz").write_bytes(b"PK\x03\x04"), "b.npz"),
        (lambda x: (x / "cocobu_att").mkdir(), "which one?"),
        (lambda x: [file.unlink() for file in (x / "att").iterdir()], "a folder without ID.npy"),
    ],
)
def test_imagecaptioning_folders_that_do_not_fit(tmp_path: Path, root: Path, change: object, says: str) -> None:
    write_parts(tmp_path / "x", "fc att box")
    change(tmp_path / "x")  # type: ignore[operator]
    refused(run(root, tmp_path / "x"), says, root)


def test_a_header_of_a_huge_array_is_refused_before_anything_is_unpacked(tmp_path: Path, root: Path) -> None:
    write_parts(tmp_path / "x", "att")
    with (tmp_path / "x" / "att" / "b.npy").open("wb") as stream:
        header = {"descr": "<f4", "fortran_order": False, "shape": (2**40, 2048)}
        np.lib.format.write_array_header_1_0(stream, header)
    (tmp_path / "x" / "att" / "b.npz").unlink()
    refused(run(root, tmp_path / "x"), "more than features of an image have", root)


# ---- hloc


def test_hloc_groups_are_named_by_paths(tmp_path: Path, root: Path) -> None:
    with h5py.File(tmp_path / "global-feats-netvlad.h5", "w", libver="latest") as file:
        for n in (3, 0, 2, 1):
            group = file.create_group(PATHS[n])
            group["global_descriptor"] = WHOLE[n].astype(np.float16)
            group["image_size"] = np.array(SIZE)
    cache = imported(root, tmp_path / "global-feats-netvlad.h5")
    np.testing.assert_array_equal(cache.features, WHOLE.astype(np.float16))


def test_local_features_of_hloc_are_refused(tmp_path: Path, root: Path) -> None:
    with h5py.File(tmp_path / "feats-superpoint.h5", "w") as file:
        group = file.create_group(PATHS[0])
        group["keypoints"], group["descriptors"] = np.ones((9, 2)), np.ones((256, 9))
    refused(run(root, tmp_path / "feats-superpoint.h5"), "mrnn takes one vector for each", root)


def test_groups_that_lead_to_other_files_are_not_followed(tmp_path: Path, root: Path) -> None:
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["v"] = WHOLE[0]
    with h5py.File(tmp_path / "x.h5", "w") as file:
        layout = h5py.VirtualLayout(shape=(D,), dtype="f4")
        layout[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "v", shape=(D,))
        file.create_group(PATHS[0]).create_virtual_dataset("global_descriptor", layout)
    refused(run(root, tmp_path / "x.h5"), "lie in another file", root)


# ---- ids, and choosing the format


@pytest.mark.parametrize(
    "content",
    [
        "x.jpg\ny.jpg\n",
        '["x.jpg", "y.jpg"]',
        '[{"file_path": "a", "captions": ["A."], "id": "x.jpg", "split": "val"}, {"file_path": "b", "id": "y.jpg"}]',
        '[{"file_path": "x.jpg", "captions": []}, {"file_path": "y.jpg"}]',
        '{"ix_to_word": {"1": "a"}, "images": [{"split": "val", "file_path": "x.jpg"}, {"file_path": "y.jpg"}]}',
        '{"y.jpg": 1, "x.jpg": 0}',
    ],
)
def test_ids_in_every_form(tmp_path: Path, content: str) -> None:
    (tmp_path / "ids").write_text(content)
    assert read_ids(tmp_path / "ids") == ("x.jpg", "y.jpg")


def test_a_list_of_neuraltalk2_names_the_rows_of_a_matrix(tmp_path: Path, root: Path) -> None:
    order = [1, 3, 0, 2]
    np.save(tmp_path / "x.npy", WHOLE[order])
    entries = [{"file_path": PATHS[n], "captions": captions(n), "id": 100 + n, "split": SPLITS[n]} for n in order]
    for entry in entries:
        del entry["id"]
    (tmp_path / "list.json").write_text(json.dumps(entries))
    cache = imported(root, tmp_path / "x.npy", "--ids", tmp_path / "list.json")
    np.testing.assert_array_equal(cache.features, WHOLE)


def test_files_of_different_features_are_not_put_together(tmp_path: Path, root: Path) -> None:
    write_tsv(tmp_path / "a.tsv", [0])
    np.savez(tmp_path / "b.npz", feats=np.ones((1, 7)), ids=np.array(["b.jpg"]))
    refused(run(root, tmp_path / "a.tsv", tmp_path / "b.npz"), "do not hold the same features", root)
    result = run(root, tmp_path / "a.tsv", tmp_path / "b.npz", "--ids", root / "captions.jsonl")
    assert result.exit_code == 2
    assert "--ids names the rows of one file" in result.stderr


def test_the_format_can_be_given(tmp_path: Path, root: Path) -> None:
    write_tsv(tmp_path / "x", [0])
    assert guess_format(tmp_path / "x") == "bottom-up"
    refused(run(root, tmp_path / "x", "--format", "hloc"), "x: ", root)
    with pytest.raises(CacheError, match="a folder without features in a known form"):
        read_sources([root], Given())


@given(
    content=st.binary(max_size=200),
    start=st.sampled_from([b"", b"1\t2\t3\t", b"PK\x03\x04", b"\x93NUMPY\x01\x00", b"\x89HDF\r\n\x1a\n"]),
    name=st.sampled_from(["x", "x_ims.npy", "x.tsv"]),
    format=st.sampled_from(["auto", *FORMATS]),
)
def test_any_bytes_give_our_own_error(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, start: bytes, name: str, format: str
) -> None:
    path = tmp_path_factory.mktemp("fuzz") / name
    path.write_bytes(start + content)
    with pytest.raises(CacheError):
        read_sources([path], Given(count=3), format=format)

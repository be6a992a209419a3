"""COCO: the official caption files, with and without Karpathy's, and the real ones."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from mrnn.data.coco import read_coco
from mrnn.data.errors import CorpusError


def file_name(part: str, image_id: int) -> str:
    return f"COCO_{part}_{image_id:012d}.jpg"


def add(root: Path, part: str, ids: list[int], *, captions: int = 5, **changes: Any) -> None:
    """An official caption file, and the pictures it names."""
    document = {
        "info": {},
        "licenses": [],
        "images": [{"id": i, "file_name": file_name(part, i), "height": 480, "width": 640} for i in ids],
        "annotations": [
            {"id": 100 * i + k, "image_id": i, "caption": f"A {part} {i}\n number {k}. "}
            for k in range(captions)
            for i in ids
        ],
        **changes,
    }
    (root / "annotations").mkdir(exist_ok=True)
    (root / part).mkdir(exist_ok=True)
    (root / "annotations" / f"captions_{part}.json").write_text(json.dumps(document))
    for i in ids:
        (root / part / file_name(part, i)).touch()


def test_train_and_val_join_on_the_image_id(tmp_path: Path) -> None:
    add(tmp_path, "train2014", [9, 42], captions=7)
    add(tmp_path, "val2014", [1, 2, 3, 4, 5])
    corpus = read_coco(tmp_path)
    images = {image.id: image for image in corpus.images}
    assert corpus.integer_ids
    assert list(images) == ["9", "42", "1", "2", "3", "4", "5"]
    assert images["42"].path == "train2014/COCO_train2014_000000000042.jpg"
    assert images["42"].sentences == tuple(f"A train2014 42 number {k}." for k in range(7))
    assert images["42"].split == "train"
    assert [corpus.count(split) for split in ("train", "val", "test")] == [2, 3, 2]
    assert any("3 are val, 2 test" in note for note in corpus.notes)
    assert not corpus.problems


def test_rest_of_val_is_train_as_in_karpathys_split(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mrnn.data.coco.HELD_OUT_MAX", 2)
    add(tmp_path, "train2014", [100])
    add(tmp_path, "val2014", list(range(1, 8)))
    assert [read_coco(tmp_path).count(split) for split in ("train", "val", "test")] == [4, 2, 2]


def test_one_file_alone_is_split_at_random(tmp_path: Path) -> None:
    add(tmp_path, "val2017", list(range(20)))
    corpus = read_coco(tmp_path)
    assert [corpus.count(split) for split in ("train", "val", "test")] == [16, 2, 2]
    assert any("seed 0" in note for note in corpus.notes)


def test_karpathys_splits_when_given(tmp_path: Path) -> None:
    add(tmp_path, "train2014", [1])
    add(tmp_path, "val2014", [2, 3, 4, 5])
    entries = [
        {"filepath": "x", "filename": f"{i}.jpg", "cocoid": i, "split": split, "sentences": []}
        for i, split in ((1, "train"), (2, "restval"), (3, "val"), (4, "test"), (77, "test"))
    ]
    (tmp_path / "dataset_coco.json").write_text(json.dumps({"images": entries}))
    corpus = read_coco(tmp_path)
    assert {image.id: image.split for image in corpus.images} == {
        "1": "train",
        "2": "train",
        "3": "val",
        "4": "test",
        "5": "",
    }
    assert [problem.subject for problem in corpus.problems] == ["77"]
    assert "splits from dataset_coco.json" in corpus.notes


def test_pictures_below_images_or_all_in_it(tmp_path: Path) -> None:
    add(tmp_path, "val2014", [1, 2, 3])
    (tmp_path / "images").mkdir()
    (tmp_path / "val2014").rename(tmp_path / "images/val2014")
    assert read_coco(tmp_path).images[0].path == "images/val2014/COCO_val2014_000000000001.jpg"
    (tmp_path / "images/val2014").rename(tmp_path / "flat")
    (tmp_path / "images").rmdir()
    (tmp_path / "flat").rename(tmp_path / "images")
    corpus = read_coco(tmp_path)
    assert corpus.images[0].path == "images/COCO_val2014_000000000001.jpg"
    assert not corpus.problems


def test_all_pictures_in_one_folder_are_named_by_one_file_or_the_other(tmp_path: Path) -> None:
    add(tmp_path, "train2014", [1])
    add(tmp_path, "val2014", [2, 3])
    (tmp_path / "images").mkdir()
    for path in [*tmp_path.glob("*2014/*")]:
        path.rename(tmp_path / "images" / path.name)
    for part in ("train2014", "val2014"):
        (tmp_path / part).rmdir()
    assert not read_coco(tmp_path).problems


def test_oddities_are_listed(tmp_path: Path) -> None:
    images = [{"id": 1, "file_name": "a.jpg"}, {"id": 1, "file_name": "b.jpg"}, {"id": 2, "file_name": "c.jpg"}]
    annotations = [
        {"id": 5, "image_id": 1, "caption": "One."},
        {"id": 5, "image_id": 1, "caption": "Again."},
        {"id": 6, "image_id": 3, "caption": "Of nothing."},
        {"id": 7, "image_id": 1, "caption": " \n"},
    ]
    add(tmp_path, "val2014", [], images=images, annotations=annotations)
    for name in "abd":
        (tmp_path / f"val2014/{name}.jpg").touch()
    corpus = read_coco(tmp_path)
    assert [(image.id, image.sentences) for image in corpus.images] == [("1", ("One.",)), ("2", ())]
    assert sorted((problem.kind, problem.subject) for problem in corpus.problems) == [
        ("annotation ids that occur twice", "5"),
        ("captions of an image that is not listed", "3"),
        ("image ids that occur twice", "1"),
        ("images with empty captions", "1"),
        ("images without captions", "2"),
        ("pictures missing", "2"),
        ("pictures that no data file names", "val2014/b.jpg"),
        ("pictures that no data file names", "val2014/d.jpg"),
    ]


def test_files_of_ones_own_with_ids_of_text_and_pictures_in_folders(tmp_path: Path) -> None:
    names = {"n-1": "zoo/a.jpg", "n-2": "zoo/old/b.jfif", "n-3": "c"}
    document = {
        "images": [{"id": image_id, "file_name": name} for image_id, name in names.items()],
        "annotations": [{"id": f"k{i}", "image_id": i, "caption": f"Of {i}."} for i in names],
    }
    (tmp_path / "captions_val2017.json").write_text(json.dumps(document))
    for name in names.values():
        (tmp_path / "val2017" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "val2017" / name).touch()
    corpus = read_coco(tmp_path)
    assert {image.id: image.path for image in corpus.images} == {i: f"val2017/{n}" for i, n in names.items()}
    assert corpus.images[0].sentences == ("Of n-1.",)
    assert not corpus.integer_ids
    assert not corpus.problems


def test_ids_of_digits_join_with_integers_and_stay_what_the_images_have(tmp_path: Path) -> None:
    add(tmp_path, "val2014", [1, 2, 3], annotations=[{"id": 1, "image_id": "2", "caption": "Two."}])
    corpus = read_coco(tmp_path)
    assert [image.sentences for image in corpus.images] == [(), ("Two.",), ()]
    assert corpus.integer_ids


def test_an_id_that_is_no_text_is_an_error(tmp_path: Path) -> None:
    images = [{"id": f"\ud800{i}", "file_name": f"{i}.jpg"} for i in range(3)]
    add(tmp_path, "val2014", [], images=images, annotations=[{"id": 1, "image_id": "\ud8001", "caption": "A."}])
    with pytest.raises(CorpusError, match="half a surrogate pair"):
        read_coco(tmp_path)


def test_a_key_that_occurs_twice_is_an_error(tmp_path: Path) -> None:
    add(tmp_path, "val2014", [1, 2, 3])
    path = tmp_path / "annotations" / "captions_val2014.json"
    path.write_text(path.read_text().replace('"caption":', '"caption": "lost", "caption":', 1))
    with pytest.raises(CorpusError, match="'caption' occurs twice"):
        read_coco(tmp_path)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"images": None}, "'images' must be a list, not None"),
        ({"images": [3]}, "image 0: expected an object with 'id', found 3"),
        ({"images": [{"id": True, "file_name": "a.jpg"}]}, "'id' must be an integer, not True"),
        ({"images": [{"id": 1}]}, "image 0: 'file_name' is missing; found 'id'"),
        ({"images": [{"id": 1, "file_name": "../a.jpg"}]}, "leads outside"),
        ({"images": [{"id": 1, "file_name": "/a.jpg"}]}, "leads outside"),
        ({"annotations": {}}, "'annotations' must be a list, not dict"),
        ({"annotations": [{"id": 1, "image_id": 1.5, "caption": "x"}]}, "annotation 0: 'image_id' must be an integer"),
        ({"annotations": [{"id": 1, "image_id": 1, "caption": None}]}, "'caption' must be a string"),
        ({"annotations": [{"id": 1, "image_id": 1, "caption": "\ud800"}]}, "surrogate"),
        ({"annotations": [{"id": 1, "image_id": 1, "caption": "a\0b"}]}, "NUL"),
        ({"annotations": []}, "no caption of any image"),
    ],
)
def test_wrong_content_is_an_error_with_its_place(tmp_path: Path, changes: dict[str, Any], complaint: str) -> None:
    add(tmp_path, "val2014", [1, 2, 3], **changes)
    with pytest.raises(CorpusError, match=complaint):
        read_coco(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, "1" * 10_000, "[]", "nul"])
def test_what_is_no_json_is_an_error(tmp_path: Path, text: str) -> None:
    add(tmp_path, "val2014", [1])
    (tmp_path / "annotations/captions_val2014.json").write_text(text)
    with pytest.raises(CorpusError, match=r"captions_val2014\.json"):
        read_coco(tmp_path)


def test_image_in_both_files_is_an_error_that_names_both(tmp_path: Path) -> None:
    add(tmp_path, "train2014", [1, 2])
    add(tmp_path, "val2014", [2, 3])
    with pytest.raises(CorpusError, match=r"captions_val2014\.json: image 2 is in captions_train2014\.json"):
        read_coco(tmp_path)


def test_wrong_root_says_what_was_sought_and_what_is_there(tmp_path: Path) -> None:
    add(tmp_path, "val2017", [1])
    with pytest.raises(CorpusError, match=r"annotations/captions_train2014\.json.*found COCO_val2017"):
        read_coco(tmp_path / "val2017")
    (tmp_path / "val2017").rename(tmp_path / "pics")
    corpus = read_coco(tmp_path)  # the captions are of use all the same
    assert re.search(r"val2017/, images/val2017/.*found annotations/, pics/", corpus.pictures_lacking)
    assert corpus.images[0].sentences


def test_real_mini(real_data: Path) -> None:
    corpus = read_coco(real_data / "coco/mini")
    assert [corpus.count(split) for split in ("train", "val", "test", "")] == [80, 40, 39, 0]
    assert sum(len(image.sentences) for image in corpus.images) == 795
    assert all((corpus.root / image.path).is_file() for image in corpus.images)
    assert not corpus.problems


def test_real_validation_captions(real_data: Path, tmp_path: Path) -> None:
    (tmp_path / "annotations").symlink_to(real_data / "coco/annotations")
    (tmp_path / "val2017").mkdir()
    corpus = read_coco(tmp_path)
    assert len(corpus.images) == 5000
    assert sum(len(image.sentences) for image in corpus.images) == 25014
    assert max(len(image.sentences) for image in corpus.images) > 5
    assert {problem.kind for problem in corpus.problems} == {"pictures missing"}

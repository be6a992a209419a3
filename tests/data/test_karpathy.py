"""Karpathy's files: Flickr's without ids, COCO's with filepath and restval, and damaged ones."""

import json
from pathlib import Path
from typing import Any

import pytest

from mrnn.data.errors import CorpusError
from mrnn.data.karpathy import read_karpathy


def entry(name: str, split: str = "train", sentences: int = 5, **more: Any) -> dict[str, Any]:
    raw = [{"tokens": ["a", name, str(k)], "raw": f"A {name}, {k}. ", "sentid": k} for k in range(sentences)]
    return {"filename": f"{name}.jpg", "split": split, "sentences": raw, "sentids": [], "imgid": 0, **more}


def write(root: Path, entries: object, name: str = "dataset_flickr8k.json") -> None:
    (root / name).write_text(json.dumps({"dataset": "x", "images": entries}))


def touch(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


@pytest.mark.parametrize("folder", ["imgs/", "images/", "Images/", "flickr30k-images/", "Flicker8k_Dataset/", ""])
def test_flickr_form(tmp_path: Path, folder: str) -> None:
    write(tmp_path, [entry("a"), entry("b", "val"), entry("c", "test"), entry("d", "restval")], "dataset.json")
    for name in "abcd":
        touch(tmp_path / f"{folder}{name}.jpg")
    corpus = read_karpathy(tmp_path)
    assert {image.id: image.split for image in corpus.images} == {
        "a.jpg": "train",
        "b.jpg": "val",
        "c.jpg": "test",
        "d.jpg": "train",
    }
    assert corpus.images[0].path == f"{folder}a.jpg"
    assert corpus.images[0].sentences == tuple(f"A a, {k}." for k in range(5))
    assert not corpus.integer_ids
    assert not corpus.problems


@pytest.mark.parametrize("folder", ["", "images/"])
def test_coco_form(tmp_path: Path, folder: str) -> None:
    names = ("COCO_val2014_000000000042", "COCO_train2014_000000000007")
    write(
        tmp_path,
        [
            entry(names[0], "restval", 7, filepath="val2014", cocoid=42),
            entry(names[1], "test", 6, filepath="train2014", cocoid=7),
        ],
        "dataset_coco.json",
    )
    touch(tmp_path / f"{folder}val2014/{names[0]}.jpg")
    touch(tmp_path / f"{folder}train2014/{names[1]}.jpg")
    corpus = read_karpathy(tmp_path)
    assert corpus.integer_ids
    assert [(image.id, image.split, len(image.sentences)) for image in corpus.images] == [
        ("42", "train", 7),
        ("7", "test", 6),
    ]
    assert corpus.images[0].path == f"{folder}val2014/{names[0]}.jpg"
    assert not corpus.problems


def test_tokens_where_there_is_no_raw_text(tmp_path: Path) -> None:
    write(tmp_path, [entry("a", sentences=0) | {"sentences": [{"tokens": ["a", "red", "mat"]}]}])
    touch(tmp_path / "imgs/a.jpg")
    assert read_karpathy(tmp_path).images[0].sentences == ("a red mat",)


def test_missing_doubled_and_uncaptioned_are_listed(tmp_path: Path) -> None:
    write(tmp_path, [entry("a"), entry("a", filepath="other"), entry("b", sentences=0), entry("c")])
    for name in "abz":
        touch(tmp_path / f"imgs/{name}.jpg")
    corpus = read_karpathy(tmp_path)
    assert [image.id for image in corpus.images] == ["a.jpg", "b.jpg", "c.jpg"]
    assert sorted((problem.kind, problem.subject) for problem in corpus.problems) == [
        ("image ids that occur twice", "a.jpg"),
        ("images without captions", "b.jpg"),
        ("pictures missing", "c.jpg"),
        ("pictures that no data file names", "imgs/z.jpg"),
    ]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"split": "training"}, "image 0: the split is 'training', expected one of train, restval"),
        ({"filename": "../a.jpg"}, "leads outside"),
        ({"filepath": "/etc"}, "leads outside"),
        ({"filepath": 3}, "'filepath' must be a string, not 3"),
        ({"cocoid": "7"}, "'cocoid' must be an integer, not '7'"),
        ({"sentences": "A cat."}, "'sentences' must be a list"),
        ({"sentences": [{}]}, "'tokens' is missing"),
        ({"sentences": ["A cat."]}, "expected an object with 'tokens', found 'A cat.'"),
        ({"sentences": [{"tokens": [1, 2]}]}, "'tokens' must be a list of strings"),
        ({"sentences": [{"raw": ["a"]}]}, "'raw' must be a string"),
        ({"sentences": [{"raw": "\ud83d"}]}, "surrogate"),
        ({"filename": "a\0.jpg"}, "leads outside"),
    ],
)
def test_wrong_content_is_an_error_with_its_place(tmp_path: Path, change: dict[str, Any], complaint: str) -> None:
    (tmp_path / "imgs").mkdir()
    write(tmp_path, [entry("a") | change])
    with pytest.raises(CorpusError, match=complaint):
        read_karpathy(tmp_path)


@pytest.mark.parametrize("images", [None, {}, 3, []])
def test_wrong_list_of_images_is_an_error(tmp_path: Path, images: object) -> None:
    (tmp_path / "imgs").mkdir()
    write(tmp_path, images)
    with pytest.raises(CorpusError):
        read_karpathy(tmp_path)


def test_several_files_or_none_is_an_error(tmp_path: Path) -> None:
    touch(tmp_path / "imgs/a.jpg")
    with pytest.raises(CorpusError, match=r"dataset\.json, dataset_\*\.json; found imgs/"):
        read_karpathy(tmp_path)
    write(tmp_path, [entry("a")], "dataset_flickr8k.json")
    write(tmp_path, [entry("a")], "dataset_flickr30k.json")
    with pytest.raises(CorpusError, match=r"dataset_flickr30k\.json, dataset_flickr8k\.json; which one"):
        read_karpathy(tmp_path)


def test_file_cut_off_is_an_error(tmp_path: Path) -> None:
    write(tmp_path, [entry("a")])
    path = tmp_path / "dataset_flickr8k.json"
    path.write_text(path.read_text()[:-10])
    with pytest.raises(CorpusError, match="is the file whole"):
        read_karpathy(tmp_path)

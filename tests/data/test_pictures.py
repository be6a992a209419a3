"""Which pictures are there: what exists, not what a name looks like."""

import os
import unicodedata
from pathlib import Path

import pytest

from mrnn.data.captions import Corpus
from mrnn.data.folder import read_folder
from mrnn.data.pictures import find_pictures, list_pictures

NAMES = ("a.jpg", "b.jfif", "c.JPE", "d.avif", "e", "f.heic", "deep/g.photo", ".hidden.jpg", ".deep/h.jpg")


def corpus_of(root: Path, *names: str, on_disk: tuple[str, ...] | None = None) -> Corpus:
    for name in names if on_disk is None else on_disk:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    (root / "captions.csv").write_text("image,caption\n" + "".join(f"{name},A dog.\n" for name in names))
    return read_folder(root)


@pytest.mark.parametrize("names", [NAMES, NAMES[1:], *((name,) for name in NAMES)])
def test_a_named_file_that_exists_is_not_missing(tmp_path: Path, names: tuple[str, ...]) -> None:
    corpus = corpus_of(tmp_path, *names)
    assert [image.path for image in corpus.images] == list(names)
    assert not corpus.problems
    assert not corpus.pictures_lacking


def test_of_files_without_a_caption_pictures_count_by_their_suffix(tmp_path: Path) -> None:
    corpus = corpus_of(tmp_path, "a.jpg", on_disk=("a.jpg", "b.jfif", "notes.txt", "readme", ".c.jpg"))
    assert [image.path for image in corpus.images] == ["a.jpg", "b.jfif"]


def test_what_is_not_there_is_missing(tmp_path: Path) -> None:
    (tmp_path / "p00.jpg").mkdir()
    (tmp_path / "p00.jpg" / "inside.jpg").touch()
    (tmp_path / "broken.jpg").symlink_to(tmp_path / "nowhere.jpg")
    (tmp_path / "circle.jpg").symlink_to(tmp_path / "circle.jpg")
    os.mkfifo(tmp_path / "pipe.jpg")
    corpus = corpus_of(tmp_path, "a.jpg", "p00.jpg", "broken.jpg", "circle.jpg", "pipe.jpg", on_disk=("a.jpg",))
    assert corpus.images[-1].path == "p00.jpg/inside.jpg"
    assert [problem.subject for problem in corpus.problems if problem.kind == "pictures missing"] == [
        "p00.jpg", "broken.jpg", "circle.jpg", "pipe.jpg",
    ]  # fmt: skip


def test_a_link_to_a_picture_is_one(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "x").touch()
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "a.jpg").symlink_to(tmp_path / "store" / "x")
    assert [image.path for image in corpus_of(tmp_path / "root", "a.jpg", on_disk=()).images] == ["a.jpg"]


@pytest.mark.parametrize(("written", "stored"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_names_composed_in_another_way_are_found(tmp_path: Path, written: str, stored: str) -> None:
    name = unicodedata.normalize(stored, "café.jpg")
    corpus = corpus_of(tmp_path, unicodedata.normalize(written, "café.jpg"), on_disk=(name,))
    assert [image.path for image in corpus.images] == [name], "the name by which it can be opened"
    assert not corpus.problems


def refuse(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root may read every folder; so a folder that may not be read is acted."""
    scandir = os.scandir

    def refusing(path: str) -> object:
        if Path(path) == folder:
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)


def test_a_folder_that_may_not_be_read_is_listed_and_the_rest_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "lost+found").mkdir()
    refuse(tmp_path / "lost+found", monkeypatch)
    corpus = corpus_of(tmp_path, "a.jpg", "z/b.jpg")
    assert [image.path for image in corpus.images] == ["a.jpg", "z/b.jpg"]
    (problem,) = corpus.problems
    assert problem.kind == "folders that cannot be read"
    assert problem.subject.endswith("lost+found")
    assert problem.detail == "Permission denied"


def test_a_folder_of_pictures_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "images").mkdir()
    refuse(tmp_path / "images", monkeypatch)
    found = find_pictures(tmp_path, ("images",), name="folder", named=["a.jpg"])
    assert found.paths == set()
    assert [problem.kind for problem in found.problems] == ["folders that cannot be read"]
    (tmp_path / "images" / "a.jpg").touch()
    found = find_pictures(tmp_path, ("images",), name="folder", named=["a.jpg"])
    assert found.paths == {"images/a.jpg"}, "named, and there, though it cannot be listed"


def test_named_pictures_are_looked_for_in_depth_only_where_they_are_named_so(tmp_path: Path) -> None:
    (tmp_path / "images" / "deep").mkdir(parents=True)
    (tmp_path / "images" / "deep" / "a.jpg").touch()
    assert find_pictures(tmp_path, ("images",), name="x", named=["deep/a.jpg"]).paths == {"images/deep/a.jpg"}
    assert find_pictures(tmp_path, ("images",), name="x", named=["a.jpg"]).paths == set()
    assert list_pictures(tmp_path, recursive=True).paths == {"images/deep/a.jpg"}

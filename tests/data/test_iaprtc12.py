"""IAPR TC-12: description files of the true form and the real sample."""

import re
from pathlib import Path

import pytest

from mrnn.data.errors import CorpusError
from mrnn.data.iaprtc12 import parse_description, read_iaprtc12

TEMPLATE = """<DOC>
<DOCNO>annotations/{id}.eng</DOCNO>
<TITLE>Café by the harbour</TITLE>
<DESCRIPTION>{description}</DESCRIPTION>
<NOTES>a note; not a sentence;</NOTES>
<LOCATION>Somewhere, Peru</LOCATION>
<DATE>May 2003</DATE>
<IMAGE>images/{id}.jpg</IMAGE>
<THUMBNAIL>thumbnails/{id}.jpg</THUMBNAIL>
</DOC>
"""


def add(root: Path, image_id: str, description: str = "a boat; a lake;", *, picture: bool = True) -> None:
    for folder, suffix, content in (
        ("annotations_complete_eng", "eng", TEMPLATE.format(id=image_id, description=description).encode("iso-8859-1")),
        ("images", "jpg", b""),
    ):
        path = root / folder / f"{image_id}.{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        if picture or folder != "images":
            path.write_bytes(content)


def test_descriptions_lists_and_latin_letters(tmp_path: Path) -> None:
    add(tmp_path, "03/3999", "a white boat on a lake;  green hills & a caf\xe9\nin the background; ;")
    add(tmp_path, "03/400")
    add(tmp_path, "10/10001")
    add(tmp_path, "10/10002")
    add(tmp_path, "10/9", picture=False)
    (tmp_path / "iaprtc12_train_list.txt").write_text("03/3999\n03/400\n10/10001\n")
    (tmp_path / "iaprtc12_test_list.txt").write_text("10/10002\r\n")
    corpus = read_iaprtc12(tmp_path)
    images = {image.id: image for image in corpus.images}
    assert list(images) == ["03/400", "03/3999", "10/10001", "10/10002"]
    assert images["03/3999"].sentences == ("a white boat on a lake", "green hills & a café in the background")
    assert images["03/3999"].path == "images/03/3999.jpg"
    assert [corpus.count(split) for split in ("train", "val", "test")] == [2, 1, 1]
    assert images["10/10002"].split == "test"
    assert any("no validation" in note for note in corpus.notes)
    assert [problem.subject for problem in corpus.problems] == ["10/9"]


def test_without_lists_the_split_is_seeded(tmp_path: Path) -> None:
    for number in range(20):
        add(tmp_path, f"00/{number}", picture=number != 3)
    corpus = read_iaprtc12(tmp_path)
    assert [corpus.count(split) for split in ("train", "val", "test")] == [16, 2, 2]
    assert any("seed 0" in note for note in corpus.notes)
    assert [problem.kind for problem in corpus.problems] == ["pictures missing"]


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("<DESCRIPTION>a; b</DESCRIPTION>", ["a", "b"]),
        ("<description>a & b < c;</description>", ["a & b < c"]),
        ("<DESCRIPTION>never closed; still read <NOTES>x</NOTES>", ["never closed", "still read"]),
        ("<DESCRIPTION>cut off", ["cut off"]),
        ("<TITLE>nothing</TITLE>", []),
        ("<DESCRIPTION> ; ;</DESCRIPTION>", []),
    ],
)
def test_descriptions_that_are_not_well_formed(text: str, sentences: list[str]) -> None:
    assert parse_description(text)[0] == sentences


def test_odd_files_are_listed(tmp_path: Path) -> None:
    add(tmp_path, "00/1")
    add(tmp_path, "00/2", "")
    add(tmp_path, "00/3")
    path = tmp_path / "annotations_complete_eng/00/3.eng"
    path.write_text(path.read_text("latin-1").replace("images/00/3.jpg", "images/00/4.jpg"), "latin-1")
    (tmp_path / "images/00/5.jpg").touch()
    kinds = {(problem.kind, problem.subject) for problem in read_iaprtc12(tmp_path).problems}
    assert kinds == {
        ("images without captions", "00/2"),
        ("descriptions whose IMAGE tag names another picture", "00/3"),
        ("pictures that no data file names", "images/00/5.jpg"),
    }


def test_listed_image_without_a_description_stays(tmp_path: Path) -> None:
    add(tmp_path, "00/1")
    (tmp_path / "iaprtc12_train_list.txt").write_text("00/1\n")
    (tmp_path / "iaprtc12_test_list.txt").write_text("00/7\n")
    corpus = read_iaprtc12(tmp_path)
    assert [(image.id, image.split, image.sentences) for image in corpus.images][1] == ("00/7", "test", ())
    assert {problem.kind for problem in corpus.problems} == {"pictures missing", "images without captions"}


def test_list_that_leads_outside_is_an_error(tmp_path: Path) -> None:
    add(tmp_path, "00/1")
    (tmp_path / "iaprtc12_train_list.txt").write_text("00/1\n")
    (tmp_path / "iaprtc12_test_list.txt").write_text("../../x\n")
    with pytest.raises(CorpusError, match="leads outside"):
        read_iaprtc12(tmp_path)


def test_wrong_root_says_what_was_sought_and_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "readme").touch()
    with pytest.raises(CorpusError, match=r"annotations_complete_eng/.*found readme"):
        read_iaprtc12(tmp_path)
    (tmp_path / "annotations_complete_eng/00").mkdir(parents=True)
    with pytest.raises(CorpusError, match=r"NN/NNNN\.eng.*found 00/"):
        read_iaprtc12(tmp_path)
    add(tmp_path, "00/1")
    (tmp_path / "images").rename(tmp_path / "pictures")
    corpus = read_iaprtc12(tmp_path)  # the captions are of use all the same
    assert re.search(r"images/.*found .*pictures/", corpus.pictures_lacking)
    assert corpus.images[0].sentences


def test_real_sample(real_data: Path, tmp_path: Path) -> None:
    folder = real_data / "iapr-tc12-sample/annotations_complete_eng"
    (tmp_path / "annotations_complete_eng").symlink_to(folder)
    (tmp_path / "images").mkdir()
    corpus = read_iaprtc12(tmp_path)
    images = {image.id: image for image in corpus.images}
    assert len(images) == 9
    assert len(images["00/28"].sentences) == 5
    assert images["00/38"].sentences == (
        "View of giant, thunderous waterfalls over a u-shaped cliff",
        "white clouds in a blue sky in the background",
    )
    assert images["00/112"].sentences[2] == "a sign saying that plants can't be picked up on the right"
    assert {problem.kind for problem in corpus.problems} == {"pictures missing"}

"""One's own pictures with a table of captions."""

import json
import re
from pathlib import Path

import pytest

from mrnn.data.captions import Corpus
from mrnn.data.errors import CorpusError
from mrnn.data.folder import read_folder


def pictures(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def content(corpus: Corpus) -> dict[str, tuple[str, tuple[str, ...]]]:
    return {image.id: (image.split, image.sentences) for image in corpus.images}


EXPECTED = {
    "a.jpg": ("train", ("One, with a comma.", "Two.")),
    "b.png": ("val", ("Three.",)),
    "c.jpg": ("test", ("Four.",)),
}


def test_csv_with_splits(tmp_path: Path) -> None:
    pictures(tmp_path, *EXPECTED)
    (tmp_path / "captions.csv").write_bytes(
        b'\xef\xbb\xbfImage, Caption ,split\r\na.jpg,"One, with a comma.",train\r\nb.png,Three.,dev\r\n'
        b"\r\na.jpg,Two.,restval\r\nc.jpg,Four.,TEST\r\n"
    )
    corpus = read_folder(tmp_path)
    assert content(corpus) == EXPECTED
    assert not corpus.problems


@pytest.mark.parametrize("delimiter", [";", "\t"])
@pytest.mark.parametrize(("image", "caption"), [("filename", "sentence"), ("image_path", "text"), ("file", "caption")])
def test_other_delimiters_and_columns(tmp_path: Path, delimiter: str, image: str, caption: str) -> None:
    pictures(tmp_path, *(f"images/{name}" for name in EXPECTED))
    rows = [("7", image, caption, "split")]
    rows += [("7", name, words, split) for name, (split, all_of) in EXPECTED.items() for words in all_of]
    text = "\n".join(delimiter.join(row) for row in rows).replace("7", "x")
    (tmp_path / ("captions.tsv" if delimiter == "\t" else "captions.csv")).write_text(text)
    corpus = read_folder(tmp_path)
    assert content(corpus) == EXPECTED
    assert corpus.images[0].path == "images/a.jpg"


def test_json_lines(tmp_path: Path) -> None:
    pictures(tmp_path, *EXPECTED)
    records = [
        {"image": "a.jpg", "captions": ["One, with a comma.", "Two."], "split": "train"},
        {"file": "b.png", "caption": "Three.", "split": "validation"},
        {"filename": "./c.jpg", "text": "Four.", "split": "test", "more": 3},
    ]
    (tmp_path / "captions.jsonl").write_text("\n\n".join(map(json.dumps, records)) + "\n")
    assert content(read_folder(tmp_path)) == EXPECTED


def test_without_splits_they_are_seeded(tmp_path: Path) -> None:
    rows = "".join(f"p/{n}.jpg,Number {n}.\n" for n in range(40))
    pictures(tmp_path, *(f"p/{n}.jpg" for n in range(40)))
    (tmp_path / "captions.csv").write_text("image,caption\n" + rows)
    corpus = read_folder(tmp_path)
    assert [corpus.count(split) for split in ("train", "val", "test")] == [32, 4, 4]
    assert any("seed 0" in note for note in corpus.notes)
    (tmp_path / "captions.csv").write_text("image,caption\n" + "".join(reversed(rows.splitlines(keepends=True))))
    assert {image.id: image.split for image in read_folder(tmp_path).images} == {
        image.id: image.split for image in corpus.images
    }


def test_without_validation_split_a_part_of_train_is_held_out(tmp_path: Path) -> None:
    rows = [f"{n}.jpg,Number {n}.,{'train' if n < 30 else 'test'}" for n in range(40)]
    pictures(tmp_path, "0.jpg")
    (tmp_path / "captions.csv").write_text("\n".join(["image,caption,split", *rows]))
    corpus = read_folder(tmp_path)
    assert [corpus.count(split) for split in ("train", "val", "test")] == [27, 3, 10]
    assert any("no validation" in note for note in corpus.notes)


def test_pictures_without_rows_are_kept_and_missing_ones_listed(tmp_path: Path) -> None:
    pictures(tmp_path, "images/a.jpg", "images/deep/other.JPG", "images/note.txt", "images/.hidden.jpg")
    (tmp_path / "captions.csv").write_text("image,caption,split\na.jpg,A.,train\nx.jpg,X.,train\ny.jpg,Y.,\na.jpg,,\n")
    corpus = read_folder(tmp_path)
    assert [(image.id, image.path, image.split) for image in corpus.images if not image.sentences] == [
        ("deep/other.JPG", "images/deep/other.JPG", "")
    ]
    assert sorted((problem.kind, problem.subject) for problem in corpus.problems) == [
        ("captions without a picture, in no split", "y.jpg"),
        ("images with empty captions", "a.jpg"),
        ("images without captions", "deep/other.JPG"),
        ("pictures missing", "x.jpg"),
    ]


def test_file_name_that_is_no_text_is_listed(tmp_path: Path) -> None:
    pictures(tmp_path, "a.jpg")
    Path(tmp_path, "caf\udce9.jpg").touch()
    (tmp_path / "captions.csv").write_text("image,caption\na.jpg,A.\n")
    assert [problem.subject for problem in read_folder(tmp_path).problems] == ["caf\\xe9.jpg"]


def test_folder_linked_into_itself_is_walked_once(tmp_path: Path) -> None:
    pictures(tmp_path, "images/a.jpg")
    (tmp_path / "images/again").symlink_to(tmp_path / "images")
    (tmp_path / "captions.csv").write_text("image,caption\nimages/a.jpg,A.\n")
    assert [image.id for image in read_folder(tmp_path).images] == ["images/a.jpg"]


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        ("captions.csv", "picture,words\na,b\n", "found the columns 'picture', 'words'"),
        ("captions.csv", "", "found the columns none"),
        ("captions.csv", "image,caption\na.jpg,one, two\n", "line 2: 3 columns where the header has 2"),
        ("captions.csv", 'image,caption\na.jpg,"open\n', "not a row of a CSV file"),
        ("captions.csv", "image,caption\n../a.jpg,x\n", r"line 2: the path '\.\./a\.jpg' leads outside"),
        ("captions.csv", "image,caption\n/a.jpg,x\n", "leads outside"),
        ("captions.csv", "image,caption\nC:\\a.jpg,x\n", "leads outside"),
        ("captions.csv", "image,caption,split\na.jpg,x,third\n", "line 2: the split is 'third'"),
        (
            "captions.csv",
            "image,caption,split\na.jpg,x,train\na.jpg,y,test\n",
            "line 3: 'a.jpg' is in test here and in train",
        ),
        ("captions.csv", "image,caption\n" + "a" * 200_000 + ",b\n", "field larger than"),
        ("captions.jsonl", "{", "line 1: not JSON"),
        ("captions.jsonl", '\n["a.jpg"]', "line 2: expected an object"),
        ("captions.jsonl", '{"picture": "a.jpg", "caption": "x"}', "'image' is missing; found 'picture', 'caption'"),
        ("captions.jsonl", '{"image": "a.jpg"}', "'caption' is missing; found 'image'"),
        ("captions.jsonl", '{"image": 3, "caption": "x"}', "'image' must be a string"),
        ("captions.jsonl", '{"image": "a.jpg", "captions": 1}', "'captions' must be a string"),
        ("captions.jsonl", '{"image": "a.jpg", "image": "b.jpg", "caption": "x"}', "line 1: .*'image' occurs twice"),
        ("captions.jsonl", '{"image": "a.jpg", "captions": [1]}', "list of strings"),
        ("captions.jsonl", '{"image": "a.jpg", "caption": "x", "split": 1}', "'split' must be a string"),
        ("captions.jsonl", '{"image": "a.jpg", "caption": "\\udc00"}', "surrogate"),
    ],
)
def test_bad_content_is_an_error_with_its_place(tmp_path: Path, name: str, text: str, complaint: str) -> None:
    pictures(tmp_path, "images/a.jpg")
    (tmp_path / name).write_text(text)
    with pytest.raises(CorpusError, match=complaint):
        read_folder(tmp_path)


def test_utf16_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    (tmp_path / "captions.csv").write_text("image,caption\na.jpg,x\n", "utf-16")
    with pytest.raises(CorpusError, match="save the file as UTF-8"):
        read_folder(tmp_path)
    (tmp_path / "captions.csv").write_text("image,caption\na.jpg,x\n", "utf-16-le")
    with pytest.raises(CorpusError, match="UTF-16"):
        read_folder(tmp_path)


def test_wrong_root_says_what_was_sought_and_what_is_there(tmp_path: Path) -> None:
    pictures(tmp_path, "a.jpg")
    with pytest.raises(CorpusError, match=r"captions\.csv, captions\.tsv, captions\.jsonl; found a\.jpg"):
        read_folder(tmp_path)
    with pytest.raises(CorpusError, match="is not a folder"):
        read_folder(tmp_path / "a.jpg")
    (tmp_path / "captions.csv").write_text("image,caption\nb.jpg,x\n")
    corpus = read_folder(tmp_path)  # the captions are of use all the same
    assert re.search(r"pictures such as 'b\.jpg'.*found a\.jpg, captions\.csv", corpus.pictures_lacking)
    assert corpus.images[0].sentences

"""Tables of captions: everything is read, or said not to be."""

import json
from pathlib import Path

import pytest

from mrnn.data.errors import CorpusError
from mrnn.data.flickr import read_flickr8k
from mrnn.data.folder import read_folder
from mrnn.data.tables import Table, read_caption_table, read_json_lines


def table(tmp_path: Path, text: str, name: str = "captions.csv") -> Table:
    (tmp_path / name).write_text(text)
    return (read_json_lines if name.endswith("jsonl") else read_caption_table)(tmp_path / name)


@pytest.mark.parametrize(
    "header",
    [
        "caption,caption,caption",
        "caption_1,caption_2,caption_3",
        "caption 1,Caption 2, CAPTION 3",
        "caption,caption.1,caption.2",
        "caption0,caption1,caption2",
        "captions,caption#2,caption-3",
        "sentence1,sentence2,sentence3",
        "text,text2,texts",
    ],
)
def test_all_columns_of_captions_are_read(tmp_path: Path, header: str) -> None:
    found = table(tmp_path, f"image,{header}\na.jpg,One,Two,Three\nb.jpg,Four,,\nc.jpg,,,\n")
    assert [(row.image, row.captions) for row in found.rows] == [
        ("a.jpg", ["One", "Two", "Three"]),
        ("b.jpg", ["Four"]),
        ("c.jpg", ["", "", ""]),
    ]
    assert found.notes == ()


def test_what_is_not_read_is_named_once(tmp_path: Path) -> None:
    found = table(tmp_path, "image,caption,image,licence,,text,caption_id\na.jpg,One,b.jpg,CC,x,y,7\n")
    assert found.rows[0].captions == ["One"]
    assert found.rows[0].image == "a.jpg"
    (note,) = found.notes
    assert note == "captions.csv: columns that are not read: 'image' (again), 'licence', number 5, 'text', 'caption_id'"


@pytest.mark.parametrize("key", ["set", "subset", "partition", "Set"])
def test_a_split_column_by_another_name(tmp_path: Path, key: str) -> None:
    found = table(tmp_path, f"image,caption,{key}\na.jpg,A,train\nb.jpg,B,Val\nc.jpg,C,\n")
    assert [row.split for row in found.rows] == ["train", "val", ""]
    assert found.notes == (f"captions.csv: splits are read from the column '{key.lower()}'",)
    found = table(tmp_path, f"image,caption,{key}\na.jpg,A,train\nb.jpg,B,holiday\n")
    assert [row.split for row in found.rows] == ["", ""], "holds something else than splits"
    assert found.notes == (f"captions.csv: columns that are not read: '{key.lower()}'",)
    found = table(tmp_path, f"image,caption,{key},split\na.jpg,A,train,test\n")
    assert found.rows[0].split == "test"


def test_keys_of_json_lines(tmp_path: Path) -> None:
    lines = [
        {"image": "a.jpg", "caption_1": "One", "caption_2": "Two", "url": "x"},
        {"image": "b.jpg", "captions": ["Three"], "caption": "Four", "set": "test", "url": "y", "text": "z"},
    ]
    doubled = '{"image": "c.jpg", "caption": "Five", "caption": ["Six", "Seven"], "split": null}'
    found = table(tmp_path, "\n".join([*map(json.dumps, lines), doubled]), "captions.jsonl")
    assert [row.captions for row in found.rows] == [["One", "Two"], ["Three", "Four"], ["Five", "Six", "Seven"]]
    assert [row.split for row in found.rows] == ["", "test", ""]
    assert found.notes == ("captions.jsonl: keys that are not read: 'url', 'text'",)


QUOTED = [f"p{n}.jpg{{}}A dog number {n} runs" for n in range(1, 13)]


def with_quotes(separator: str, first: int, last: int) -> str:
    """Twelve rows, of which one caption begins with a double quote and another ends with one."""
    rows = [row.format(separator) for row in QUOTED]
    rows[first - 1] = rows[first - 1].replace(separator, f'{separator}"')
    rows[last - 1] += '"'
    return "\n".join([f"image{separator}caption", *rows]) + "\n"


@pytest.mark.parametrize(("first", "last"), [(3, 9), (1, 12), (3, 3), (11, 12), (9, 3)])
def test_quotes_do_not_join_lines_of_a_tsv(tmp_path: Path, first: int, last: int) -> None:
    found = table(tmp_path, with_quotes("\t", first, last), "captions.tsv")
    assert [row.image for row in found.rows] == [f"p{n}.jpg" for n in range(1, 13)]
    assert [row.captions[0].strip('"') for row in found.rows] == [f"A dog number {n} runs" for n in range(1, 13)]
    assert any(f"line {first + 1})" in note for note in found.notes) == (first != last)


@pytest.mark.parametrize("separator", [",", ";"])
@pytest.mark.parametrize(("first", "last"), [(3, 9), (1, 12), (11, 12), (9, 3)])
def test_quotes_that_swallow_rows_of_a_csv_are_an_error_at_their_first_line(
    tmp_path: Path, separator: str, first: int, last: int
) -> None:
    with pytest.raises(CorpusError, match=rf"captions\.csv, line {first + 1}: "):
        table(tmp_path, with_quotes(separator, first, last))


def test_quotes_that_end_in_the_middle_are_an_error_at_their_first_line(tmp_path: Path) -> None:
    text = 'image,caption\na.jpg,A\nb.jpg,"B\nc.jpg,He says "no" to it\nd.jpg,D\n'
    with pytest.raises(CorpusError, match=r"captions\.csv, line 3: not a row"):
        table(tmp_path, text)
    with pytest.raises(CorpusError, match=r"captions\.tsv, line 3: a double quote opens"):
        table(tmp_path, 'image\tcaption\na.jpg\tA\nb.jpg\t"Two\nlines"\n', "captions.tsv")


def test_captions_over_several_lines_of_a_csv_stay(tmp_path: Path) -> None:
    found = table(tmp_path, 'image,caption\na.jpg,"A dog,\nbrown, runs.\nYes, it does"\nb.jpg,B\n')
    assert [row.captions for row in found.rows] == [["A dog,\nbrown, runs.\nYes, it does"], ["B"]]


def test_quoted_fields_of_a_tsv_as_spreadsheets_write_them(tmp_path: Path) -> None:
    text = 'image\tcaption\r\na.jpg\t"He says ""no"""\r\nb.jpg\t"a\tb"\r\nc.jpg\t5" nails\r\n'
    assert [row.captions[0] for row in table(tmp_path, text, "captions.tsv").rows] == [
        'He says "no"',
        "a\tb",
        '5" nails',
    ]


def test_notes_reach_the_corpus(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").touch()
    for name in ("captions.csv", "captions.txt"):
        (tmp_path / name).write_text("image,caption,caption,colour\na.jpg,One,Two,red\n")
    (tmp_path / "captions.tsv").write_text("other")
    for read in (read_folder, read_flickr8k):
        corpus = read(tmp_path)
        assert corpus.images[0].sentences == ("One", "Two")
        assert any("not read: 'colour'" in note for note in corpus.notes)
    assert "captions.tsv lies beside captions.csv and is not read" in read_folder(tmp_path).notes

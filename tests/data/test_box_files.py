"""Boxes from files of others: COCO results and CSV, whatever is in them."""

import json
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mrnn.data.box_files import read_box_file
from mrnn.data.captions import Corpus, Image
from mrnn.data.errors import CorpusError

CORPUS = Corpus(
    "coco", Path("root"), tuple(Image(str(n), f"{n}.jpg", "train", ("a",)) for n in (7, 8)), integer_ids=True
)
RESULT = {"image_id": 7, "bbox": [1, 2, 3, 4], "score": 0.5, "category_id": 9}


def write(path: Path, content: object) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_coco_results_and_annotations(tmp_path: Path) -> None:
    better = {**RESULT, "bbox": [5, 6, 7, 8], "score": 0.75}
    found = read_box_file(write(tmp_path / "a.json", [RESULT, better, {**RESULT, "image_id": 99}]), CORPUS)
    assert found.strays == 1
    assert list(found.by_id) == ["7"]
    assert found.by_id["7"].rectangles.tolist() == [[5, 6, 7, 8], [1, 2, 3, 4]]
    assert found.by_id["7"].scores.tolist() == [0.75, 0.5]
    assert found.by_id["7"].classes.tolist() == [9, 9]
    truth = {"annotations": [{"image_id": 8, "bbox": [1, 2, 3, 4], "category_id": 2}]}
    assert read_box_file(write(tmp_path / "b.json", truth), CORPUS).by_id["8"].scores.tolist() == [1]


def test_tables(tmp_path: Path) -> None:
    text = "image;left;top;width;height\n7;1;2;3;4\n7;2;2;2;2\n8;0;0;1;1.5\n"
    found = read_box_file(write(tmp_path / "a.csv", text), CORPUS)
    assert found.by_id["7"].rectangles.tolist() == [[1, 2, 3, 4], [2, 2, 2, 2]]
    assert found.by_id["8"].rectangles.tolist() == [[0, 0, 1, 1.5]]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.json", "{", "not JSON"),
        ("a.json", "5", "expected a list of COCO results"),
        ("a.json", [5], "entry 0: expected an object with 'image_id'"),
        ("a.json", [{**RESULT, "bbox": [1, 2]}], "'bbox' must be"),
        ("a.json", [{**RESULT, "bbox": [1, 2, -3, 4]}], "width and height come third and fourth"),
        ("a.json", [{**RESULT, "bbox": [1, 2, "x", 4]}], "expected a number, found 'x'"),
        ("a.json", [{**RESULT, "score": None}], "expected a number"),
        ("a.json", [{**RESULT, "image_id": "cat.jpg"}], "no box is of an image of coco .*'cat.jpg'"),
        ("a.json", [], "the file has none"),
        ("a.csv", 'image,left,top,width,height\n"7,1,2,3,4\n', "line 2: not a row of a CSV file"),
        ("a.csv", "image,left,top,width,height\n7,1,2,3\n", "line 2: 4 columns where the header has 5"),
        ("a.csv", "image,left,top\n7,1,2\n", "the column width is missing"),
        ("a.csv", "image,left,top,width,height\n7,1,2,3,wide\n", "line 2: expected a number, found 'wide'"),
    ],
)
def test_files_that_cannot_be_are_named(tmp_path: Path, name: str, content: object, message: str) -> None:
    with pytest.raises(CorpusError, match=rf"{name}.*{message}"):
        read_box_file(write(tmp_path / name, content), CORPUS)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    entries=st.lists(
        st.fixed_dictionaries(
            {"image_id": st.sampled_from([7, 8, "7", None, 1.5])},
            optional={
                "bbox": st.lists(st.one_of(st.integers(), st.floats(), st.text(max_size=3)), max_size=5),
                "score": st.one_of(st.floats(), st.none(), st.booleans()),
                "category_id": st.one_of(st.integers(), st.text(max_size=2)),
            },
        ),
        max_size=3,
    )
)
def test_any_results_are_read_or_refused(tmp_path: Path, entries: list[object]) -> None:
    path = write(tmp_path / "a.json", entries)
    with suppress(CorpusError):
        found = read_box_file(path, CORPUS)
        assert sum(len(boxes.valid) for boxes in found.by_id.values()) + found.strays == len(entries)

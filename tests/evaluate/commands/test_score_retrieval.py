"""evaluate-retrieval: anybody's matrix of scores, ranked by our protocol."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from mrnn.evaluate.commands.score_retrieval import main

# two sentences of the first image, one of the second, two of the third
SCORES = np.array([[3, 1, 2, 0, 0], [5, 0, 4, 1, 1], [0, 0, 3, 3, 2]], dtype=np.float32)
CAPTIONS = "image,caption\na.jpg,one\na.jpg,two\nb.jpg,three\nc.jpg,four\nc.jpg,five\n"


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [*map(str, arguments)])


@pytest.fixture
def matrix(tmp_path: Path) -> Path:
    np.save(tmp_path / "scores.npy", SCORES)
    return tmp_path / "scores.npy"


@pytest.fixture
def captions(tmp_path: Path) -> Path:
    (tmp_path / "captions.csv").write_text(CAPTIONS)
    return tmp_path / "captions.csv"


def test_by_hand(matrix: Path, captions: Path, tmp_path: Path) -> None:
    """Ranks of images, ties against us: 1, 2, 2 (a tie for the first place), of sentences: 2, 1, 1, 1, 1."""
    output = tmp_path / "retrieval.json"
    done = run(matrix, "--captions", captions, "--output", output)
    assert done.exit_code == 0, done.output
    found = json.loads(output.read_text())
    third = 100 / 3
    to_sentence, to_image = found["image_to_sentence"], found["sentence_to_image"]
    # precisions up to R: (1 + 0) / 2, as the second is third; 0; (0 + 1/2) / 2
    expected = {"R@1": third, "R@5": 100, "R@10": 100, "median_rank": 2, "mean_rank": 5 / 3, "mAP@R": 100 * 0.75 / 3}
    assert to_sentence == pytest.approx(expected)
    assert to_image == pytest.approx({"R@1": 80, "R@5": 100, "R@10": 100, "median_rank": 1, "mean_rank": 1.2})
    assert found["rsum"] == pytest.approx(third + 80 + 400)
    # with the tie won, the third image finds its own first, and a precision of (1 + 0) / 2
    assert found["best_of_ties"]["image_to_sentence"]["R@1"] == pytest.approx(2 * third)
    assert found["best_of_ties"]["image_to_sentence"]["mAP@R"] == pytest.approx(100 * (0.5 + 0 + 0.5) / 3)
    assert found["best_of_ties"]["rsum"] == pytest.approx(2 * third + 80 + 400)
    assert "sentence_to_image" not in found["best_of_ties"]
    assert tuple(found[key] for key in ("images", "sentences", "captions")) == (3, 5, "captions.csv")
    numbers = {f"{way} {name}" for way in ("image_to_sentence", "sentence_to_image") for name in found[way]}
    assert found["intervals"].keys() == numbers | {"rsum"}
    for name, (low, high) in found["intervals"].items():
        way, _, inner = name.partition(" ")
        assert low <= (found[way][inner] if inner else found["rsum"]) <= high
    for text in ("3 images, 5 sentences", "mAP@R", "mean_rank", "rsum 513.3, 546.7 with ties won", "ties won"):
        assert text in done.output
    assert json.loads(run(matrix, "--captions", captions, "--json").stdout) == found


def test_captions_that_are_not_grouped_by_image(tmp_path: Path, matrix: Path, captions: Path) -> None:
    """Columns are in the order of the file, rows in that of each image's first sentence."""
    expected = json.loads(run(matrix, "--captions", captions, "--json").stdout)
    lines = CAPTIONS.splitlines()
    captions.write_text("\n".join([lines[0], *(lines[1 + n] for n in (0, 2, 3, 1, 4))]) + "\n")
    np.save(matrix, SCORES[:, [0, 2, 3, 1, 4]])
    found = json.loads(run(matrix, "--captions", captions, "--json").stdout)
    assert {**found, "intervals": 0} == {**expected, "intervals": 0}


def test_a_data_set_and_a_number_of_sentences_say_the_same(tmp_path: Path) -> None:
    rows = [f"{n}.jpg,A dog number {n} {word},test" for n in range(4) for word in ("runs", "sits")]
    (tmp_path / "captions.csv").write_text("image,caption,split\n" + "\n".join(rows) + "\n9.jpg,Another,train\n")
    for n in (0, 1, 2, 3, 9):
        (tmp_path / f"{n}.jpg").touch()
    np.save(tmp_path / "m.npy", np.random.default_rng(1).normal(size=(4, 8)))
    asked = (tmp_path / "m.npy", "--json")
    by_name = json.loads(run(*asked, "--dataset", "folder", "--root", tmp_path).stdout)
    by_number = json.loads(run(*asked, "--sentences-per-image", 2).stdout)
    assert by_name.pop("captions") == "folder test"
    assert by_number.pop("captions") == "a matrix with 2 sentences for each row"
    assert by_name == by_number
    wrong = run(*asked, "--dataset", "folder", "--root", tmp_path, "--split", "all")
    assert "4 rows and 8 columns, but folder all has 5 images" in wrong.stderr


def broken(content: Any) -> np.ndarray:
    return np.where(np.arange(15).reshape(3, 5) == 7, content, SCORES)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (SCORES.T, "5 rows and 3 columns, but captions.csv has 3 images with sentences, one for each row, and 5 sent"),
        (SCORES.T, "transpose it"),
        (SCORES[:2], "are these the captions that it was computed from?"),
        (SCORES[0], "the shape (5,)"),
        (SCORES.astype(int), "the type int64; expected a matrix of floats"),
        (broken(np.nan), "row 1 and column 2 is not a number"),
        (np.array([{"a": 1}]), "is not a .npy file of numbers"),
        (b"image,score\n", "is not a .npy file of numbers"),
        (b"", "is not a .npy file of numbers"),
    ],
)
def test_a_bad_matrix_gets_one_sentence(content: Any, message: str, matrix: Path, captions: Path) -> None:
    if isinstance(content, bytes):
        matrix.write_bytes(content)
    else:
        np.save(matrix, content)
    done = run(matrix, "--captions", captions)
    assert (done.exit_code, done.stderr.count("\n")) == (1, 1), done.output
    assert message in done.stderr


def test_other_files_and_wrong_usage(tmp_path: Path, matrix: Path, captions: Path) -> None:
    np.savez(tmp_path / "m.npz", SCORES)
    assert "is an .npz archive" in run(tmp_path / "m.npz", "--captions", captions).stderr
    missing = run(tmp_path / "none.npy", "--captions", captions)
    assert (missing.exit_code, missing.stderr.count("\n")) == (1, 1)
    assert "2 sentences for each row has 3 images" in run(matrix, "--sentences-per-image", 2).stderr
    assert run(matrix).exit_code == 2
    assert run(matrix, "--captions", captions, "--sentences-per-image", 2).exit_code == 2
    before = matrix.read_bytes()
    assert run(matrix, "--captions", captions, "--output", matrix).exit_code == 2
    assert matrix.read_bytes() == before

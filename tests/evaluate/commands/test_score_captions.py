"""evaluate-captions: files from anywhere, without a model."""

import gzip
import json
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from mrnn.evaluate.commands.score_captions import main
from mrnn.evaluate.metrics.java_scorers import JavaScores

SENTENCES = {
    1: ["A dog runs in the snow .", "Dogs run."],
    2: ["A cat (white) sits on a mat"],
    3: ["Two boys play ball."],
}
CAPTIONS = {1: "a dog runs in the snow", 2: "a cat sits on a mat", 3: "two boys play football"}


def write(path: Path, content: Any) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


@pytest.fixture
def references(tmp_path: Path) -> Path:
    """A COCO annotation file."""
    pairs = [(image, sentence) for image, each in SENTENCES.items() for sentence in each]
    records = [{"id": number, "image_id": image, "caption": text} for number, (image, text) in enumerate(pairs)]
    return write(tmp_path / "references.json", {"images": [], "annotations": records})


def results(folder: Path, captions: dict[Any, Any]) -> Path:
    return write(folder / "results.json", [{"image_id": i, "caption": c} for i, c in captions.items()])


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [*map(str, arguments)])


def test_scores_in_table_and_file(tmp_path: Path, references: Path) -> None:
    output = tmp_path / "scores.json"
    result = run(
        results(tmp_path, CAPTIONS), "--references", references, "--no-meteor", "--output", output, "--per-image"
    )
    assert result.exit_code == 0, result.output
    assert "3 images, 4 references" in result.output
    scores = json.loads(output.read_text())
    for name in ("Bleu_1", "Bleu_4", "ROUGE_L", "CIDEr"):
        assert f"{scores[name]:.3f}" in result.output
    # all 6, 6 and 3 of 4 words are in a reference; lengths 6, 7 (with two brackets: 9) and 4
    assert scores["ngram_precision"][0] == pytest.approx(15 / 16)
    assert scores["brevity_penalty"] == pytest.approx(2.718281828459045 ** (1 - 19 / 16))
    assert scores["ngram_precision_with_penalty"][0] == pytest.approx(scores["Bleu_1"], abs=1e-6)
    assert scores["per_image"]["1"]["ROUGE_L"] == 1
    assert "METEOR" not in scores
    assert scores["skipped"] == {}


def test_plain_tokens_have_no_brackets(tmp_path: Path, references: Path) -> None:
    output = tmp_path / "scores.json"
    options = ("--references", references, "--no-meteor", "--tokenizer", "plain", "--output", output)
    assert run(results(tmp_path, CAPTIONS), *options).exit_code == 0
    assert json.loads(output.read_text())["brevity_penalty"] == pytest.approx(2.718281828459045 ** (1 - 17 / 16))


def test_meteor_and_its_absence(tmp_path: Path, references: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output = tmp_path / "scores.json"
    options = (results(tmp_path, CAPTIONS), "--references", references, "--output", output, "--per-image")
    found = JavaScores(0.25, {"1": 0.1, "2": 0.2, "3": 0.3})
    monkeypatch.setattr("mrnn.evaluate.studies.caption_files.java_scores", lambda *_, **__: found)
    result = run(*options)
    assert "METEOR 0.250" in result.output
    assert json.loads(output.read_text())["per_image"]["2"]["METEOR"] == 0.2
    monkeypatch.undo()
    monkeypatch.setenv("PATH", str(tmp_path))  # no java there
    result = run(*options, "--spice")
    assert result.exit_code == 0
    skipped = json.loads(output.read_text())["skipped"]
    assert list(skipped) == ["METEOR", "SPICE"]
    assert all("no java on the PATH" in reason and reason in result.output for reason in skipped.values())
    assert "CIDEr" in result.output


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "holds no captions"),
        ("not json", "not JSON"),
        ({"1": "a dog"}, "expected a list"),
        ([{"image_id": 1, "caption": "a"}, {"image_id": 1, "caption": "b"}], "entry 1: image 1 has a caption already"),
        ([{"image_id": 1, "caption": ["a"]}], "'caption' must be a string"),
        ([{"image_id": 1.5, "caption": "a"}], "'image_id' must be a string"),
        ([{"image_id": True, "caption": "a"}], "'image_id' must be an integer"),
        ([{"image_id": 1}], "'caption' is missing"),
        (["a dog"], "entry 0: expected an object"),
        ([{"image_id": 1, "caption": "a"}], "2 of 3 images of references.json have no caption: 2, 3; --allow-subset"),
        ([{"image_id": 9, "caption": "a"}], "1 of 1 captions are of images that references.json does not have: 9"),
    ],
)
def test_a_bad_file_gets_one_sentence(content: Any, message: str, tmp_path: Path, references: Path) -> None:
    result = run(write(tmp_path / "results.json", content), "--references", references)
    assert result.exit_code == 1
    assert message in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_subset_and_its_count(tmp_path: Path, references: Path) -> None:
    chosen = {image: CAPTIONS[image] for image in (1, 3)}
    result = run(results(tmp_path, chosen), "--references", references, "--no-meteor", "--allow-subset")
    assert result.exit_code == 0, result.output
    assert "2 of 3 images, 3 references" in result.output


def test_images_that_cannot_be_scored(tmp_path: Path) -> None:
    record = {"id": 1, "image_id": 1, "caption": " . "}
    references = write(tmp_path / "references.json", {"annotations": [record]})
    result = run(results(tmp_path, {1: "a dog"}), "--references", references, "--no-meteor")
    assert (result.exit_code, "image 1 has no reference sentence with a word" in result.stderr) == (1, True)
    result = run(results(tmp_path, {1: ""}), "--references", write(references, {"annotations": []}), "--no-meteor")
    assert result.exit_code == 1


def test_a_data_set_and_its_splits(tmp_path: Path) -> None:
    names = [f"{i}.jpg" for i in range(4)]
    rows = [f"{name},A dog number {i} runs,{'test' if i < 2 else 'train'}" for i, name in enumerate(names)]
    write(tmp_path / "captions.csv", "image,caption,split\n" + "\n".join(rows) + "\n")
    for name in names:
        (tmp_path / name).touch()
    given = results(tmp_path, dict.fromkeys(names[:2], "a dog runs"))
    folder = ("--dataset", "folder", "--root", tmp_path, "--no-meteor")
    result = run(given, *folder)
    assert "folder test, ptb tokens: 2 images, 2 references" in result.output
    assert "2 of 4 images of folder all have no caption" in run(given, *folder, "--split", "all").stderr
    assert "no image with sentences in the split 'val'" in run(given, *folder, "--split", "val").stderr


def test_usage(tmp_path: Path, references: Path) -> None:
    given = results(tmp_path, CAPTIONS)
    assert run(given).exit_code == 2
    assert run(given, "--references", references, "--dataset", "coco").exit_code == 2
    assert run(given, "--references", references, "--per-image").exit_code == 2


def test_no_torch_is_loaded(tmp_path: Path, references: Path) -> None:
    code = (
        "import sys; from mrnn.evaluate.commands.score_captions import main; "
        "main(sys.argv[1:], standalone_mode=False); sys.exit('torch' in sys.modules)"
    )
    command = [sys.executable, "-c", code, str(results(tmp_path, CAPTIONS)), "--references", str(references)]
    assert subprocess.run([*command, "--no-meteor"], capture_output=True, check=False).returncode == 0


def test_results_in_json_lines_and_ids_as_text(tmp_path: Path, references: Path) -> None:
    lines = "\n".join(json.dumps({"image_id": str(i), "caption": c}) for i, c in CAPTIONS.items())
    expected = run(results(tmp_path, CAPTIONS), "--references", references, "--no-meteor").output.splitlines()[1:]
    for ending in ("\n", "\r\n\r\n"):
        file = write(tmp_path / "results.jsonl", lines.replace("\n", ending) + ending)
        done = run(file, "--references", references, "--no-meteor")
        assert done.exit_code == 0, done.output
        assert done.output.splitlines()[1:] == expected
    broken = write(tmp_path / "results.jsonl", lines + '\n{"image_id": 4,')
    assert f"{broken}, line 4: not JSON" in run(broken, "--references", references, "--no-meteor").output


def test_scores_that_mean_little_are_said_to(tmp_path: Path, references: Path) -> None:
    one = run(results(tmp_path, {1: CAPTIONS[1]}), "--references", references, "--no-meteor", "--allow-subset")
    assert "with a single image CIDEr is 0" in one.output
    thai = [{"image_id": i, "caption": "แมวนั่งบนเสื่อ"} for i in (1, 2)]
    file, known = write(tmp_path / "thai.json", thai), write(tmp_path / "known.json", {"annotations": thai})
    assert "no blanks between the words of 4 captions in Thai" in run(file, "--references", known, "--no-meteor").output
    assert "warning" not in run(results(tmp_path, CAPTIONS), "--references", references, "--no-meteor").output


def test_results_are_not_replaced_by_their_scores(tmp_path: Path, references: Path) -> None:
    file = results(tmp_path, CAPTIONS)
    before = file.read_bytes()
    for output in (file, references):
        done = run(file, "--references", references, "--no-meteor", "--output", output)
        assert done.exit_code == 2
        assert "also an input" in " ".join(done.output.split())
    assert file.read_bytes() == before


def scores(folder: Path, *arguments: object) -> dict[str, Any]:
    """What a run without METEOR writes to its output file."""
    done = run(*arguments, "--no-meteor", "--output", folder / "scores.json")
    assert done.exit_code == 0, done.output
    found: dict[str, Any] = json.loads((folder / "scores.json").read_text())
    return found


def test_references_in_tables_and_json_lines(tmp_path: Path, references: Path) -> None:
    """The same sentences in each form get the same scores, the COCO file's."""
    given = results(tmp_path, CAPTIONS)
    pairs = [(image, text) for image, each in SENTENCES.items() for text in each]
    files = [
        write(tmp_path / "r.csv", "image_id,caption\n" + "".join(f'{image},"{text}"\n' for image, text in pairs)),
        write(tmp_path / "r.tsv", "image\tsentence\n" + "".join(f"{image}\t{text}\n" for image, text in pairs)),
        write(
            tmp_path / "r.jsonl",
            "".join(json.dumps({"image_id": image, "captions": each}) + "\n" for image, each in SENTENCES.items()),
        ),
        write(
            tmp_path / "r.ndjson",
            "".join(json.dumps({"image": str(image), "caption": text}) + "\n" for image, text in pairs),
        ),
    ]
    zipped = tmp_path / "r.csv.gz"
    zipped.write_bytes(gzip.compress(files[0].read_bytes()))
    expected = scores(tmp_path, given, "--references", references)
    for file in (*files, zipped):
        found = scores(tmp_path, given, "--references", file)
        assert found["references"] == file.name
        assert found["document_frequencies"] == {"source": file.name, "images": 3}
        for key in ("Bleu_1", "Bleu_4", "ROUGE_L", "CIDEr", "counts"):
            assert found[key] == expected[key], (file, key)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("r.csv", "name,caption\n1,a\n", "expected a column for the picture (image_id, image,"),
        ("r.csv", "image_id,caption\n", "r.csv holds no captions"),
        ("r.jsonl", '{"caption": "a"}\n', "line 1: 'image' is missing"),
        ("r.jsonl", '{"image_id": 1.5, "caption": "a"}\n', "line 1: 'image_id' must be a string"),
        ("r.json", "[]", "expected an object with 'annotations'"),
        ("r.json", '{"annotations": []}', "r.json holds no captions"),
    ],
)
def test_a_bad_file_of_references_gets_one_sentence(name: str, content: str, message: str, tmp_path: Path) -> None:
    result = run(results(tmp_path, {1: "a"}), "--references", write(tmp_path / name, content))
    assert (result.exit_code, result.stderr.count("\n")) == (1, 1)
    assert message in result.stderr


def test_what_is_not_read_of_a_table_is_said(tmp_path: Path) -> None:
    file = write(tmp_path / "r.csv", "image,caption,split\n1,a dog,train\n2,a cat,test\n")
    done = run(results(tmp_path, {1: "a dog", 2: "a cat"}), "--references", file, "--no-meteor")
    assert done.exit_code == 0
    assert "columns that are not read: 'split'" in done.stderr


def test_document_frequencies_of_other_captions(tmp_path: Path, references: Path) -> None:
    given = results(tmp_path, {1: CAPTIONS[1]})
    options = (given, "--references", references, "--allow-subset")
    assert scores(tmp_path, *options)["CIDEr"] == 0
    others = write(tmp_path / "o.csv", "image,caption\na.jpg,A dog in the grass.\nb.jpg,Two cats.\nb.jpg,A cat.\n")
    found = scores(tmp_path, *options, "--df", others)
    assert found["CIDEr"] > 1
    assert found["document_frequencies"] == {"source": "o.csv", "images": 2}
    assert "warning" not in run(*options, "--df", others, "--no-meteor").stderr
    # those of all references, as a file, change nothing
    every = results(tmp_path, CAPTIONS)
    plain = scores(tmp_path, every, "--references", references)
    assert scores(tmp_path, every, "--references", references, "--df", references)["CIDEr"] == plain["CIDEr"]
    # words are those of the tokenizer, here without brackets
    options = (every, "--references", references, "--df", references, "--tokenizer", "plain")
    assert scores(tmp_path, *options)["CIDEr"] != plain["CIDEr"]


def test_a_pickle_is_refused(tmp_path: Path, references: Path) -> None:
    file = tmp_path / "coco-train-df.p"
    file.write_bytes(pickle.dumps({"document_frequency": {("a",): 3.0}}))
    done = run(results(tmp_path, CAPTIONS), "--references", references, "--df", file)
    assert (done.exit_code, done.stderr.count("\n")) == (1, 1)
    assert "is a pickle" in done.stderr
    assert "CSV, JSON lines or a COCO annotation file" in done.stderr


def test_a_cider_without_meaning_is_said_to_be(tmp_path: Path) -> None:
    def warned(captions: dict[Any, Any], sentences: dict[Any, str]) -> str:
        file = write(tmp_path / "r.csv", "image_id,caption\n" + "".join(f"{i},{s}\n" for i, s in sentences.items()))
        done = run(results(tmp_path, captions), "--references", file, "--no-meteor")
        assert done.exit_code == 0, done.output
        return done.stderr

    assert "no caption has a word in common" in warned({1: "ein Hund", 2: "eine Katze"}, {1: "a dog", 2: "a cat"})
    same = warned({1: "a dog", 2: "a cat"}, {1: "a dog", 2: "a dog"})
    assert "CIDEr is 0 because the references of every image" in same
    assert "--df" in same
    assert "warning" not in warned({1: "a dog", 2: "a bird"}, {1: "a dog", 2: "a cat"})

"""Caption scores against the golden files of the community's scorers and hand-worked examples."""

import json
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mrnn.data.tokenize import tokenize
from mrnn.evaluate.metrics.captions import score_captions
from mrnn.evaluate.metrics.tokenizers import TOKENIZERS, script_warnings, tokenize_all


def split_all(sentences: dict[str, list[str]]) -> dict[str, list[list[str]]]:
    return {image: [sentence.split() for sentence in each] for image, each in sentences.items()}


def test_golden_scores_of_1000_real_captions(real_data: Path) -> None:
    folder = real_data / "golden-metrics"
    given = json.loads((folder / "flickr8k_test_human_tokenized.json").read_text())
    golden = json.loads((folder / "flickr8k_test_human_scores.json").read_text())
    candidates = {image: sentence.split() for image, sentence in given["candidate"].items()}
    scores = score_captions(candidates, split_all(given["references"]))
    for name, value in scores.corpus.items():
        assert value == pytest.approx(golden["scores"][name], abs=1e-9), name
        each = [values[name] for values in scores.per_image.values()]
        expected = [golden["per_image"][image][name] for image in scores.per_image]
        np.testing.assert_allclose(each, expected, atol=1e-9)
    precision, penalty = scores.ngram_precision, scores.brevity_penalty
    for n in range(1, 5):  # our own counting, put together to cumulative BLEU
        assert penalty * np.prod(precision[:n]) ** (1 / n) == pytest.approx(golden["scores"][f"Bleu_{n}"], abs=1e-6)


def raw_flickr8k(data: Path, *, shift: int) -> tuple[dict[str, str], dict[str, list[str]]]:
    """Caption #4 of the image `shift` places on in the test list, against captions #0 to #3."""
    lines = (data / "flickr8k" / "Flickr8k.token.txt").read_text().splitlines()
    sentences = dict(line.split("\t") for line in lines)
    images = (data / "flickr8k" / "Flickr_8k.testImages.txt").read_text().split()
    said = {image: sentences[f"{images[(i + shift) % len(images)]}#4"] for i, image in enumerate(images)}
    return said, {image: [sentences[f"{image}#{number}"] for number in range(4)] for image in images}


def raw_coco(data: Path, *, results: str) -> tuple[dict[str, str], dict[str, list[str]]]:
    references: dict[str, list[str]] = {}
    for record in json.loads((data / "coco/annotations/captions_val2017.json").read_text())["annotations"]:
        references.setdefault(str(record["image_id"]), []).append(record["caption"])
    said = {str(r["image_id"]): r["caption"] for r in json.loads((data / "coco/results" / results).read_text())}
    return said, references


@pytest.mark.parametrize(
    ("golden_name", "read", "options"),
    [
        ("flickr8k_test_human", raw_flickr8k, {"shift": 0}),
        ("flickr8k_test_shifted", raw_flickr8k, {"shift": 1}),
        ("coco_fakecap_in_val2017", raw_coco, {"results": "captions_val2014_fakecap_results.in_val2017.json"}),
        ("coco_val2017_fakecap", raw_coco, {"results": "captions_val2017_fakecap_results.json"}),
    ],
)
def test_golden_scores_from_raw_captions(
    golden_name: str, read: Callable[..., Any], options: dict[str, Any], real_data: Path
) -> None:
    """Everything that coco-caption does, its tokeniser included, without Java."""
    golden = json.loads((real_data / "golden-metrics" / f"{golden_name}_scores.json").read_text())
    scores = score_captions(*tokenize_all(*read(real_data, **options), tokenizer="ptb"))
    for name, value in scores.corpus.items():
        assert value == pytest.approx(golden["scores"][name], abs=1e-9), name
    for image, expected in golden.get("per_image", {}).items():
        for name, value in scores.per_image[image].items():
            assert value == pytest.approx(expected[name], abs=1e-9), (image, name)


def test_precision_with_brevity_penalty_is_that_of_bleu() -> None:
    """A token with a no-break space inside counts as BLEU counts it: as two words."""
    candidates = {"a": ["1\xa01/2", "cups"], "b": ["a", "dog"]}
    references = split_all({"a": ["1 1/2 cups of tea"], "b": ["a small dog runs"]})
    scores = score_captions(candidates, references)
    assert scores.brevity_penalty == pytest.approx(np.exp(1 - 9 / 5))
    assert scores.ngram_precision_with_penalty[0] == pytest.approx(scores.corpus["Bleu_1"], abs=1e-6)
    assert scores.ngram_precision[0] == 1


def test_hand_worked_bleu() -> None:
    candidates = {"a": ["the", "the", "the", "cat"], "b": ["a", "dog", "runs"]}
    references = split_all({"a": ["the cat sat on the mat", "the cat"], "b": ["a dog runs fast", "dogs run"]})
    scores = score_captions(candidates, references)
    assert scores.ngram_precision[0] == pytest.approx((3 + 3) / 7)  # "the" counts twice at most
    assert scores.ngram_precision[1] == pytest.approx((1 + 2) / 5)  # the-cat; a-dog, dog-runs
    # closest lengths: 4 is as far from 6 as from 2, the shorter counts; 3 is as far from 4 as from 2
    assert scores.brevity_penalty == 1.0
    assert score_captions({"b": ["a"]}, {"b": [["a", "b", "c"]]}).brevity_penalty == pytest.approx(np.exp(-2))
    assert scores.corpus["Bleu_2"] == pytest.approx(np.sqrt(6 / 7 * 3 / 5), abs=1e-6)


def test_the_best_there_is() -> None:
    sentences = {"a": ["a", "red", "ball", "on", "the", "grass"], "b": ["two", "small", "dogs", "run", "in", "snow"]}
    scores = score_captions(sentences, {image: [words] for image, words in sentences.items()})
    assert scores.corpus["Bleu_4"] == pytest.approx(1, abs=1e-6)
    assert scores.corpus["ROUGE_L"] == pytest.approx(1)
    assert scores.corpus["CIDEr"] == pytest.approx(10)


def test_empty_captions_and_references(capsys: pytest.CaptureFixture[str]) -> None:
    candidates = {"a": [], "b": ["a", "dog"], "c": ["a", "cat"]}
    references = {"a": [["a", "dog"]], "b": [[], ["a", "dog"]], "c": [["a", "bird"]]}
    scores = score_captions(candidates, references)
    assert scores.per_image["a"]["ROUGE_L"] == 0
    assert scores.per_image["a"]["CIDEr"] == 0
    assert scores.per_image["b"]["ROUGE_L"] == 1
    assert all(np.isfinite(value) for value in scores.corpus.values())
    assert capsys.readouterr().out == "", "the scorers print nothing"
    with pytest.raises(ValueError, match="no reference"):
        score_captions({"a": ["x"]}, {"a": [[]]})
    with pytest.raises(ValueError, match="no captions"):
        score_captions({}, {})


def test_all_candidates_empty() -> None:
    scores = score_captions({"a": [], "b": []}, {"a": [["x"]], "b": [["y"]]})
    assert scores.corpus["Bleu_1"] == pytest.approx(0, abs=1e-6)
    assert scores.brevity_penalty == 0


def test_tokens_are_those_of_the_vocabulary() -> None:
    """What the report and metrics.json say about tokenising."""
    assert tokenize("A man's T-shirt , red .") == ["a", "mans", "tshirt", "red"]


def test_composed_and_decomposed_captions_score_alike() -> None:
    composed, decomposed = "une fille au café", unicodedata.normalize("NFD", "une fille au café")
    for tokenizer in TOKENIZERS:
        said, known = tokenize_all({"1": composed}, {"1": [decomposed]}, tokenizer=tokenizer)
        assert [said["1"]] == known["1"]
        assert said["1"][-1] == "café"


def test_scripts_that_scores_cannot_serve_are_named() -> None:
    assert script_warnings(["A dog.", "एक कुत्ता दौड़ता है", "Ein Hund läuft"], tokenizer="ptb") == []
    (parted,) = script_warnings(["ඔහු බල්ලෙක්"], tokenizer="ptb")
    assert "Sinhala" in parted
    assert "--tokenizer plain" in parted
    assert script_warnings(["ඔහු බල්ලෙක්"], tokenizer="plain") == []
    (unparted,) = script_warnings(["แมวนั่งบนเสื่อ"], tokenizer="plain")
    assert "Thai" in unparted

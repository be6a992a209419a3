"""Caption scores against the golden files of the community's scorers and hand-worked examples."""

import json
from pathlib import Path

import numpy as np
import pytest

from mrnn.data.tokenize import tokenize
from mrnn.evaluate.metrics.captions import score_captions


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

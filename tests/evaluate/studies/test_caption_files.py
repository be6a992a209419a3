"""Captions files scored from Python, in a thread."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mrnn.data.errors import ScorerUnavailable
from mrnn.evaluate.metrics.captions import score_captions
from mrnn.evaluate.metrics.java_scorers import JavaScores
from mrnn.evaluate.metrics.tokenizers import tokenize_all
from mrnn.evaluate.studies.caption_files import score_file

CAPTIONS = {"1": "a dog runs in the snow", "2": "a cat sits on a mat"}
SENTENCES = {"1": ["A dog runs in the snow .", "Dogs run."], "2": ["A cat (white) sits on a mat"]}


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """A results file and a file of references."""
    results, references = tmp_path / "results.json", tmp_path / "references.json"
    results.write_text(json.dumps([{"image_id": int(i), "caption": text} for i, text in CAPTIONS.items()]))
    pairs = [{"image_id": int(i), "caption": text} for i, texts in SENTENCES.items() for text in texts]
    references.write_text(json.dumps({"annotations": pairs}))
    return results, references


def test_scores_in_a_thread(files: tuple[Path, Path], quietly: Callable[..., Any]) -> None:
    scored = quietly(score_file, str(files[0]), references=str(files[1]))
    expected = score_captions(*tokenize_all(CAPTIONS, SENTENCES, tokenizer="ptb"))
    assert scored.scores.corpus == expected.corpus
    assert scored.counts == {"images": 2, "images_in_references": 2, "references": 3}
    content = json.loads(json.dumps(scored.to_json(per_image=True)))
    assert content["per_image"] == expected.per_image
    assert (content["references"], content["results"], content["skipped"]) == ("references.json", str(files[0]), {})
    assert "per_image" not in scored.to_json()


def test_a_java_scorer_adds_a_score_or_a_reason(
    files: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, quietly: Callable[..., Any]
) -> None:
    def java(scorer: str, *arguments: object, **options: object) -> JavaScores:
        if scorer == "SPICE":
            raise ScorerUnavailable("no models")
        return JavaScores(0.25, {"1": 0.1, "2": 0.4})

    monkeypatch.setattr("mrnn.evaluate.studies.caption_files.java_scores", java)
    said: list[str] = []
    scored = quietly(score_file, files[0], references=files[1], java=("METEOR", "SPICE"), report=said.append)
    assert scored.scores.corpus["METEOR"] == 0.25
    assert scored.scores.per_image["2"]["METEOR"] == 0.4
    assert scored.skipped == {"SPICE": "no models"}
    assert len(said) == 2


def test_references_are_of_one_kind(files: tuple[Path, Path]) -> None:
    with pytest.raises(ValueError, match="either a data set or a file"):
        score_file(files[0])
    with pytest.raises(ValueError, match="either a data set or a file"):
        score_file(files[0], references=files[1], dataset="coco")

"""METEOR through Java: the golden scores where Java is, and an end in time whatever Java does."""

import json
import os
import shutil
import time
from pathlib import Path

import pytest

from mrnn.data.errors import ScorerUnavailable
from mrnn.evaluate.metrics.java_scorers import java_scores
from mrnn.evaluate.metrics.tokenizers import tokenize_all

CANDIDATES = {"a": ["a", "dog"], "b": ["a", "cat"]}
REFERENCES = {"a": [["a", "dog", "runs"]], "b": [["a", "cat"], ["the", "cat"]]}


def fake_java(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Put a program called java first on the PATH."""
    program = folder / "java"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


def test_a_java_that_hangs_is_killed_with_its_children(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_java(tmp_path, monkeypatch, f"echo $$ > {tmp_path}/parent\nsleep 300 & echo $! > {tmp_path}/child\nwait")
    start = time.monotonic()
    with pytest.raises(ScorerUnavailable, match="METEOR left out: it was not done after 4 seconds"):
        java_scores("METEOR", CANDIDATES, references=REFERENCES, seconds=4)
    assert time.monotonic() - start < 30
    processes = [int((tmp_path / name).read_text()) for name in ("parent", "child")]
    while any(map(is_alive, processes)) and time.monotonic() - start < 30:  # on a busy machine dying takes a moment
        time.sleep(0.05)
    assert not any(map(is_alive, processes))


def is_alive(process: int) -> bool:
    """Whether a process runs; one that is dead and waits to be collected does not."""
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_a_java_that_dies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_java(tmp_path, monkeypatch, "exit 3")
    with pytest.raises(ScorerUnavailable, match="METEOR left out: Java or its scorer failed"):
        java_scores("METEOR", CANDIDATES, references=REFERENCES, seconds=60)


def test_a_java_that_talks_nonsense(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_java(tmp_path, monkeypatch, "while read line; do echo nonsense; done")
    with pytest.raises(ScorerUnavailable, match="nonsense"):
        java_scores("METEOR", CANDIDATES, references=REFERENCES, seconds=60)


@pytest.mark.parametrize("scorer", ["METEOR", "SPICE"])
def test_no_java(scorer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ScorerUnavailable, match=f"{scorer} left out: it needs Java, and there is no java on the PATH"):
        java_scores(scorer, CANDIDATES, references=REFERENCES, seconds=60)


def test_spice_downloads_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_java(tmp_path, monkeypatch, "exit 3")
    monkeypatch.setattr("mrnn.evaluate.metrics.java_scorers.SPICE_MODELS", "lib/not-there.jar")
    with pytest.raises(ScorerUnavailable, match="fetch them once"):
        java_scores("SPICE", CANDIDATES, references=REFERENCES, seconds=60)


def test_golden_meteor(real_data: Path) -> None:
    if shutil.which("java") is None:
        pytest.skip("there is no java on the PATH")
    results = json.loads((real_data / "coco/results/captions_val2014_fakecap_results.in_val2017.json").read_text())
    annotations = json.loads((real_data / "coco/annotations/captions_val2017.json").read_text())["annotations"]
    golden = json.loads((real_data / "golden-metrics/coco_fakecap_in_val2017_scores.json").read_text())
    sentences: dict[str, list[str]] = {}
    for record in annotations:
        sentences.setdefault(str(record["image_id"]), []).append(record["caption"])
    captions = {str(record["image_id"]): record["caption"] for record in results}
    candidates, references = tokenize_all(captions, sentences, tokenizer="ptb")
    scores = java_scores("METEOR", candidates, references=references, seconds=600)
    assert scores.corpus == pytest.approx(golden["scores"]["METEOR"], abs=1e-9)
    for image, score in scores.per_image.items():
        assert score == pytest.approx(golden["per_image"][image]["METEOR"], abs=1e-9)

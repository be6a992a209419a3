"""METEOR through Java: the golden scores where Java is, and an end in time whatever Java does."""

import json
import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from mrnn.data.errors import ScorerUnavailable
from mrnn.evaluate.metrics.java_scorers import java_scores
from mrnn.evaluate.metrics.tokenizers import tokenize_all

AMPLE = 86_400.0  # seconds that no machine needs
CANDIDATES = {"a": ["a", "dog"], "b": ["a", "cat"]}
REFERENCES = {"a": [["a", "dog", "runs"]], "b": [["a", "cat"], ["the", "cat"]]}


def fake_java(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Put a program called java first on the PATH."""
    program = folder / "java"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


def test_a_java_that_hangs_is_killed_with_its_children(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started = tmp_path / "started"
    script = f"echo $$ > {tmp_path}/parent\nsleep infinity & echo $! > {tmp_path}/child\ntouch {started}\nwait"
    fake_java(tmp_path, monkeypatch, script)

    class UpWhenStarted(subprocess.Popen[bytes]):
        """A process whose time is up when Java has started, which a busy machine may take long to do."""

        def communicate(self, input: bytes | None = None, timeout: float | None = None) -> tuple[bytes, bytes]:
            assert self.stdin is not None
            assert input is not None
            assert timeout == 4
            self.stdin.write(input)
            self.stdin.close()
            while not started.exists():
                time.sleep(0.01)
            raise subprocess.TimeoutExpired(self.args, timeout)

    monkeypatch.setattr("mrnn.evaluate.metrics.java_scorers.subprocess.Popen", UpWhenStarted)
    with pytest.raises(ScorerUnavailable, match="METEOR left out: it was not done after 4 seconds"):
        java_scores("METEOR", CANDIDATES, references=REFERENCES, seconds=4)
    processes = [int((tmp_path / name).read_text()) for name in ("parent", "child")]
    while any(map(is_alive, processes)):  # killed, but on a busy machine dying takes a moment
        time.sleep(0.01)


def test_without_the_extra_the_remedy_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_java(tmp_path, monkeypatch, "exit 0")
    monkeypatch.setattr("mrnn.evaluate.metrics.java_scorers.find_spec", lambda name: None)
    for scorer in ("METEOR", "SPICE"):
        with pytest.raises(ScorerUnavailable, match=r"^" + scorer + r" left out: .* pip install 'mrnn\[java\]'$"):
            java_scores(scorer, CANDIDATES, references=REFERENCES, seconds=AMPLE)


def test_a_scorer_whose_time_is_up_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_java(tmp_path, monkeypatch, "exec sleep infinity")
    with pytest.raises(ScorerUnavailable, match=r"METEOR left out: it was not done after 0\.01 seconds"):
        java_scores("METEOR", CANDIDATES, references=REFERENCES, seconds=0.01)


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
        java_scores("METEOR", CANDIDATES, references=REFERENCES, seconds=AMPLE)


def test_a_java_that_talks_nonsense(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_java(tmp_path, monkeypatch, "while read line; do echo nonsense; done")
    with pytest.raises(ScorerUnavailable, match="nonsense"):
        java_scores("METEOR", CANDIDATES, references=REFERENCES, seconds=AMPLE)


@pytest.mark.parametrize("scorer", ["METEOR", "SPICE"])
def test_no_java(scorer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ScorerUnavailable, match=f"{scorer} left out: it needs Java, and there is no java on the PATH"):
        java_scores(scorer, CANDIDATES, references=REFERENCES, seconds=AMPLE)


def test_spice_downloads_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_java(tmp_path, monkeypatch, "exit 3")
    monkeypatch.setattr("mrnn.evaluate.metrics.java_scorers.SPICE_MODELS", "lib/not-there.jar")
    with pytest.raises(ScorerUnavailable, match="fetch them once"):
        java_scores("SPICE", CANDIDATES, references=REFERENCES, seconds=AMPLE)


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
    scores = java_scores("METEOR", candidates, references=references, seconds=AMPLE)
    assert scores.corpus == pytest.approx(golden["scores"]["METEOR"], abs=1e-9)
    for image, score in scores.per_image.items():
        assert score == pytest.approx(golden["per_image"][image]["METEOR"], abs=1e-9)

"""METEOR and SPICE by the community's scorers, which run Java: in a process of their own that a time limit ends.

pycocoevalcap talks to Java through pipes and waits without end if Java hangs, so the scorer runs in another Python
process that leads a process group, and the whole group is killed when its time is up. Whatever goes wrong there becomes
a ScorerUnavailable with the reason; an evaluation continues without that score.

Run as a program, this module is that other process: it reads {"scorer", "candidates", "references"} from standard input
and writes {"corpus", "per_image"} to the file its argument names.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mrnn.data.errors import ScorerUnavailable

SCORERS = ("METEOR", "SPICE")
SPICE_MODELS = "lib/stanford-corenlp-3.6.0-models.jar"


@dataclass(frozen=True)
class JavaScores:
    """A corpus score and one for each image, fractions."""

    corpus: float
    per_image: dict[str, float]


def java_scores(
    scorer: str,
    candidates: Mapping[str, Sequence[str]],
    *,
    references: Mapping[str, Sequence[Sequence[str]]],
    seconds: float,
) -> JavaScores:
    """The scores of one of SCORERS, of captions and references as words, those of mrnn.evaluate.metrics.ptb as a rule.

    scorer : one of SCORERS
    candidates : image id -> words
    references : image id -> sentences as words
    seconds : the time limit

    Raises ScorerUnavailable with the reason: no Java, no pycocoevalcap, SPICE's models not there (they are never
    downloaded here), Java died, or the time is up.
    """
    _check_installed(scorer)
    said = {image: [" ".join(words)] for image, words in candidates.items()}
    known = {image: [" ".join(words) for words in references[image] if words] for image in candidates}
    request = {"scorer": scorer, "candidates": said, "references": known}
    with tempfile.TemporaryDirectory(prefix="mrnn-") as folder:
        output = Path(folder) / "scores.json"
        problem = _run(json.dumps(request), output, seconds=seconds)
        if problem:
            raise ScorerUnavailable(f"{scorer} left out: {problem}")
        found = json.loads(output.read_text())
    return JavaScores(found["corpus"], dict(zip(candidates, found["per_image"], strict=True)))


def _check_installed(scorer: str) -> None:
    if shutil.which("java") is None:
        raise ScorerUnavailable(f"{scorer} left out: it needs Java, and there is no java on the PATH")
    if find_spec("pycocoevalcap") is None:
        raise ScorerUnavailable(
            f"{scorer} left out: it needs the package pycocoevalcap, which is not installed; install it with "
            "pip install 'mrnn[java]'"
        )
    if scorer == "SPICE":
        spec = find_spec("pycocoevalcap.spice")
        assert spec is not None
        assert spec.origin is not None
        models = Path(spec.origin).parent / SPICE_MODELS
        if not models.exists():
            raise ScorerUnavailable(
                "SPICE left out: it needs language models that are not here; fetch them once (about 400 MB) with "
                "python -m pycocoevalcap.spice.get_stanford_models"
            )


def _run(request: str, output: Path, *, seconds: float) -> str:
    """Run this module as a program; what went wrong, in words, or ''. The process and Java are gone afterwards."""
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", __spec__.name, str(output)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            env={**os.environ, "LC_ALL": "C.UTF-8"},  # by the locale Java 17 tells how bytes become letters
            start_new_session=True,
        )
        try:
            process.communicate(request.encode(), timeout=seconds)
        except subprocess.TimeoutExpired:
            return f"it was not done after {seconds:g} seconds"
        finally:
            _kill_group(process)
        errors.seek(0)
        last = errors.read().decode(errors="replace").strip().rpartition("\n")[2]
        return "" if process.returncode == 0 else last or f"it ended with exit code {process.returncode}"


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):  # all have ended already
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _score(scorer: str, references: dict[str, list[str]], candidates: dict[str, list[str]]) -> dict[str, Any]:
    if scorer == "METEOR":
        from pycocoevalcap.meteor.meteor import Meteor

        corpus, each = Meteor().compute_score(references, candidates)
    else:
        from pycocoevalcap.spice.spice import Spice

        corpus, parts = Spice().compute_score(references, candidates)
        by_image = dict(zip(sorted(references), (part["All"]["f"] for part in parts), strict=True))
        each = [by_image[image] for image in references]
    return {"corpus": float(corpus), "per_image": [float(score) for score in each]}


def main() -> None:
    """The other process. It ends without cleaning up, since the METEOR wrapper waits for ever when it is cleaned up."""
    request = json.load(sys.stdin)
    try:
        scores = _score(request["scorer"], request["references"], request["candidates"])
        Path(sys.argv[1]).write_text(json.dumps(scores))
    except Exception as error:  # whatever it is, the caller wants its text and an end
        print(f"Java or its scorer failed ({type(error).__name__}: {error})", file=sys.stderr, flush=True)
        os._exit(1)
    os._exit(0)


if __name__ == "__main__":
    main()

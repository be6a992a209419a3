"""Variants of m-RNN through the commands: with the additive split they can do all, else what a captioner can."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from mrnn.evaluate.commands.evaluate import main as evaluate
from mrnn.evaluate.commands.search import main as search
from tests.variants import LATE_FUSION

World = Callable[..., tuple[Path, Path]]


def evaluated(run: Path, cache: Path) -> dict[str, Any]:
    command = ["--checkpoint", str(run), "--features", str(cache), "--normaliser-images", "6", "--beam", "3"]
    done = CliRunner().invoke(evaluate, command, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    found: dict[str, Any] = json.loads((run / "evaluation-test" / "metrics.json").read_text())
    return found


def searched(run: Path, cache: Path) -> Result:
    return CliRunner().invoke(search, ["--checkpoint", str(run), "--features", str(cache), "a dog sleeps", "--json"])


def test_what_keeps_the_split_is_measured_explained_and_searched(make_world: World) -> None:
    run, cache = make_world(settings=LATE_FUSION["all"])
    metrics = evaluated(run, cache)
    assert metrics["perplexity"] > 1
    assert metrics["retrieval"]["images"] == 10
    report = (run / "evaluation-test" / "report.html").read_text()
    block = re.search(r'id="data">(.*?)</script>', report, flags=re.DOTALL)
    assert block is not None
    words = json.loads(block[1])["cards"][0]["said"][0]["words"]
    assert all(len(word) == 4 for word in words), "a word and the three parts of its reason"
    done = searched(run, cache)
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)


@pytest.mark.parametrize("into", ["recurrent", "both-shared"])
def test_with_the_image_in_the_recurrence_every_pair_is_scored_and_search_is_refused(
    into: str, make_world: World
) -> None:
    run, cache = make_world(kind="mrnn-image-recurrent", settings={"image_into": into})
    metrics = evaluated(run, cache)
    assert metrics["checkpoint"]["model"] == "mrnn-image-recurrent"
    assert metrics["retrieval"]["scored_exactly"] == 1
    assert (run / "evaluation-test" / "captions.json").is_file()
    done = searched(run, cache)
    assert done.exit_code == 1
    assert len(done.output.splitlines()) == 1
    assert re.search("kind mrnn-image-recurrent.*search with an mrnn", done.output)

"""The DVSA generator through every command: what it can do is done, what it cannot do is one sentence."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from mrnn.evaluate.commands.compare_results import main as compare_results
from mrnn.evaluate.commands.evaluate import main as evaluate
from mrnn.evaluate.commands.search import main as search
from mrnn.evaluate.retrieval import all_pairs

Worlds = tuple[Path, Path, Path]


@pytest.fixture
def worlds(make_world: Callable[..., tuple[Path, Path]]) -> Worlds:
    """A generator, an m-RNN, and the cache that both fit."""
    generator, _ = make_world(kind="generator", name="first.h5")
    mrnn, cache = make_world()  # the same data again
    return generator, mrnn, cache


def evaluated(run: Path, cache: Path, *arguments: str) -> tuple[dict, str]:
    command = ["--checkpoint", str(run), "--features", str(cache), "--normaliser-images", "6", *arguments]
    done = CliRunner().invoke(evaluate, command, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return json.loads((run / "evaluation-test" / "metrics.json").read_text()), done.output


def test_an_evaluation_measures_all_and_compares_with_an_mrnn(worlds: Worlds) -> None:
    generator, mrnn, cache = worlds
    metrics, printed = evaluated(generator, cache, "--beam", "3")
    assert metrics["checkpoint"]["model"] == "generator"
    assert metrics["perplexity"] > 1
    assert metrics["retrieval"]["images"] == 10
    assert "scoring every pair: about" in printed
    captions = json.loads((generator / "evaluation-test" / "captions.json").read_text())
    assert len(captions) == 10
    report = (generator / "evaluation-test" / "report.html").read_text()
    assert "generator" in report
    evaluated(mrnn, cache, "--beam", "3")
    folders = [str(run / "evaluation-test") for run in (mrnn, generator)]
    compared = CliRunner().invoke(compare_results, [*folders, "--json"], catch_exceptions=False)
    assert compared.exit_code == 0
    assert {"perplexity", "CIDEr"} <= {row["name"] for row in json.loads(compared.stdout)["differences"]}


def test_ranks_are_those_of_the_scores_by_definition(worlds: Worlds, monkeypatch: pytest.MonkeyPatch) -> None:
    generator, _, cache = worlds
    whole, _ = evaluated(generator, cache, "--only", "retrieval")
    monkeypatch.setattr(all_pairs, "SAMPLE", 3)
    pooled, _ = evaluated(generator, cache, "--only", "retrieval", "--pool", "4", "--folds", "2", "--overwrite")
    assert whole["retrieval"]["images"] == 10
    assert pooled["retrieval"]["images"] == [4, 4]
    assert whole["retrieval"]["scored_exactly"] == 1
    scores = np.load(generator / "evaluation-test" / "parts" / "scores-0.npy")
    assert not np.isnan(scores).any()
    assert len(np.unique(scores[:, 0])) > 1, "the image changes the score"


def test_a_sample_depends_on_its_seed(worlds: Worlds) -> None:
    generator, _, cache = worlds
    said = []
    for seed in ("1", "1", "2"):
        evaluated(generator, cache, "--only", "generation", "--sample", "--seed", seed, "--overwrite")
        said.append((generator / "evaluation-test" / "captions.json").read_text())
    assert said[0] == said[1] != said[2]


def test_search_is_refused_before_anything_is_read(worlds: Worlds) -> None:
    generator, _, cache = worlds
    done = CliRunner().invoke(search, ["--checkpoint", str(generator), "--features", str(cache), "a dog"])
    assert done.exit_code == 1
    assert len(done.output.splitlines()) == 1
    assert re.search("kind generator.*search with an mrnn", done.output)

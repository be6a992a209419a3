"""The Transformer and the log-bilinear models through the commands: measured, searched with, or refused."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from mrnn.evaluate.commands.evaluate import main as evaluate
from mrnn.evaluate.commands.search import main as search

World = Callable[..., tuple[Path, Path]]


@pytest.mark.parametrize("kind", ["transformer", "lbl", "mlbl-b", "mlbl-f"])
def test_an_evaluation_measures_all(kind: str, make_world: World) -> None:
    run, cache = make_world(kind=kind)
    command = ["--checkpoint", str(run), "--features", str(cache), "--beam", "2", "--normaliser-images", "6"]
    done = CliRunner().invoke(evaluate, command, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    metrics = json.loads((run / "evaluation-test" / "metrics.json").read_text())
    assert metrics["checkpoint"]["model"] == kind
    assert metrics["perplexity"] > 1
    assert metrics["retrieval"]["images"] == 10
    captions = json.loads((run / "evaluation-test" / "captions.json").read_text())
    assert (len({each["caption"] for each in captions}) > 1) == (kind != "lbl"), "images matter, but to lbl"


def test_search_takes_a_transformer_and_refuses_a_log_bilinear_model(make_world: World) -> None:
    for kind, code in (("transformer", 0), ("mlbl-b", 1)):
        run, cache = make_world(kind=kind, name=f"{kind}.h5")
        done = CliRunner().invoke(search, ["--checkpoint", str(run), "--features", str(cache), "a dog at home"])
        assert done.exit_code == code, done.output
    assert "of the kind mlbl-b, which reads every sentence again for every image" in done.output

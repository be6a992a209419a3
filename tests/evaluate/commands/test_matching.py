"""Models that match pictures with sentences through every command: what they cannot do is one sentence."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from mrnn.evaluate.commands.caption import main as caption
from mrnn.evaluate.commands.compare_results import main as compare_results
from mrnn.evaluate.commands.evaluate import main as evaluate
from mrnn.evaluate.commands.search import main as search

World = Callable[..., tuple[Path, Path]]


def call(run: Path, cache: Path, *arguments: str) -> Result:
    command = ["--checkpoint", str(run), "--features", str(cache), "--normaliser-images", "6", *arguments]
    return CliRunner().invoke(evaluate, command, catch_exceptions=False)


def test_an_evaluation_leaves_out_what_needs_words_and_compares_with_an_mrnn(make_world: World) -> None:
    alignment, cache = make_world(kind="alignment", regions=3)
    done = call(alignment, cache)
    assert done.exit_code == 0, done.output
    assert "alignment predicts no words; left out: perplexity, generation" in done.output
    metrics = json.loads((alignment / "evaluation-test" / "metrics.json").read_text())
    assert "perplexity" not in metrics
    assert "ranked by z" in metrics["definitions"]["sentence_to_image"]
    assert {"image_to_sentence R@1", "sentence_to_image R@10"} <= metrics["intervals"].keys()
    assert not (alignment / "evaluation-test" / "captions.json").exists()
    assert "Image → sentence" in (alignment / "evaluation-test" / "report.html").read_text()
    lines = (alignment / "evaluation-test" / "retrieved_sentences.jsonl").read_text().splitlines()
    assert json.loads(lines[0])["sentences"][0]["standardised"] > 0

    mrnn, _ = make_world(regions=3, name="same.h5")
    assert call(mrnn, cache, "--only", "retrieval").exit_code == 0
    folders = [str(run / "evaluation-test") for run in (mrnn, alignment)]
    compared = CliRunner().invoke(compare_results, [*folders, "--json"], catch_exceptions=False)
    assert compared.exit_code == 0, compared.output
    names = {row["name"] for row in json.loads(compared.stdout)["differences"]}
    assert any("R@1" in name for name in names)


def test_what_needs_words_alone_is_refused(make_world: World, tmp_path: Path) -> None:
    run, cache = make_world(kind="devise")
    refused = call(run, cache, "--only", "generation")
    assert refused.exit_code == 1
    assert "is of the kind devise, which matches pictures and sentences and predicts no words" in refused.output
    (tmp_path / "a.png").write_bytes(b"never read")
    for command, arguments in (
        (caption, ["--checkpoint", str(run), str(tmp_path / "a.png")]),
        (search, ["--checkpoint", str(run), "--features", str(cache), "--text", "a dog"]),
    ):
        found = CliRunner().invoke(command, arguments)
        assert found.exit_code in (1, 2)
        assert "predicts no words" in found.output or "No such option" in found.output, found.output


@pytest.mark.parametrize("regions", [4])
def test_a_cache_with_fewer_regions_than_the_model_uses_is_refused(regions: int, make_world: World) -> None:
    run, _ = make_world(kind="alignment", regions=regions, settings={"regions": regions})
    _, cache = make_world(kind="alignment", regions=regions - 1, name="fewer.h5", settings={"regions": regions})
    refused = call(run, cache)
    assert refused.exit_code != 0
    assert "regions is 4, and the images of this cache have 3 rows each" in refused.output

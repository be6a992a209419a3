"""compare-results on evaluations of one model decoded in two ways."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from mrnn.evaluate.commands.compare_results import main
from mrnn.evaluate.commands.evaluate import main as evaluate

World = Callable[..., tuple[Path, Path]]


def measure(world: tuple[Path, Path], output: Path, *options: str) -> Path:
    given = ["--checkpoint", str(world[0]), "--features", str(world[1]), "--output", str(output)]
    done = CliRunner().invoke(evaluate, [*given, "--normaliser-images", "5", *options])
    assert done.exit_code == 0, done.output
    return output


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_two_evaluations(make_world: World, tmp_path: Path) -> None:
    world = make_world()
    a = measure(world, tmp_path / "a", "--beam", "1")
    b = measure(world, tmp_path / "b", "--sample", "--pool", "6")
    done = run(a, b, "--json", "--resamples", "200")
    assert done.exit_code == 0, done.output
    found = json.loads(done.output)
    metrics = [json.loads((folder / "metrics.json").read_text()) for folder in (a, b)]
    rows = {row["name"]: row for row in found["differences"]}
    assert [rows["CIDEr"][system] for system in "ab"] == [pytest.approx(each["CIDEr"]) for each in metrics]
    assert rows["perplexity"]["difference"] == rows["perplexity"]["high"] == 0
    assert found["resamples"] == 200
    assert "sentence_to_image R@1" not in rows
    notes = " ".join(found["notes"])
    assert "retrieval left out: A ranked among 10 images x" in notes
    assert "sample False for A, True for B" in notes
    example = found["examples"]["CIDEr"][0]
    assert example["a"] != example["b"]
    table = run(a, b, "--examples", "1").output
    assert f"{rows['CIDEr']['difference']:+10.3f}" in table
    assert f"    B  {example['caption_b']}" in table
    assert run(a, b, "--seed", "1").output != run(a, b).output == run(a, b).output


def test_refusals(make_world: World, tmp_path: Path) -> None:
    world = make_world()
    a = measure(world, tmp_path / "a", "--only", "perplexity")
    val = measure(world, tmp_path / "val", "--only", "perplexity", "--split", "val")
    for folder, message in (
        (val, "the splits differ: "),
        (tmp_path, "there is no "),
    ):
        done = run(a, folder)
        assert done.exit_code == 1
        assert done.output.startswith(f"error: {message}")
        assert done.output.count("\n") == 1
    (a / "per_image.jsonl").unlink()
    assert "run evaluate-mrnn into" in run(a, a).output
    (a / "metrics.json").write_text("[")
    assert "is damaged" in run(a, a).output

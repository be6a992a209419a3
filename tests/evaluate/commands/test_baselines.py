"""evaluate-baselines from the command line, on the small world of the evaluation tests."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from mrnn.data.cache import open_cache
from mrnn.data.tokenize import tokenize
from mrnn.evaluate.commands.baselines import main
from mrnn.evaluate.commands.evaluate import main as evaluate
from mrnn.evaluate.metrics.captions import score_captions
from mrnn.evaluate.metrics.names import CAPTION_SCORES
from mrnn.evaluate.studies.baselines import BASELINES
from mrnn.train.checkpoint import load_trained
from mrnn.train.features import Features
from mrnn.train.sentences import sentences_of
from mrnn.train.tasks.captioning import perplexity

World = Callable[..., tuple[Path, Path]]


def run(cache: Path, output: Path, *options: str) -> tuple[Result, Any]:
    done = CliRunner().invoke(main, ["--features", str(cache), "--output", str(output), *options])
    file = output / "baselines.json"
    return done, json.loads(file.read_text()) if file.exists() else None


def test_every_baseline_is_measured(make_world: World, tmp_path: Path) -> None:
    run_folder, file = make_world()
    done, found = run(file, tmp_path / "out", "--cutoff", "1")
    assert done.exit_code == 0, done.output
    cache, trained = open_cache(file), load_trained(run_folder)
    assert list(found["baselines"]) == list(BASELINES)
    assert all(name in done.output for name in BASELINES)
    images = [cache.images[i] for i in cache.done("test")]
    references = {image.id: [words for s in image.sentences if (words := tokenize(s))] for image in images}
    training = {" ".join(tokenize(s)) for i in cache.done("train") for s in cache.images[i].sentences}
    for name in ("random", "nearest", "most_frequent", "2-gram", "3-gram"):
        captions = json.loads((tmp_path / "out" / f"captions-{name}.json").read_text())
        assert [caption["image_id"] for caption in captions] == [image.id for image in images]
        scores = score_captions({c["image_id"]: c["caption"].split() for c in captions}, references)
        for metric, value in scores.corpus.items():
            assert found["baselines"][name][metric] == pytest.approx(value)
        if "gram" not in name:
            assert {caption["caption"] for caption in captions} <= training
    # the same words as those of a model with this cut-off
    measured = perplexity(trained.model, sentences_of(cache, "test", trained.vocabulary), Features(cache))
    trigram = found["baselines"]["3-gram"]
    assert (trigram["words_and_ends"], trigram["unknown_words"]) == (measured.tokens, measured.unknown)
    assert found["vocabulary_size"] == len(trained.vocabulary)
    assert 1 < trigram["perplexity"] < len(trained.vocabulary)
    assert f"{trigram['perplexity']:.2f}" in done.output


def test_models_stand_in_the_same_table(make_world: World, tmp_path: Path) -> None:
    world = make_world()
    arguments = ["--checkpoint", world[0], "--features", world[1], "--beam", "1", "--normaliser-images", "2"]
    assert CliRunner().invoke(evaluate, [*map(str, arguments)]).exit_code == 0
    folder = world[0] / "evaluation-test"
    metrics = json.loads((folder / "metrics.json").read_text())
    done, _ = run(world[1], tmp_path / "out", "--beside", str(folder))
    assert done.exit_code == 0, done.output
    rows = [line.split() for line in done.output.splitlines() if line.startswith("mrnn, V ")]
    assert rows[0][3:] == [f"{metrics['perplexity']:.2f}", *(f"{metrics[row.key]:.3f}" for row in CAPTION_SCORES)]
    assert rows[1][3:] == [*(f"{v:.1f}" for v in metrics["retrieval"]["image_to_sentence"].values()), "10"]
    done, _ = run(world[1], tmp_path / "val", "--split", "val", "--beside", str(folder))
    assert done.exit_code == 1
    assert "is of invented test, the baselines are of invented val" in done.output
    done, _ = run(world[1], tmp_path / "val", "--beside", str(tmp_path))
    assert "give a folder that evaluate-mrnn wrote" in done.output


def test_seed_split_and_integer_ids(make_world: World, tmp_path: Path) -> None:
    _, file = make_world(integer_ids=True)
    _, first = run(file, tmp_path / "a", "--split", "val")
    _, again = run(file, tmp_path / "b", "--split", "val")
    _, other = run(file, tmp_path / "c", "--split", "val", "--seed", "1")
    assert first == again
    assert first["baselines"]["random"] != other["baselines"]["random"]
    assert first["baselines"]["nearest"] == other["baselines"]["nearest"]
    captions = json.loads((tmp_path / "a" / "captions-nearest.json").read_text())
    assert [caption["image_id"] for caption in captions] == [1020, 1021, 1022, 1023]


def test_a_split_without_captions_is_refused(make_world: World, tmp_path: Path) -> None:
    done, found = run(make_world(val=0)[1], tmp_path / "out", "--split", "val")
    assert done.exit_code == 1
    assert "no image with features and a caption in the split 'val'" in done.output
    assert found is None

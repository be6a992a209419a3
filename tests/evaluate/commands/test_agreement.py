"""evaluate-agreement from the command line, on the small world of the evaluation tests."""

import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from mrnn.data.cache import open_cache
from mrnn.data.tokenize import tokenize
from mrnn.evaluate.commands.agreement import main
from mrnn.evaluate.retrieval.two_towers import TowerPairs
from mrnn.evaluate.studies.agreement import METRICS, agreement, measure_agreement, score_with_model
from mrnn.evaluate.studies.judgements import read_judgements
from mrnn.train.checkpoint import load_trained
from mrnn.train.features import Features
from mrnn.train.sentences import encode_sentences
from mrnn.train.tasks.captioning import perplexity

World = Callable[..., tuple[Path, Path]]


def judge(world: tuple[Path, Path], root: Path, numbers: range) -> Path:
    """Judgement files over images of the world and a picture that it lacks; ratings are drawn at random."""
    root.mkdir()
    images = {image.id: list(image.sentences) for image in open_cache(world[1]).images}
    names = [list(images)[number] for number in numbers] + ["elsewhere.jpg"]
    images["elsewhere.jpg"] = ["A cat .", "A dog ."]
    captions = [f"{name}#{k}\t{text}" for name, texts in images.items() for k, text in enumerate(texts)]
    generator = np.random.default_rng(0)
    expert, crowd = [], []
    for image in names:
        for other in names:
            expert.append("\t".join([image, f"{other}#0", *map(str, generator.integers(1, 5, 3))]))
            yes = int(generator.integers(4))
            if image != other:
                crowd.append(f"{image}\t{other}#0\t{yes / 3}\t{yes}\t{3 - yes}")
    for name, lines in (("Flickr8k.token", captions), ("ExpertAnnotations", expert), ("CrowdFlowerAnnotations", crowd)):
        (root / f"{name}.txt").write_text("".join(f"{line}\n" for line in lines))
    return root


def run(world: tuple[Path, Path], root: Path, *options: str) -> Result:
    arguments = ["--checkpoint", world[0], "--features", world[1], "--root", root, "--normaliser-images", "6"]
    return CliRunner().invoke(main, [*map(str, arguments), *options])


def test_training_images_are_told_apart(make_world: World, tmp_path: Path) -> None:
    world = make_world()
    root = judge(world, tmp_path / "judged", range(17, 28))  # three of train, four of val, four of test
    done = run(world, root, "--json")
    assert done.exit_code == 0, done.output
    found: dict[str, Any] = json.loads(done.stdout)
    assert found["images"] == {"judged": 12, "without_features": 1, "by_split": {"test": 4, "train": 3, "val": 4}}
    assert found["normaliser_images"] == 6
    for values in found["sets"].values():
        assert values["all"].keys() == {"log P(w|I)", "log P(w|I) a word", "log P(w|I) - log P(w)", *METRICS}
        assert values["pairs_outside_training"] < values["pairs"]
        assert values["all"] != values["outside_training"]
    assert found["sets"]["Flickr8k-CF"]["pairs"] == 11 * 11  # the 12 captions less the own one
    assert found["sets"]["Flickr8k-CF"]["pairs_outside_training"] == 8 * 11
    assert found["sets"]["Flickr8k-CF"]["pairs_without_features"] == 11
    text = run(world, root).stdout
    assert "in training: 3 of 11 judged images" in text
    assert "1 have no features and are left out" in text
    assert text.count("log P(w|I) - log P(w)") == 2
    tau = found["sets"]["Flickr8k-Expert"]["outside_training"]["CIDEr"]["tau_c"]
    assert f"{100 * tau:.1f}" in text.partition("outside training  ")[2]


def test_a_call_in_a_thread_returns_what_the_command_prints(
    make_world: World, tmp_path: Path, quietly: Callable[..., Any]
) -> None:
    world = make_world()
    root = judge(world, tmp_path / "judged", range(17, 28))
    printed = json.loads(run(world, root, "--json").stdout)
    said: list[str] = []
    trained, cache = load_trained(world[0]), open_cache(world[1])
    found = quietly(measure_agreement, trained, cache, root=str(root), normaliser_images=6, report=said.append)
    assert json.loads(json.dumps(found)) == printed
    assert len(said) == 2


def test_no_training_image_gives_one_table(make_world: World, tmp_path: Path) -> None:
    world = make_world()
    text = run(world, judge(world, tmp_path / "judged", range(26, 32)), "--normaliser-images", "0").stdout
    assert "in training: 0 of 6 judged images" in text
    assert text.count("log P(w|I) per word") == 1
    assert "outside training: the same" in text
    assert "log P(w|I) - log P(w)" not in text


def test_scores_are_those_of_the_whole_model(make_world: World, tmp_path: Path) -> None:
    """Pair by pair through training's own perplexity; P(w) from all the training images."""
    world = make_world()
    judged = read_judgements(judge(world, tmp_path / "judged", range(24, 30)))
    trained, cache = load_trained(world[0]), open_cache(world[1])
    numbers = {image.id: i for i, image in enumerate(cache.images)}
    kept = [each.only(np.array([image in numbers for image in each.images])) for each in judged]

    def log_prob(image: int, text: str) -> float:
        sentence = encode_sentences([tokenize(text)], np.array([image]), trained.vocabulary)
        found = perplexity(trained.model, sentence, Features(cache))
        return -found.bits * found.tokens * math.log(2)

    for each, scores in zip(kept, score_with_model(trained, cache, kept, normaliser_images=20, seed=0), strict=True):
        for pair in range(0, len(each), 7):
            text = each.captions[pair]
            own = log_prob(numbers[each.images[pair]], text)
            prior = math.log(np.mean([math.exp(log_prob(int(i), text)) for i in cache.done("train")]))
            assert scores["log P(w|I)"][pair] == pytest.approx(own, abs=1e-3)
            assert scores["log P(w|I) a word"][pair] == pytest.approx(own / (len(tokenize(text)) + 1), abs=1e-3)
            assert scores["log P(w|I) - log P(w)"][pair] == pytest.approx(own - prior, abs=1e-3)
        assert agreement(scores["log P(w|I)"], each.ratings)["tau_b"] is not None


def test_refusals(make_world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = make_world()
    root = judge(world, tmp_path / "judged", range(3))
    done = run(make_world(integer_ids=True, name="other.h5"), root)
    assert done.exit_code == 1
    assert "has features of 0 of the 4 judged images" in done.output
    done = run(world, tmp_path / "nowhere")
    assert done.exit_code == 1
    assert "nowhere does not exist" in done.output
    monkeypatch.setitem(sys.modules, "scipy.stats", None)
    done = run(world, root)
    assert done.exit_code == 1
    assert "pip install 'mrnn[analysis]'" in done.output


def test_a_model_that_matches_gives_its_score_and_the_standardised_one(make_world: World, tmp_path: Path) -> None:
    world = make_world(kind="alignment", regions=3)
    root = judge(world, tmp_path / "judged", range(24, 30))
    done = run(world, root, "--json")
    assert done.exit_code == 0, done.output
    for values in json.loads(done.stdout)["sets"].values():
        assert values["all"].keys() == {"score", "standardised score", *METRICS}
    assert run(world, root).stdout.count("standardised score") >= 1
    trained, cache = load_trained(world[0]), open_cache(world[1])
    numbers = {image.id: i for i, image in enumerate(cache.images)}
    kept = [each.only(np.array([image in numbers for image in each.images])) for each in read_judgements(root)]
    features = Features(cache, rows=3)
    for each, scores in zip(kept, score_with_model(trained, cache, kept, normaliser_images=20, seed=0), strict=True):
        for pair in range(0, len(each), 7):
            pool = np.array([numbers[each.images[pair]], *cache.done("train")])
            sentence = trained.vocabulary.encode(tokenize(each.captions[pair]))
            own, *others = TowerPairs(trained.model, [sentence], features).score_images(pool)[:, 0]
            assert scores["score"][pair] == pytest.approx(own, rel=1e-4, abs=1e-5)
            standardised = (own - np.mean(others)) / np.std(others)
            assert scores["standardised score"][pair] == pytest.approx(standardised, rel=1e-3, abs=1e-3)

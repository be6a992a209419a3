"""The task of matching: validation against a loop, and what training takes from its settings."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mrnn.data.cache import FeatureCache
from mrnn.data.errors import TrainingError
from mrnn.train.checkpoint import load_trained
from mrnn.train.distributed import Ranks
from mrnn.train.loop import train
from mrnn.train.models.two_towers import TwoTowers
from mrnn.train.pairs import MatchingBatch, pack_pairs
from mrnn.train.prepare import prepare
from mrnn.train.settings import RunOptions, TrainSettings
from mrnn.train.tasks.matching import retrieval_recalls
from mrnn.train.training import Training

QUIET = RunOptions(device="cpu", tensorboard=False, log_every=4)


def prepared(cache: FeatureCache, settings: TrainSettings) -> Training:
    return prepare(cache, settings, QUIET, last=None, report=lambda line: None)


@pytest.mark.parametrize("name", ["alignment", "defrag", "devise"])
def test_recalls_against_a_loop(name: str, region_cache: FeatureCache, tiny_kinds: dict[str, TrainSettings]) -> None:
    training = prepared(region_cache, tiny_kinds[name])
    model, data = training.model, training.data
    assert isinstance(model, TwoTowers)
    found = retrieval_recalls(model, data.val, data.features)
    model.eval()
    images = np.unique(data.val.image)
    scores = np.empty((len(images), len(data.val)))
    for n in range(len(data.val)):  # one sentence with all images
        for k, image in enumerate(images):
            batch = pack_one(training, n, int(image))
            scores[k, n] = model(batch).item()
    own = np.searchsorted(images, data.val.image)
    # Other right sentences of an image are not ahead of its best one; equal sentences of other images are.
    ranks = [1 + int((scores[k, own != k] >= scores[k, own == k].max()).sum()) for k in range(len(images))]
    to_image = [1 + int((np.delete(scores[:, n], own[n]) >= scores[own[n], n]).sum()) for n in range(len(data.val))]
    wanted = {}
    for direction, each in (("image_to_sentence", ranks), ("sentence_to_image", to_image)):
        for k in (1, 5, 10):
            wanted[f"val_{direction}_r{k}"] = 100 * np.mean(np.array(each) <= k)
        wanted[f"val_{direction}_median"] = np.median(each)
    wanted["val_recall_sum"] = sum(value for key, value in wanted.items() if "median" not in key)
    assert found == pytest.approx(wanted)


def pack_one(training: Training, sentence: int, image: int) -> MatchingBatch:
    batch = pack_pairs(training.data.val, np.array([sentence]), training.data.features)
    features, valid = training.data.features.regions(np.array([image]))
    return replace(batch, features=features, valid=valid)


@pytest.mark.parametrize("name", ["alignment", "devise"])
def test_training_raises_the_recalls_and_logs_them(
    name: str, cache: FeatureCache, tiny_kinds: dict[str, TrainSettings], tmp_path: Path
) -> None:
    settings = tiny_kinds[name].but(epochs=6, dropout=0.0, embedding_scale=0.5, clip_values=0.0)
    train(cache, tmp_path, settings, options=QUIET)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    epochs = [line for line in lines if line["kind"] == "epoch"]
    assert epochs[-1]["train_hinge"] < 0.85 * epochs[0]["train_hinge"]
    sums = [line["val_recall_sum"] for line in epochs]
    assert load_trained(tmp_path).progress["best"] == max(sums)
    assert load_trained(tmp_path).progress["best_epoch"] == 1 + int(np.argmax(sums))
    assert all("pairs_per_s" in line for line in lines if line["kind"] == "step")
    task = json.loads((tmp_path / "config.json").read_text())["task"]
    assert task["name"] == "matching"
    assert task["criterion"]["key"] == "val_recall_sum"
    assert not task["criterion"]["lower_is_better"]


def test_regions_pay_where_the_sentences_speak_of_them(
    region_cache: FeatureCache, tiny_kinds: dict[str, TrainSettings], tmp_path: Path
) -> None:
    """Sentences depend on the last region only, so the whole picture alone cannot learn them."""
    settings = tiny_kinds["alignment"].but(epochs=6, dropout=0.0, embedding_scale=0.5, clip_values=0.0, lr=0.02)
    hinges = {}
    for rows in (0, 1):
        train(region_cache, tmp_path / str(rows), settings.but(regions=rows), options=QUIET)
        last = (tmp_path / str(rows) / "metrics.jsonl").read_text().splitlines()[-1]
        hinges[rows] = json.loads(last)["train_hinge"]
    assert hinges[0] < hinges[1]


def test_more_regions_than_there_are_is_an_error(
    region_cache: FeatureCache, tiny_kinds: dict[str, TrainSettings]
) -> None:
    with pytest.raises(TrainingError, match="regions is 4, and the images of this cache have 3 rows"):
        prepared(region_cache, tiny_kinds["alignment"].but(regions=4))


def test_hard_negatives_begin_at_their_epoch(cache: FeatureCache, tiny_kinds: dict[str, TrainSettings]) -> None:
    training = prepared(cache, tiny_kinds["devise"].but(hardest_from=2))
    found = []
    for epoch in range(3):
        batches = training.task.batches(
            training.data, training.settings, epoch=epoch, skip=0, part=(0, 1), rectangular=False
        )
        batch = next(batches)
        assert isinstance(batch, MatchingBatch)
        found.append(batch.hardest)
    assert found == [False, True, True]
    plain = prepared(cache, tiny_kinds["devise"])
    batches = plain.task.batches(plain.data, plain.settings, epoch=9, skip=0, part=(0, 1), rectangular=False)
    assert not next(batches).hardest  # type: ignore[attr-defined]


def test_several_processes_are_refused(cache: FeatureCache, tiny_kinds: dict[str, TrainSettings]) -> None:
    with pytest.raises(TrainingError, match="alignment is trained by one process"):
        prepare(cache, tiny_kinds["alignment"], QUIET, last=None, report=lambda line: None, ranks=Ranks(0, 2))


@pytest.mark.parametrize("fixed", [False, True])
def test_word_vectors_of_a_file_are_the_first_ones(
    fixed: bool, cache: FeatureCache, tiny_kinds: dict[str, TrainSettings], tmp_path: Path
) -> None:
    file = tmp_path / "vectors.txt"
    file.write_text("dog 1 2 3 4 5 6\ngirl 3 0 3 0 3 0\n")
    settings = tiny_kinds["alignment"].but(word_vectors=str(file), fixed_words=fixed, epochs=1)
    training = prepared(cache, settings)
    numbers = training.data.vocabulary.encode(["dog", "girl", "lake"])
    weight: Any = training.model.get_parameter("embedding.weight")
    given = weight[numbers[:2]]
    assert torch.allclose(given / given[0, 0], torch.tensor([[1.0, 2, 3, 4, 5, 6], [3, 0, 3, 0, 3, 0]]))
    bound: float = training.model.config.embedding_scale
    assert given.square().mean().sqrt().item() == pytest.approx(bound / 3**0.5, rel=0.2), "the scale of random vectors"
    assert 0 < weight[numbers[2]].abs().max() <= bound, "a word that the file lacks stays random"
    train(cache, tmp_path / "run", settings, options=QUIET)
    after = load_trained(tmp_path / "run").model.embedding.weight
    assert torch.equal(after, weight) == fixed
    with pytest.raises(TrainingError, match="6 numbers, not 7; set --embedding"):
        prepared(cache, settings.but(embedding=7))

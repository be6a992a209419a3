import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mrnn.data.cache import FeatureCache
from mrnn.data.errors import SettingError
from mrnn.data.vocabulary import BOUNDARY_ID, UNKNOWN_ID
from mrnn.train.batches import pack
from mrnn.train.checkpoint import read_checkpoint
from mrnn.train.comparison import read_run
from mrnn.train.features import Features
from mrnn.train.loop import train
from mrnn.train.models import CAPTIONERS
from mrnn.train.prepare import Training, prepare
from mrnn.train.run_files import BEST
from mrnn.train.settings import RunOptions, TrainSettings
from mrnn.train.tasks.captioning import sentence_bits
from mrnn.train.tasks.dev_sample import (
    LONGEST,
    greedy_captions,
    log_probabilities,
    sample_cider,
    sample_recalls,
    sampled_images,
)

OPTIONS = RunOptions(device="cpu", tensorboard=False)


@pytest.fixture(scope="module")
def trained(cache: FeatureCache, tiny: TrainSettings, tmp_path_factory: pytest.TempPathFactory) -> Training:
    """A model that looks at the image."""
    folder = tmp_path_factory.mktemp("run")
    settings = tiny.but(epochs=10, lr=0.03, dropout=0.0, image_dropout=0.0)
    train(cache, folder, settings, options=OPTIONS)
    training = prepare(cache, settings, OPTIONS, last=None, report=lambda line: None)
    training.model.load_state_dict(read_checkpoint(folder / BEST)["weights"])
    training.model.eval()
    return training


def test_the_sample_is_spread_over_the_images_that_have_sentences(trained: Training) -> None:
    images = np.unique(trained.data.val.image)
    assert sampled_images(trained.data.val, 4).tolist() == images[[0, 3, 6, 9]].tolist()
    assert sampled_images(trained.data.val, 1000).tolist() == images.tolist()


class Doubled:
    """Features in double precision, all of one image if that is given."""

    def __init__(self, features: Features, image: int | None = None) -> None:
        self._features, self._image = features, image

    def __getitem__(self, images: np.ndarray) -> torch.Tensor:
        return self._features[images if self._image is None else np.full(len(images), self._image)].double()


@pytest.mark.parametrize("name", CAPTIONERS)
def test_every_sentence_is_scored_with_every_image(
    name: str, cache: FeatureCache, tiny_kinds: dict[str, TrainSettings]
) -> None:
    training = prepare(cache, tiny_kinds[name], OPTIONS, last=None, report=lambda line: None)
    model: Any = training.model.eval().double()
    data, images, numbers = training.data, np.array([61, 66]), np.array([3, 20, 9, 14])
    batch = pack(data.val, numbers, Doubled(data.features))  # type: ignore[arg-type]
    with torch.no_grad():
        found = log_probabilities(model, batch, Doubled(data.features)[images])
    for row, image in zip(found, images, strict=True):
        bits = sentence_bits(model, data.val, Doubled(data.features, int(image))).bits  # type: ignore[arg-type]
        np.testing.assert_allclose(row, bits[batch.sentences] * -np.log(2), rtol=1e-10)
    assert (abs(found[0] - found[1]) > 1e-6).all() == model.sees_images


def test_recalls_are_those_of_log_p_of_every_pair(trained: Training) -> None:
    model: Any = deepcopy(trained.model).double()
    data, images = trained.data, sampled_images(trained.data.val, 11)
    first = [int(np.flatnonzero(data.val.image == image)[0]) for image in images]
    alone = [Doubled(data.features, int(image)) for image in images]
    scores = np.array([-sentence_bits(model, data.val, one).bits[first] for one in alone])  # type: ignore[arg-type]
    ratio = scores - np.log2(np.exp2(scores).mean(0))
    ranks = {
        "image_to_sentence": np.array([sum(row >= row[i]) for i, row in enumerate(ratio)]),
        "sentence_to_image": np.array([sum(column >= column[i]) for i, column in enumerate(scores.T)]),
    }
    found = sample_recalls(model, data.val, Doubled(data.features), images=images)  # type: ignore[arg-type]
    for direction, each in ranks.items():
        assert found[f"val_sample_{direction}_median"] == np.median(each)
        for k in (1, 5, 10):
            assert found[f"val_sample_{direction}_r{k}"] == pytest.approx(100 * np.mean(each <= k))
    six = [value for key, value in found.items() if key.endswith(("_r1", "_r5", "_r10"))]
    assert found["val_sample_recall_sum"] == pytest.approx(sum(six))
    assert len({*ranks["image_to_sentence"], *ranks["sentence_to_image"]}) > 3


def test_greedy_captions_are_the_most_probable_words_but_unknown(trained: Training) -> None:
    model, features = trained.model, trained.data.features[np.arange(62, 70)]
    captions = greedy_captions(model, features)  # type: ignore[arg-type]
    assert len({tuple(caption) for caption in captions}) > 1
    for feature, caption in zip(features, captions, strict=True):
        state, word = model.start(feature[None]), BOUNDARY_ID  # type: ignore[operator]
        for expected in [*caption, BOUNDARY_ID][:LONGEST]:
            logits, state = model.next_words(torch.tensor([word]), state)  # type: ignore[operator]
            logits[0, UNKNOWN_ID] = -torch.inf
            word = int(logits.argmax())
            assert word == expected


@pytest.mark.parametrize("select", ["cider", "recall"])
def test_the_best_checkpoint_follows_the_selection(
    select: str, cache: FeatureCache, tiny: TrainSettings, tmp_path: Path
) -> None:
    lines: list[str] = []
    train(cache, tmp_path, tiny.but(select=select, select_images=6, epochs=4), options=OPTIONS, report=lines.append)
    key = {"cider": "val_sample_cider", "recall": "val_sample_recall_sum"}[select]
    log = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    epochs = [line for line in log if line["kind"] == "epoch"]
    values = [line[key] for line in epochs]
    assert all(line["val_perplexity"] > 1 and line["val_sample_seconds"] > 0 for line in epochs)
    progress = read_checkpoint(tmp_path / BEST)["progress"]
    assert progress["best"] == max(values)
    assert progress["best_epoch"] == 1 + values.index(max(values))
    assert [line["best"] for line in epochs] == [value > max([-1, *values[:n]]) for n, value in enumerate(values)]
    label = {"cider": "CIDEr of the dev sample", "recall": "sum of recalls of the dev sample"}[select]
    assert any(f"{label} {values[0]:.3f} in " in line for line in lines)
    assert f"best: epoch {progress['best_epoch']}, {label} {max(values):.3f}" in lines[-1]
    best = read_run(tmp_path).best
    assert best is not None
    assert best.value == max(values)


def test_patience_follows_the_selection(cache: FeatureCache, tiny: TrainSettings, tmp_path: Path) -> None:
    lines: list[str] = []
    settings = tiny.but(model="rnn-base", select="recall", patience=2, epochs=6)  # every image has the same score
    train(cache, tmp_path, settings, options=OPTIONS, report=lines.append)
    assert "no better sum of recalls of the dev sample for 2 epochs" in lines[-1]


def test_selection_changes_nothing_but_the_choice(cache: FeatureCache, tiny: TrainSettings, tmp_path: Path) -> None:
    found = {}
    for select in ("perplexity", "cider", "recall"):
        train(cache, tmp_path / select, tiny.but(select=select, epochs=1), options=OPTIONS)
        found[select] = read_checkpoint(tmp_path / select / "checkpoint_last.pt")["weights"]
    for select in ("cider", "recall"):
        assert all(torch.equal(value, found[select][name]) for name, value in found["perplexity"].items())


def test_models_that_match_have_their_own_criterion() -> None:
    with pytest.raises(SettingError, match=r"select is for captioners \(mrnn.*\), not devise"):
        TrainSettings.of(model="devise", select="recall")


def test_cider_is_that_of_coco_caption(trained: Training) -> None:
    """On word numbers, with all images of the split, whose document frequencies the scorer then takes too."""
    scorer = pytest.importorskip("pycocoevalcap.cider.cider_scorer")
    data, images = trained.data, sampled_images(trained.data.val, 1000)
    captions = greedy_captions(trained.model, data.features[images])  # type: ignore[arg-type]
    cider = scorer.CiderScorer()
    for image, caption in zip(images, captions, strict=True):
        own = [
            data.val.tokens[data.val.starts[n] : data.val.starts[n + 1]]
            for n in np.flatnonzero(data.val.image == image)
        ]
        cider += (" ".join(map(str, caption)), [" ".join(map(str, each)) for each in own])
    expected = cider.compute_score()[0]
    found = sample_cider(trained.model, data.val, data.features, images=images)  # type: ignore[arg-type]
    assert found == pytest.approx(expected, rel=1e-9)
    assert found > 0.1

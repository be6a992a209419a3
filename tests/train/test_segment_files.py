"""Segments instead of sentences: which rows and words they are, training on them, and files that do not fit."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mrnn.data.cache import FeatureCache, open_cache
from mrnn.data.cache_creation import create_cache
from mrnn.data.cache_writer import CacheWriter
from mrnn.data.errors import CorpusError, SettingError, Stopped, TrainingError
from mrnn.data.regions import NO_CLASS, found_regions
from mrnn.data.stopping import StopRequest
from mrnn.data.tokenize import tokenize
from mrnn.data.vocabulary import build_vocabulary
from mrnn.train.checkpoint import read_checkpoint
from mrnn.train.loop import train
from mrnn.train.prepare import prepare
from mrnn.train.run_files import BEST, LAST
from mrnn.train.segment_files import read_segments
from mrnn.train.settings import RunOptions, TrainSettings
from mrnn.train.training import Training

ROWS = 3
QUIET = RunOptions(device="cpu", tensorboard=False, log_every=4)


@pytest.fixture(scope="module")
def placed(region_cache: FeatureCache, tmp_path_factory: pytest.TempPathFactory) -> FeatureCache:
    """The cache of three rows an image, whose places are known; the first image lacks its last region."""
    path = tmp_path_factory.mktemp("placed") / "placed.h5"
    corpus, size = region_cache.corpus(), region_cache.feature_size
    create_cache(path, corpus, region_cache.provenance, feature_size=size, rows_per_image=ROWS)
    rows = len(region_cache.features)
    places = np.random.default_rng(5).uniform(1, 80, (rows, 4))
    regions = found_regions(places, np.ones(rows), np.full(rows, NO_CLASS))
    regions.valid[ROWS - 1] = 0
    with CacheWriter(path) as writer:
        writer.write(np.arange(len(corpus.images)), np.array(region_cache.features, np.float32), regions=regions)
    return open_cache(path)


def lines_of(cache: FeatureCache, splits: tuple[str, ...] = ("train", "val")) -> list[dict[str, Any]]:
    """Every sentence in two segments: its first two words with the last region, the others with region 1."""
    rectangles = cache.regions.rectangles.reshape(-1, ROWS, 4)

    def segment(image: int, first: int, end: int, region: int) -> dict[str, Any]:
        place = [round(float(x), 2) for x in rectangles[image, region]]
        return {"first": first, "end": end, "region": region, "score": 1.0, "words": "", "rectangle": place}

    return [
        {
            "image_id": image.id,
            "number": number,
            "sentence": text,
            "segments": [segment(i, 0, 2, 2 if i else 1), segment(i, 2, len(tokenize(text)), 1)],
        }
        for i, image in enumerate(cache.images)
        if image.split in splits
        for number, text in enumerate(image.sentences)
    ]


def write(path: Path, lines: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.fixture
def file(placed: FeatureCache, tmp_path: Path) -> Path:
    return write(tmp_path / "segments.jsonl", lines_of(placed))


@pytest.fixture
def settings(tiny_kinds: dict[str, TrainSettings], file: Path) -> TrainSettings:
    return tiny_kinds["generator"].but(epochs=2, segments=str(file))


def prepared(
    cache: FeatureCache, settings: TrainSettings, report: Callable[[str], None] = lambda line: None
) -> Training:
    return prepare(cache, settings, QUIET, last=None, report=report)


def test_words_and_rows_are_those_of_the_lines(placed: FeatureCache, file: Path) -> None:
    found = read_segments(file, placed)
    assert set(found.by_split) == {"train", "val"}
    expected = [
        (tokenize(line["sentence"])[each["first"] : each["end"]], int(line["image_id"][7:10]) * ROWS + each["region"])
        for line in lines_of(placed, ("val",))
        for each in line["segments"]
    ]
    val = found.of("val")
    assert [*zip(val.words(placed), val.row.tolist(), strict=True)] == expected
    vocabulary = build_vocabulary([words for words, _ in expected], cutoff=1)
    sentences = val.sentences(placed, vocabulary)
    assert sentences.tokens.tolist() == [number for words, _ in expected for number in vocabulary.encode(words)]
    assert sentences.image.tolist() == [row for _, row in expected]


def test_training_sees_the_features_of_the_regions_and_the_words_of_the_captions(
    placed: FeatureCache, settings: TrainSettings, tmp_path: Path
) -> None:
    reported: list[str] = []
    training = prepared(placed, settings, report=reported.append)
    data = training.data
    assert "60 training images with 360 segments, 12 dev images with 72" in reported[0]
    assert (len(data.train), len(data.val)) == (360, 72)
    np.testing.assert_array_equal(
        data.features[data.train.image].numpy(), placed.features[data.train.image].astype(np.float32)
    )
    used = placed.features[np.unique(data.train.image)].astype(np.float64)
    np.testing.assert_allclose(training.model.feature_mean.numpy(), used.mean(axis=0), rtol=1e-5)
    whole = prepared(placed, settings.but(segments=""))
    assert data.vocabulary == whole.data.vocabulary
    assert training.image_ids[data.train.image[-1]] == "picture059.jpg"
    mapped = prepare(placed, settings, replace(QUIET, memory_budget=0), last=None, report=reported.append)
    assert torch.equal(mapped.data.features[data.train.image], data.features[data.train.image])


def test_it_learns_resumes_bit_for_bit_and_records_the_file(
    placed: FeatureCache, settings: TrainSettings, file: Path, tmp_path: Path
) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train(placed, whole, settings, options=QUIET)

    class StopAfter(StopRequest):
        looks = 0

        @property
        def reason(self) -> str:
            self.looks += 1
            return "SIGTERM" if self.looks > 20 else ""

    with pytest.raises(Stopped):
        train(placed, parts, settings, options=QUIET, stop=StopAfter())
    train(placed, parts, settings, options=QUIET)
    for name in (LAST, BEST):
        one, other = (read_checkpoint(folder / name) for folder in (whole, parts))
        assert all(torch.equal(a, b) for a, b in zip(one["weights"].values(), other["weights"].values(), strict=True))
    epochs = [json.loads(line) for line in (whole / "metrics.jsonl").read_text().splitlines() if '"epoch"' in line]
    perplexities = [line["val_perplexity"] for line in epochs if line["kind"] == "epoch"]
    assert perplexities[-1] < perplexities[0]
    config = json.loads((whole / "config.json").read_text())
    assert config["settings"]["segments"] == str(file)
    assert config["segments_sha256"] == read_segments(file, placed).sha256
    lines = lines_of(placed)
    write(file, lines[1:])
    with pytest.raises(TrainingError, match=r"segments.jsonl \(SHA-256\) \w+, now \w+\."):
        train(placed, parts, settings, options=QUIET)
    with pytest.raises(TrainingError, match=r"segments \S+segments.jsonl, now \S+other.jsonl"):
        train(placed, parts, settings.but(segments=str(write(tmp_path / "other.jsonl", lines))), options=QUIET)


def change(**values: Any) -> Callable[[dict[str, Any]], None]:
    def apply(line: dict[str, Any]) -> None:
        line.update(values)

    return apply


def change_segment(**values: Any) -> Callable[[dict[str, Any]], None]:
    def apply(line: dict[str, Any]) -> None:
        line["segments"][1].update(values)

    return apply


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            change(image_id="picture999.jpg"),
            "line 5: .*placed.h5 has no sentence number 1 of the image 'pic",
        ),
        (change(number=3), "no sentence number 3 of the image 'picture001.jpg' like this one; give the cache"),
        (change(number=-1), "no sentence number -1"),
        (change(sentence="A cat."), "no sentence number 1 of the image 'picture001.jpg' like this one"),
        (change(segments=3), "line 5: 'segments' must be a list"),
        (change_segment(region=3), "no region 3 of the image 'picture001.jpg' with this rectangle; give the cache"),
        (change_segment(region=0), "no region 0 of the image"),
        (change_segment(rectangle=[1, 2, 3, 4]), "no region 1 of the image"),
        (change_segment(rectangle=None), "no region 1 of the image"),
        (change_segment(end=99), "words 2 to 99 are no part of a sentence of"),
        (change_segment(first="a"), "'first' must be an integer"),
    ],
)
def test_lines_of_another_cache_are_refused_with_their_place(
    change: Callable[[dict[str, Any]], None], message: str, placed: FeatureCache, tmp_path: Path
) -> None:
    lines = lines_of(placed)
    change(lines[4])
    with pytest.raises(CorpusError, match=message):
        read_segments(write(tmp_path / "segments.jsonl", lines), placed)


def test_regions_that_an_image_lacks_are_refused(placed: FeatureCache, tmp_path: Path) -> None:
    lines = lines_of(placed)
    place = placed.regions.rectangles[ROWS - 1].tolist()
    lines[0]["segments"][0] |= {"region": ROWS - 1, "rectangle": place}
    with pytest.raises(CorpusError, match=r"line 1: .* has no region 2 of the image 'picture000.jpg'"):
        read_segments(write(tmp_path / "segments.jsonl", lines), placed)


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"{", "line 1: not JSON"), (b"\xff\n", "not UTF-8"), (None, "cannot be read"), (b"[]\n", "expected an object")],
)
def test_files_of_another_form_are_refused(
    content: bytes | None, message: str, placed: FeatureCache, tmp_path: Path
) -> None:
    path = tmp_path / "segments.jsonl"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CorpusError, match=message):
        read_segments(path, placed)


@pytest.mark.parametrize("split", ["train", "val"])
def test_both_splits_are_needed_and_others_do_no_harm(
    split: str, placed: FeatureCache, settings: TrainSettings, tmp_path: Path
) -> None:
    other = {"train": "val", "val": "train"}[split]
    lacking = write(tmp_path / "lacking.jsonl", lines_of(placed, (other, "test")))
    with pytest.raises(CorpusError, match=rf"no segments of the split '{split}' \({other}: \d+, test: 18\)"):
        prepared(placed, settings.but(segments=str(lacking)))
    everything = write(tmp_path / "all.jsonl", lines_of(placed, ("train", "val", "test")))
    assert len(prepared(placed, settings.but(segments=str(everything))).data.val) == 72


def test_models_that_write_no_captions_are_refused(settings: TrainSettings) -> None:
    with pytest.raises(SettingError, match=r"segments are for captioners \(mrnn.*\), not alignment"):
        TrainSettings.of(model="alignment", segments="segments.jsonl")

"""CaptionDataset: its items, and that it goes to workers without the features."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from mrnn.data.cache import open_cache
from mrnn.data.cache_creation import create_cache
from mrnn.data.cache_writer import CacheWriter
from mrnn.data.captions import Corpus, Image
from mrnn.data.errors import CacheError
from mrnn.data.regions import NO_CLASS, found_regions
from mrnn.data.vocabulary import Vocabulary
from mrnn.train import CaptionDataset

WORDS = Vocabulary(("<s>", "<unk>", "a", "dog", "cat"))
SIZE = 6


def make_cache(folder: Path, *, images: int = 5, rows: int = 1, size: int = SIZE) -> Path:
    """Every third image has no sentence with a word, the others have two sentences; the last image is for testing."""
    made = [
        Image(f"{n}.jpg", f"{n}.jpg", "train", ("!",) if n % 3 == 2 else (f"A dog {'runs ' * (n % 4)}", "..", "A cat"))
        for n in range(images - 1)
    ]
    made.append(Image("last.jpg", "last.jpg", "test", ("Dog",)))
    file = folder / "feats.h5"
    create_cache(file, Corpus("made", folder, tuple(made)), {}, feature_size=size, rows_per_image=rows)
    count = images * rows
    places = found_regions(np.ones((count, 4)), np.zeros(count), np.full(count, NO_CLASS))
    places.valid.reshape(images, rows)[:, 1:][::2] = 0
    with CacheWriter(file) as writer:
        values = np.random.default_rng(0).standard_normal((count, size)).astype(np.float32)
        writer.write(np.arange(images), values, regions=places)
    return file


def test_items_are_the_sentences_of_a_split(tmp_path: Path) -> None:
    cache = open_cache(make_cache(tmp_path))
    dataset = CaptionDataset(cache, "train", vocabulary=WORDS)
    items = [dataset[number] for number in range(len(dataset))]
    assert [item.sentence for item in items] == [
        "A dog ",
        "A cat",
        "A dog runs ",
        "A cat",
        "A dog runs runs runs ",
        "A cat",
    ]
    assert [item.image_id for item in items] == ["0.jpg", "0.jpg", "1.jpg", "1.jpg", "3.jpg", "3.jpg"]
    assert items[2].words.tolist() == [2, 3, 1]
    assert items[2].words.dtype == torch.int64
    expected = torch.from_numpy(cache.features[1].astype(np.float32))
    assert torch.equal(items[2].features, expected)
    assert torch.equal(dataset[-1].features, items[-1].features)
    assert [item.image_id for item in CaptionDataset(str(cache.path), "test", vocabulary=WORDS)] == ["last.jpg"]
    with pytest.raises(IndexError):
        dataset[len(dataset)]
    with pytest.raises(CacheError, match="no sentence .* in the split 'val'"):
        CaptionDataset(cache, "val", vocabulary=WORDS)


def test_regions_that_are_not_there_are_zero(tmp_path: Path) -> None:
    cache = open_cache(make_cache(tmp_path, rows=3))
    dataset = CaptionDataset(cache, vocabulary=WORDS)
    first, second = dataset[0].features, dataset[2].features
    assert first.shape == second.shape == (3, SIZE)
    assert not first[1:].any()
    assert torch.equal(second, torch.from_numpy(cache["1.jpg"].features.astype(np.float32)))  # type: ignore[union-attr]


def test_the_default_vocabulary_is_that_of_train_mrnn(tmp_path: Path) -> None:
    dataset = CaptionDataset(make_cache(tmp_path, images=9))
    assert dataset.vocabulary.words == ("<s>", "<unk>", "a", "runs", "cat", "dog")
    few = tmp_path / "few"
    few.mkdir()
    assert CaptionDataset(make_cache(few)).vocabulary.words == ("<s>", "<unk>", "a"), "nothing else is there five times"


def batches(dataset: CaptionDataset, workers: int, context: str | None = None) -> list:
    loader = DataLoader(
        dataset, batch_size=2, collate_fn=dataset.collate, num_workers=workers, multiprocessing_context=context
    )
    return [
        (batch.features.tolist(), batch.words.tolist(), batch.lengths.tolist(), batch.image_ids, batch.sentences)
        for batch in loader
    ]


def test_items_side_by_side(tmp_path: Path) -> None:
    _, (features, words, lengths, ids, sentences), _ = batches(
        CaptionDataset(make_cache(tmp_path), vocabulary=WORDS), 0
    )
    assert (np.shape(features), ids, sentences) == ((2, SIZE), ["1.jpg", "1.jpg"], ["A dog runs ", "A cat"])
    assert words == [[2, 3, 1], [2, 4, 0]]
    assert lengths == [3, 2]


@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_workers_return_the_same_items(tmp_path: Path, context: str, monkeypatch: pytest.MonkeyPatch) -> None:
    make_cache(tmp_path)
    monkeypatch.chdir(tmp_path)
    dataset = CaptionDataset("feats.h5", vocabulary=WORDS)  # a relative path
    alone = batches(dataset, 0)
    assert len(alone) == 3
    assert batches(dataset, 1, context) == alone


def test_a_pickled_dataset_is_small(tmp_path: Path) -> None:
    file = make_cache(tmp_path, images=4000, size=1024)
    assert file.stat().st_size > 8e6
    dataset = CaptionDataset(file, vocabulary=WORDS)
    item = dataset[100]
    shipped = pickle.dumps(dataset)
    assert len(shipped) < 2000
    again = pickle.loads(shipped)
    assert len(again) == len(dataset)
    assert again.vocabulary == dataset.vocabulary
    assert torch.equal(again[100].features, item.features)
    assert again[100].sentence == item.sentence

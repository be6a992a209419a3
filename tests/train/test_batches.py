import numpy as np
import pytest
import torch

from mrnn.data.cache import FeatureCache
from mrnn.data.tokenize import tokenize
from mrnn.data.vocabulary import BOUNDARY_ID, Vocabulary, build_vocabulary
from mrnn.train.batches import IMAGE_ROWS, NOTHING, TOKEN_ROWS, as_table, epoch_batches, epoch_order, pack
from mrnn.train.features import Features
from mrnn.train.sentences import Sentences, encode_sentences, sentences_of, tokenized_sentences


@pytest.fixture(scope="module")
def vocabulary(cache: FeatureCache) -> Vocabulary:
    return build_vocabulary(tokenized_sentences(cache, cache.done("train"))[0], cutoff=2)


@pytest.fixture(scope="module")
def sentences(cache: FeatureCache, vocabulary: Vocabulary) -> Sentences:
    return sentences_of(cache, "train", vocabulary)


def test_sentences_are_those_of_the_split(cache: FeatureCache, vocabulary: Vocabulary, sentences: Sentences) -> None:
    expected = [
        (i, vocabulary.encode(tokenize(text)))
        for i, image in enumerate(cache.images)
        if image.split == "train"
        for text in image.sentences
    ]
    found = [
        (int(sentences.image[n]), sentences.tokens[sentences.starts[n] : sentences.starts[n + 1]].tolist())
        for n in range(len(sentences))
    ]
    assert found == expected


def test_sentences_without_words_are_skipped_and_counted(vocabulary: Vocabulary) -> None:
    encoded = encode_sentences([["dog"], [], ["a", "zebra"], []], np.array([4, 4, 9, 9]), vocabulary)
    assert (len(encoded), encoded.skipped, encoded.image.tolist()) == (2, 2, [4, 9])
    assert encoded.lengths.tolist() == [1, 2]
    assert encoded.targets == 5


def test_packing_holds_every_sentence_with_its_image(cache: FeatureCache, sentences: Sentences) -> None:
    features = Features(cache)
    numbers = np.array([40, 3, 17, 4, 99, 5])
    batch = pack(sentences, numbers, features)
    assert sorted(batch.sentences) == sorted(numbers)
    assert batch.sizes == sorted(batch.sizes, reverse=True)
    assert sum(batch.sizes) == batch.count
    rounded = -(-batch.count // TOKEN_ROWS) * TOKEN_ROWS
    assert len(batch.inputs) == len(batch.targets) == len(batch.image_of_token) == rounded
    assert (batch.targets[batch.count :] == NOTHING).all()
    images = len(set(sentences.image[numbers].tolist()))
    assert len(batch.features) == -(-images // IMAGE_ROWS) * IMAGE_ROWS
    starts = np.concatenate([[0], np.cumsum(batch.sizes)])
    for place, number in enumerate(batch.sentences):
        words = sentences.tokens[sentences.starts[number] : sentences.starts[number + 1]].tolist()
        rows = [int(starts[t]) + place for t in range(len(batch.sizes)) if batch.sizes[t] > place]
        assert batch.inputs[rows].tolist() == [BOUNDARY_ID, *words]
        assert batch.targets[rows].tolist() == [*words, BOUNDARY_ID]
        own = torch.from_numpy(cache.features[sentences.image[number]].astype(np.float32))
        for row in rows:
            assert torch.equal(batch.features[batch.image_of_token[row]], own)


def test_an_epoch_holds_every_sentence_once_and_depends_on_seed_and_epoch() -> None:
    lengths = np.random.default_rng(0).integers(1, 30, size=1003)
    order = epoch_order(lengths, 16, seed=1, epoch=2, window=5)
    assert sorted(np.concatenate(order).tolist()) == list(range(1003))
    again, other_epoch, other_seed = (
        epoch_order(lengths, 16, seed=seed, epoch=epoch, window=5) for seed, epoch in ((1, 2), (1, 3), (2, 2))
    )
    assert all(np.array_equal(one, two) for one, two in zip(order, again, strict=True))
    assert any(not np.array_equal(one, two) for one, two in zip(order, other_epoch, strict=True))
    assert any(not np.array_equal(one, two) for one, two in zip(order, other_seed, strict=True))
    spread = np.mean([np.ptp(lengths[batch]) for batch in order])
    shuffled = np.mean([np.ptp(lengths[i : i + 16]) for i in range(0, 1003, 16)])
    assert spread < 0.3 * shuffled


def test_skipping_gives_the_rest_of_the_epoch(cache: FeatureCache, sentences: Sentences) -> None:
    features = Features(cache)
    whole = list(epoch_batches(sentences, features, 8, seed=0, epoch=1))
    rest = list(epoch_batches(sentences, features, 8, seed=0, epoch=1, skip=7))
    assert [b.sentences.tolist() for b in rest] == [b.sentences.tolist() for b in whole[7:]]


def test_features_are_the_same_in_memory_and_mapped(cache: FeatureCache) -> None:
    held, mapped = Features(cache), Features(cache, budget=1e-9)
    assert held.in_memory
    assert not mapped.in_memory
    images = np.array([5, 0, 44, 5])
    assert torch.equal(held[images], mapped[images])
    assert held[images].dtype == torch.float32
    rows = held[images].numpy().astype(np.float64)
    for features in (held, mapped):
        mean, rms = features.moments(images)
        np.testing.assert_allclose(mean, rows.mean(axis=0))
        assert rms == pytest.approx(rows.var(axis=0).mean() ** 0.5)


@pytest.mark.parametrize("rectangular", [False, True])
def test_a_batch_as_a_table_of_sentences(cache: FeatureCache, sentences: Sentences, rectangular: bool) -> None:
    batch = pack(sentences, np.array([40, 3, 17, 4, 99, 5]), Features(cache), rectangular=rectangular)
    table, places = as_table(batch)
    assert table.shape == (6, len(batch.sizes))
    for row, number in zip(table.tolist(), batch.sentences, strict=True):
        words = sentences.tokens[sentences.starts[number] : sentences.starts[number + 1]].tolist()
        assert row[: len(words) + 1] == [BOUNDARY_ID, *words]
    rows = sum(batch.sizes)
    assert torch.equal(table.flatten()[places[:rows]], batch.inputs[:rows])
    assert len(set(places[:rows].tolist())) == rows
    assert places[rows:].tolist() == [0] * (len(batch.inputs) - rows)

import numpy as np
import pytest
import torch

from mrnn.data.cache import FeatureCache
from mrnn.data.vocabulary import build_vocabulary
from mrnn.train.features import Features
from mrnn.train.pairs import NO_SENTENCE, batch_count, epoch_batches, epoch_pairs, pack_pairs, packed_words
from mrnn.train.sentences import Sentences, sentences_of, tokenized_sentences


def some_sentences(counts: list[int]) -> Sentences:
    """So many sentences of each image, with random words; the images' sentences lie apart."""
    draw = np.random.default_rng(0)
    image = draw.permutation(np.repeat(np.arange(len(counts)), counts))
    starts = np.concatenate([[0], np.cumsum(draw.integers(1, 9, len(image)))])
    return Sentences(draw.integers(2, 50, starts[-1]).astype(np.int32), starts, image)


@pytest.fixture(scope="module")
def data(region_cache: FeatureCache) -> tuple[Sentences, Features]:
    vocabulary = build_vocabulary(tokenized_sentences(region_cache, region_cache.done("train"))[0], cutoff=2)
    return sentences_of(region_cache, "train", vocabulary), Features(region_cache, rows=3)


@pytest.mark.parametrize("counts", [[5] * 23, [5, 1, 7, 2, 2, 6, 1, 1, 3], [1], [4]], ids=str)
@pytest.mark.parametrize("size", [1, 4, 10])
def test_every_sentence_once_an_epoch_and_no_image_twice_a_batch(counts: list[int], size: int) -> None:
    sentences = some_sentences(counts)
    batches = epoch_pairs(sentences, size, seed=3, epoch=1)
    assert len(batches) == batch_count(sentences, size)
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(sentences)))
    for numbers in batches:
        assert len(numbers) <= size
        assert len(np.unique(sentences.image[numbers])) == len(numbers)


def test_batches_are_of_nearly_equal_size_and_differ_between_epochs_and_seeds() -> None:
    sentences = some_sentences([5] * 230)
    sizes = [len(numbers) for numbers in epoch_pairs(sentences, 100, seed=0, epoch=0)]
    assert set(sizes) == {76, 77}
    orders = [
        np.concatenate(epoch_pairs(sentences, 100, seed=seed, epoch=epoch)).tolist()
        for seed, epoch in ((0, 0), (0, 0), (0, 1), (1, 0))
    ]
    assert orders[0] == orders[1]
    assert orders[0] != orders[2]
    assert orders[0] != orders[3]
    partners = [
        set(map(tuple, (np.sort(sentences.image[n]) for n in epoch_pairs(sentences, 100, seed=0, epoch=e))))
        for e in (0, 1)
    ]
    assert not partners[0] & partners[1]


def test_a_resumed_epoch_has_the_batches_that_were_left(data: tuple[Sentences, Features]) -> None:
    whole = [batch.sentences.tolist() for batch in epoch_batches(*data, 8, seed=0, epoch=2)]
    rest = [batch.sentences.tolist() for batch in epoch_batches(*data, 8, seed=0, epoch=2, skip=3)]
    assert rest == whole[3:]


@pytest.mark.parametrize("rectangular", [False, True])
def test_packing(data: tuple[Sentences, Features], rectangular: bool) -> None:
    sentences, features = data
    numbers = epoch_pairs(sentences, 11, seed=0, epoch=0)[0]
    batch = pack_pairs(sentences, numbers, features, rectangular=rectangular)
    assert batch.count == len(numbers) == len(batch.lengths)
    assert sorted(batch.sentences.tolist()) == sorted(numbers.tolist())
    lengths = sentences.lengths[batch.sentences]
    assert batch.sizes == [len(numbers) if rectangular else int((lengths > step).sum()) for step in range(lengths[0])]
    for place, number in enumerate(batch.sentences):
        words = sentences.tokens[sentences.starts[number] : sentences.starts[number + 1]].tolist()
        rows = torch.nonzero(batch.sentence == place)[:, 0]
        assert batch.tokens[rows].tolist() == words
        assert batch.tokens[batch.mirrored[rows]].tolist() == words[::-1]
        held = features.regions(sentences.image[number : number + 1])[0][0]
        assert torch.equal(batch.features[place], held)
    assert torch.equal(batch.mirrored[batch.mirrored], torch.arange(len(batch.tokens)))  # it is its own inverse
    assert (batch.sentence == NO_SENTENCE).sum() == len(batch.tokens) - lengths.sum()


def test_a_batch_with_an_image_twice_is_refused(data: tuple[Sentences, Features]) -> None:
    sentences, features = data
    twice = np.flatnonzero(sentences.image == sentences.image[0])[:2]
    with pytest.raises(ValueError, match="of one image"):
        pack_pairs(sentences, twice, features)
    shortest_first = np.argsort(sentences.lengths)[[0, -1]]
    with pytest.raises(ValueError, match="falling length"):
        packed_words(sentences, shortest_first)


def test_regions_in_memory_and_mapped_are_equal(region_cache: FeatureCache) -> None:
    images = np.array([5, 2, 9])
    held, mapped = Features(region_cache, rows=2), Features(region_cache, rows=2, budget=0)
    assert held.in_memory
    assert not mapped.in_memory
    for one, other in zip(held.regions(images), mapped.regions(images), strict=True):
        assert torch.equal(one, other)
    stored = region_cache.features.reshape(-1, 3, 16)[images]
    assert torch.equal(held.regions(images)[0], torch.from_numpy(stored[:, :2].astype(np.float32)))
    assert torch.equal(held[images], torch.from_numpy(stored[:, 0].astype(np.float32)))
    assert torch.equal(mapped[images], held[images])
    mean, rms = held.moments(np.arange(20))
    rows = region_cache.features.reshape(-1, 3, 16)[:20, :2].reshape(-1, 16).astype(np.float64)
    np.testing.assert_allclose(mean, rows.mean(0), rtol=1e-6)
    assert rms == pytest.approx(np.sqrt(np.square(rows - rows.mean(0)).mean()), rel=1e-5)

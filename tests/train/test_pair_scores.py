"""Scores of many pairs, tile after tile, against one batch after another and against loops."""

import numpy as np
import pytest
import torch

from mrnn.train import pair_scores as module
from mrnn.train.models import KINDS
from mrnn.train.models.two_towers import TwoTowers
from mrnn.train.pair_scores import WordVectors, pair_scores, sentence_tiles, word_vectors
from mrnn.train.pairs import packed_words
from mrnn.train.sentences import Sentences


@pytest.fixture
def words() -> WordVectors:
    draw = np.random.default_rng(0)
    starts = np.concatenate([[0], np.cumsum(draw.integers(1, 9, 40))])
    return WordVectors(torch.from_numpy(draw.normal(size=(starts[-1], 7)).astype(np.float32)), starts)


@pytest.mark.parametrize("score", ["max", "sum"])
@pytest.mark.parametrize("regions", [1, 4])
@pytest.mark.parametrize(("tile_words", "tile_images"), [(1024, 512), (5, 3), (1, 1)])
def test_tiles_against_a_loop_over_pairs(
    words: WordVectors, score: str, regions: int, tile_words: int, tile_images: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "WORDS", tile_words)
    monkeypatch.setattr(module, "IMAGES", tile_images)
    vectors = torch.randn(regions, 11, 7, generator=torch.Generator().manual_seed(1))
    found = pair_scores(words, vectors, score=score)
    assert found.shape == (40, 11)
    for sentence in range(40):
        rows = words.vectors[words.starts[sentence] : words.starts[sentence + 1]]
        for image in range(11):
            products = rows @ vectors[:, image].T
            wanted = (products.amax(1) if score == "max" else products.relu().sum(1)).sum()
            assert found[sentence, image].item() == pytest.approx(wanted.item(), rel=1e-4, abs=1e-5)


def test_chosen_sentences_keep_their_scores(words: WordVectors) -> None:
    vectors = torch.randn(3, 5, 7, generator=torch.Generator().manual_seed(1))
    numbers = np.array([7, 0, 39, 7])
    whole = pair_scores(words, vectors, score="max")
    torch.testing.assert_close(pair_scores(words.chosen(numbers), vectors, score="max"), whole[numbers])


def test_tiles_cover_all_sentences_and_hold_few_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WORDS", 10)
    starts = np.array([0, 4, 8, 30, 31, 41, 42])
    assert sentence_tiles(starts) == [(0, 2), (2, 3), (3, 4), (4, 5), (5, 6)]


@pytest.mark.parametrize("name", ["alignment", "defrag", "devise"])
def test_vectors_of_words_in_the_order_of_the_sentences(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BATCH", 4)
    draw = np.random.default_rng(0)
    starts = np.concatenate([[0], np.cumsum(draw.integers(1, 7, 13))])
    sentences = Sentences(draw.integers(2, 30, starts[-1]).astype(np.int32), starts, np.arange(13))
    model = KINDS[name].build(KINDS[name].config(30, 5, embedding=6, joint=8, embedding_scale=1.0, dropout=0.5))
    assert isinstance(model, TwoTowers)
    model.initialise(torch.Generator().manual_seed(0))
    model.train()
    found = word_vectors(model, sentences)
    assert model.training
    model.eval()
    for number in range(13):
        alone = packed_words(sentences, np.array([number]))
        length = sentences.lengths[number]
        rows = found.vectors[starts[number] : starts[number + 1]]
        torch.testing.assert_close(rows, model.words(alone)[:length].detach(), rtol=1e-4, atol=1e-6)

"""Perplexity by length and image by image: each piece equals the perplexity of its sentences alone."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mrnn.data.cache import open_cache
from mrnn.evaluate.metrics import perplexity as module
from mrnn.evaluate.metrics.perplexity import perplexity_per_image, perplexity_summary
from mrnn.train.checkpoint import load_trained
from mrnn.train.features import Features
from mrnn.train.sentences import Sentences, sentences_of
from mrnn.train.tasks.captioning import perplexity, sentence_bits

World = Callable[..., tuple[Path, Path]]


def part(sentences: Sentences, chosen: np.ndarray) -> Sentences:
    """Some of the sentences."""
    words = [sentences.tokens[sentences.starts[i] : sentences.starts[i + 1]] for i in chosen]
    starts = np.concatenate([[0], np.cumsum([len(each) for each in words])])
    return Sentences(np.concatenate(words), starts, sentences.image[chosen])


def test_the_pieces_are_the_perplexities_of_their_sentences(make_world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    run, file = make_world()
    trained, cache = load_trained(run), open_cache(file)
    sentences, features = sentences_of(cache, "test", trained.vocabulary), Features(cache)
    sentences.tokens[::7] = 1  # some <unk>
    monkeypatch.setattr(module, "LENGTHS", ((1, 3), (4, 4), (5, None)))
    told: list[int] = []
    bits = sentence_bits(trained.model, sentences, features, batch_size=4, after_batch=told.append)
    assert sum(told) == len(sentences)
    summary = perplexity_summary(bits, sentences.lengths)
    whole = perplexity(trained.model, sentences, features)
    assert (summary["perplexity"], summary["unknown_words"]) == (pytest.approx(whole.perplexity), whole.unknown)

    assert [row["words"] for row in summary["by_length"]] == ["1-3", "5+"], "a bucket without sentences is left out"
    for row, (low, high) in zip(summary["by_length"], ((1, 3), (5, 99)), strict=True):
        chosen = np.flatnonzero((sentences.lengths >= low) & (sentences.lengths <= high))
        alone = perplexity(trained.model, part(sentences, chosen), features)
        assert row["sentences"] == len(chosen)
        assert row["perplexity"] == pytest.approx(alone.perplexity, rel=1e-5)
        assert row["perplexity_known"] == pytest.approx(alone.perplexity_known, rel=1e-5)
    assert len({round(row["perplexity"], 3) for row in summary["by_length"]}) == 2

    ids = [cache.images[i].id for i in sentences.image]
    per_image = perplexity_per_image(bits, ids)
    assert per_image.keys() == set(ids)
    for image, found in per_image.items():
        alone = perplexity(trained.model, part(sentences, np.flatnonzero(np.array(ids) == image)), features)
        assert (found["targets"], found["unknown"]) == (alone.tokens, alone.unknown)
        assert found["bits"] == pytest.approx(alone.bits * alone.tokens, rel=1e-5)
        assert 2 ** (found["known_bits"] / (found["targets"] - found["unknown"])) == pytest.approx(
            alone.perplexity_known, rel=1e-5
        )

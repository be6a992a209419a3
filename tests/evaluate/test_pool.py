"""A pool lists the sentences that have a word, once, with ids; parts of it keep them with their images."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from mrnn.data.cache import open_cache
from mrnn.data.tokenize import tokenize
from mrnn.evaluate.pool import build_pool

World = Callable[..., tuple[Path, Path]]


def test_every_sentence_with_a_word_is_there_once(make_world: World) -> None:
    cache = open_cache(make_world()[1])
    images = cache.done("test")
    pool = build_pool(cache, images)
    expected = [
        (row, cache.images[i].id, number, text, tuple(tokenize(text)))
        for row, i in enumerate(images)
        for number, text in enumerate(cache.images[i].sentences)
        if tokenize(text)
    ]
    found = [
        (row, s.image_id, s.number, s.text, s.words)
        for row, s in zip(pool.owners.tolist(), pool.sentences, strict=True)
    ]
    assert found == expected
    assert len(found) < sum(len(cache.images[i].sentences) for i in images), "one has no word"
    assert pool.references() == {
        cache.images[i].id: [tokenize(text) for text in cache.images[i].sentences if tokenize(text)] for i in images
    }


def test_a_part_is_the_pool_of_its_images(make_world: World) -> None:
    cache = open_cache(make_world()[1])
    images = cache.done("test")
    rows = np.array([1, 4, 5])
    part, alone = build_pool(cache, images).part(rows), build_pool(cache, images[rows])
    assert part.sentences == alone.sentences
    assert part.ids == alone.ids
    assert part.images.tolist() == alone.images.tolist()
    assert part.owners.tolist() == alone.owners.tolist()
    assert part.rows_with_sentences().tolist() == [0, 1, 2]

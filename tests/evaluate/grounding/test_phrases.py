"""Phrases of a cache: which tokens they are, their boxes, and their scores against those of single words."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mrnn.data.cache import open_cache
from mrnn.data.captions import Box, Image
from mrnn.data.tokenize import tokenize
from mrnn.evaluate.fit import features_for
from mrnn.evaluate.grounding import phrases as phrases_module
from mrnn.evaluate.grounding.alignments import word_region_scores
from mrnn.evaluate.grounding.phrases import Candidates, candidates, mean_word, phrases_of, score_phrases
from mrnn.train.checkpoint import load_trained
from mrnn.train.pair_scores import region_vectors

World = Callable[..., tuple[Path, Path]]


def test_words_between_blanks_become_tokens_and_boxes_their_hull() -> None:
    text = "A man - in a t-shirt , holds 2 cats ."
    image = Image(
        "a",
        "a",
        "test",
        ("!", text),
        (
            Box(0, 0, 2, 2, "a t-shirt", 1, (4, 6), "clothing"),
            Box(5, 1, 2, 2, "2 cats", 1, (8, 10), "animals"),
            Box(8, 8, 1, 3, "2 cats", 1, (8, 10), "animals"),
            Box(1, 1, 1, 1, ",", 1, (6, 7), "other"),
            Box(1, 1, 1, 1, "not of a caption", -1),
            Box(1, 1, 1, 1, "its words are unknown", 1),
            Box(1, 1, 1, 1, "beyond the end", 1, (9, 99)),
        ),
    )
    shirt, cats = phrases_of(image)
    assert tokenize(text)[shirt.first : shirt.end] == ["a", "tshirt"]
    assert tokenize(text)[cats.first : cats.end] == ["2", "cats"]
    assert (shirt.sentence, shirt.kind, shirt.truth) == (1, "clothing", (0, 0, 2, 2))
    assert cats.truth == (5, 1, 4, 10)


@pytest.mark.parametrize("kind", ["alignment", "defrag"])
def test_scores_are_sums_over_the_words(kind: str, make_world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(phrases_module, "IMAGES", 3)
    run, file = make_world(kind=kind, regions=4, boxes={"val": 0, "test": 1})
    trained, cache = load_trained(run), open_cache(file)
    features, images = features_for(trained, cache), cache.done("test")
    mean = mean_word(trained.model, cache, cache.done("val"), trained.vocabulary)

    def word_scores(image: int, words: list[list[str]]) -> list[np.ndarray]:
        regions = region_vectors(trained.model, features, np.array([image]))[:, 0]
        valid = candidates(cache, np.array([image]), features.rows).valid[0]
        return word_region_scores(trained.model, words, regions, valid, trained)

    found = score_phrases(trained.model, cache, features, images, trained.vocabulary, mean=mean)
    expected, words = [], []
    for image in images:
        sentences = [tokenize(text) for text in cache.images[image].sentences]
        kept = [sentence for sentence in sentences if sentence]
        of_words = word_scores(int(image), kept)
        for phrase in phrases_of(cache.images[image]):
            rows = of_words[kept.index(sentences[phrase.sentence])][phrase.first : phrase.end]
            expected.append(rows.sum(0))
            words.append(len(rows))
    valid = found.candidates.valid[found.image]
    assert not valid.all()
    np.testing.assert_allclose(found.scores[valid], np.stack(expected)[valid], rtol=1e-4, atol=1e-4)
    assert found.words.tolist() == words == [2] * len(words)
    assert found.starts.tolist() == np.searchsorted(found.image, np.arange(len(images) + 1)).tolist()

    total = np.zeros(cache.rows_per_image)
    count = 0
    for image in cache.done("val"):
        for text in cache.images[image].sentences:
            (rows,) = word_scores(int(images[0]), [tokenize(text)])
            total, count = total + rows.sum(0), count + len(rows)
    there = found.candidates.valid[0]
    np.testing.assert_allclose(found.response[0][there], (total / count)[there], rtol=1e-4, atol=1e-4)


def test_what_is_known_of_regions() -> None:
    found = Candidates(
        rectangles=np.array([[[0.0, 0, 10, 10], [0, 0, 5, 5], [0, 0, 10, 2], [0, 0, 0, 0]]]),
        valid=np.array([[True, True, True, False]]),
        detected=np.array([[False, True, True, False]]),
        scores=np.array([[1, 0.5, 0.0001, 0]]),
    )
    np.testing.assert_allclose(np.exp(found.log_areas()), [[1, 0.25, 0.2, 1]])
    least = phrases_module.LEAST_SCORE
    middle = np.sqrt(0.5 * least)
    np.testing.assert_allclose(np.exp(found.log_scores()), [[middle, 0.5, least, middle]])
    unscored = Candidates(found.rectangles, found.valid, np.zeros((1, 4), bool), found.scores)
    assert not unscored.log_scores().any()

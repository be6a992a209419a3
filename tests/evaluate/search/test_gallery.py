"""Answers from shortlists are those of the exact pass, as far as they say so."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mrnn.data.cache import open_cache
from mrnn.data.tokenize import tokenize
from mrnn.evaluate.retrieval.stage import sample_training_images
from mrnn.evaluate.search.gallery import IMAGE_ANCHORS, SENTENCE_ANCHORS, Gallery, gallery_sentences
from mrnn.evaluate.search.numbers import (
    IMAGE_PERCENT,
    RECALL,
    SENTENCE_PERCENT,
    measured_recall,
    search_images,
    search_sentences,
    shortlist_size,
)
from mrnn.train.checkpoint import load_trained
from mrnn.train.features import Features


@pytest.fixture
def gallery(make_world: Callable[..., tuple[Path, Path]], tmp_path: Path) -> Gallery:
    run, file = make_world(train=60, val=30, test=30)
    cache = open_cache(file)
    return Gallery(load_trained(run), cache, cache.done(), Features(cache), None, tmp_path / "search")


def test_the_shortlist_is_a_part_of_the_exact_order(gallery: Gallery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mrnn.evaluate.search.gallery.IMAGE_ANCHORS", 4)
    sentence = gallery.trained.vocabulary.encode(["a", "dog", "runs"])
    exact = search_images(gallery, sentence, top=120, percent=100)
    assert exact.exact
    assert sorted(exact.numbers) == list(range(120))
    whole = search_images(gallery, sentence, top=120, percent=99.9)
    np.testing.assert_array_equal(whole.numbers, exact.numbers)
    np.testing.assert_allclose(whole.scores, exact.scores, atol=1e-4)
    few = search_images(gallery, sentence, top=5, percent=25)
    assert (few.rescored, few.gallery, few.exact) == (30, 120, False)
    scores = dict(zip(exact.numbers, exact.scores, strict=True))
    assert few.scores.tolist() == pytest.approx([scores[number] for number in few.numbers], abs=1e-4)
    assert list(few.scores) == sorted(few.scores, reverse=True)
    assert len(set(few.numbers) & set(exact.numbers[:5])) >= 4


def test_sentences_of_a_shortlist_have_exact_scores(gallery: Gallery, tmp_path: Path) -> None:
    priors = sample_training_images(gallery.cache, 50, seed=0)
    for image in (0, 61, 100):
        feature = gallery.features[np.array([image])][0]
        exact = search_sentences(gallery, feature, top=100, priors=priors, percent=100)
        found = search_sentences(gallery, feature, top=5, priors=priors, percent=50)
        assert (exact.exact, found.exact) == (True, False)
        scores = dict(zip(exact.numbers, exact.scores, strict=True))
        assert found.scores.tolist() == pytest.approx([scores[number] for number in found.numbers], abs=1e-4)
        assert len(set(found.numbers) & set(exact.numbers[:5])) >= 4
    other = replace(gallery, folder=tmp_path / "other")
    again = search_sentences(other, feature, top=5, priors=priors, percent=50)
    np.testing.assert_array_equal(again.scores, found.scores)


def test_equal_sentences_count_once(gallery: Gallery) -> None:
    sentences = gallery_sentences(gallery)
    texts = [" ".join(tokenize(text)) for text in sentences.texts]
    everything = {" ".join(tokenize(text)) for image in gallery.cache.images for text in image.sentences}
    assert len(texts) == len(set(texts))
    assert set(texts) == everything - {""}
    for text, image in zip(sentences.texts, sentences.images, strict=True):
        assert text in gallery.cache.images[image].sentences


def test_shortlist_sizes() -> None:
    assert shortlist_size(1000, percent=0.55, top=3) == 6
    assert shortlist_size(1000, percent=0.1, top=10) == 10
    assert shortlist_size(7, percent=1, top=10) == 7


def test_the_recall_stated_is_that_of_the_next_smaller_shortlist(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mrnn.evaluate.search.numbers.RECALL", {True: {1: 0.9, 5: 0.99}, False: {}})
    assert [measured_recall(p, images=True) for p in (0.5, 1, 4.9, 5, 60)] == [None, 0.9, 0.9, 0.99, 0.99]
    assert measured_recall(50, images=False) is None


def test_the_recalls_that_answers_state_are_those_of_the_document() -> None:
    text = (Path(__file__).resolve().parents[3] / "docs" / "search.md").read_text().replace("*", "")
    for images, row in ((True, f"| {IMAGE_ANCHORS} | test |"), (False, f"| {SENTENCE_ANCHORS} | 0")):
        (line,) = (line for line in text.splitlines() if line.startswith(row))
        assert [float(cell) for cell in line.split("|")[-7:-1]] == list(RECALL[images].values())
    assert measured_recall(IMAGE_PERCENT, images=True) > 0.99
    assert measured_recall(SENTENCE_PERCENT, images=False) > 0.99

"""A search called from Python, in a thread: results by name."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mrnn.data.cache import open_cache
from mrnn.data.errors import EvaluationError
from mrnn.data.tokenize import tokenize
from mrnn.evaluate.search.gallery import Gallery, gallery_sentences
from mrnn.evaluate.search.numbers import search_images, search_sentences
from mrnn.evaluate.search.search import open_gallery, prior_images, search_by_image, search_by_sentence
from mrnn.train.checkpoint import load_trained
from mrnn.train.models.mrnn import RNNBase


@pytest.fixture
def gallery(make_world: Callable[..., tuple[Path, Path]], tmp_path: Path) -> Gallery:
    run, file = make_world()
    return open_gallery(load_trained(run), open_cache(file), index=str(tmp_path / "index"))


def test_images_for_a_sentence(gallery: Gallery, quietly: Callable[..., Any]) -> None:
    found = quietly(search_by_sentence, gallery, "A zebra sleeps in snow!", top=4)
    assert found.unknown_words == ["zebra"]
    words = gallery.trained.vocabulary.encode(tokenize("A zebra sleeps in snow!"))
    answer = search_images(gallery, words, top=4)
    images = [gallery.cache.images[gallery.images[number]] for number in answer.numbers]
    assert [result.rank for result in found.results] == [1, 2, 3, 4]
    assert [(result.image_id, result.path, result.sentences) for result in found.results] == [
        (image.id, image.path, list(image.sentences)) for image in images
    ]
    assert [result.score for result in found.results] == answer.scores.tolist()
    assert found.gallery == found.method["gallery"] == found.method["scored_exactly"] == 34
    assert found.method["text"] == "exact: all 34 images were scored"
    assert found.results[0].to_json(Path("root"))["path"] == str(Path("root") / images[0].path)


def test_sentences_for_a_feature(gallery: Gallery, quietly: Callable[..., Any]) -> None:
    feature, priors = gallery.features[np.array([2])][0], prior_images(gallery, 6, seed=1)
    assert len(priors) == 6
    found = quietly(search_by_image, gallery, gallery.features, 2, top=3, percent=40.0, priors=priors)
    sentences = gallery_sentences(gallery)
    answer = search_sentences(gallery, feature, top=3, percent=40.0, priors=priors)
    assert [result.sentences for result in found.results] == [[sentences.texts[number]] for number in answer.numbers]
    assert [result.score for result in found.results] == answer.scores.tolist()
    assert not found.method["exact"]
    assert "of the true top 10" in found.method["text"]
    assert list((gallery.folder).iterdir()), "the index is kept in the folder given"


def test_what_cannot_be_searched_is_refused(gallery: Gallery) -> None:
    blind = replace(gallery.trained, model=RNNBase(gallery.trained.model.config), name="rnn-base")
    with pytest.raises(EvaluationError, match="does not look at"):
        open_gallery(blind, gallery.cache)
    with pytest.raises(EvaluationError, match="knows no word"):
        search_by_sentence(gallery, "zebra")
    with pytest.raises(EvaluationError, match="no sentences"):
        search_by_image(replace(gallery, images=gallery.images[:0]), gallery.features, priors=np.arange(0))

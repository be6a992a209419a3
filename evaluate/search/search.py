"""A search as a user asks for it: a sentence or a picture in, images and sentences by name out.

What is compared and how fast is the matter of mrnn.evaluate.search.numbers, and for models that match of
mrnn.evaluate.search.towers.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mrnn.data.cache import FeatureCache
from mrnn.data.errors import EvaluationError, SettingError
from mrnn.data.vocabulary import UNKNOWN_ID
from mrnn.evaluate.fit import check_features, features_for, searchable_images, searchable_model, searchable_words
from mrnn.evaluate.retrieval.stage import sample_training_images
from mrnn.evaluate.search.gallery import Gallery
from mrnn.evaluate.search.numbers import Answer, measured_recall, search_images, search_sentences
from mrnn.evaluate.search.towers import match_images, match_sentences
from mrnn.train.checkpoint import TrainedModel
from mrnn.train.features import RegionRows
from mrnn.train.models.two_towers import TwoTowers


@dataclass(frozen=True)
class Found:
    """One result.

    score : log P(w|I) of an image, log P(w|I) - log P(w) of a sentence, natural; of a model that matches S and the
    standardised S; of a combination their weighted sum (mrnn.evaluate.search.together).

    image_id, path : of the image found, or of the first image that the sentence belongs to; path is below the folder of
    the images. sentences : the captions of the image found, or the sentence found.
    """

    rank: int
    score: float
    image_id: str
    path: str
    sentences: list[str]

    def to_json(self, root: Path) -> dict[str, Any]:
        """The result with the path of the image below `root`."""
        return {**asdict(self), "path": str(root / self.path)}


@dataclass(frozen=True)
class Search:
    """The results of a search, best first, and how they were found. It can be used as a sequence of the results.

    unknown_words : words of the sentence that the model reads as <unk>. gallery : number of images or sentences
    searched. method : the rest of what --json prints as "method", with a sentence for people under "text".
    """

    results: list[Found]
    unknown_words: list[str]
    gallery: int
    method: dict[str, Any]

    def __len__(self) -> int:
        return len(self.results)

    def __iter__(self) -> Iterator[Found]:
        return iter(self.results)

    def __getitem__(self, place: int) -> Found:
        return self.results[place]


def open_gallery(
    trained: TrainedModel, cache: FeatureCache, *, split: str | None = None, index: str | Path | None = None
) -> Gallery:
    """The images of a cache, ready to be searched.

    trained : from `load_trained`
    cache : from `open_cache`, with features of the kind that the model was trained on
    split : search only its images; None for all
    index : folder that keeps the indexes for the next process; None to keep them in memory only

    Raises EvaluationError where the model cannot search, or there is nothing that it could search, and SettingError for
    an index where the model needs none.
    """
    if not isinstance(trained.model, TwoTowers):
        searchable_model(trained)
    elif index is not None:
        raise SettingError(_needless(trained, "--index"))
    check_features(trained, cache)
    images = searchable_images(cache, split)
    return Gallery(trained, cache, images, features_for(trained, cache), split, None if index is None else Path(index))


def search_by_sentence(gallery: Gallery, sentence: str, *, top: int = 10, percent: float | None = None) -> Search:
    """The images that a sentence describes best, by log P(w | I), or by the score S of a model that matches.

    gallery : from `open_gallery`
    sentence : words in any form that `tokenize` reads
    top : number of results
    percent : share of the images to score exactly, in (0, 100]; None for all where that takes seconds, else 2

    Raises EvaluationError if the model knows no word of the sentence, SettingError as `_two_towers` does.
    """
    words, unknown = searchable_words(gallery.trained, sentence)
    numbers = gallery.trained.vocabulary.encode(words)
    if towers := _two_towers(gallery, percent):
        answer = match_images(towers, gallery, numbers, top=top)
    else:
        answer = search_images(gallery, numbers, top=top, percent=percent)
    return Search(found_images(gallery, answer), unknown, answer.gallery, describe_method(answer, images=True))


def search_by_image(
    gallery: Gallery,
    rows: RegionRows,
    image: int = 0,
    *,
    top: int = 10,
    percent: float | None = None,
    priors: np.ndarray,
) -> Search:
    """The sentences that describe an image best, by log P(w | I) - log P(w), or by the standardised S.

    gallery : from `open_gallery`
    rows, image : the image, by its number among some rows: those of the cache, or of
        `mrnn.evaluate.image_rows.PictureReader`
    top : number of results
    percent : share of the sentences to score exactly, in (0, 100]; None for all where that takes seconds, else 5
    priors : numbers of the training images that P(w), or mean and deviation of S, are taken over, from `prior_images`;
        none ranks by log P(w | I) or S alone

    Raises EvaluationError if the images have no sentences, SettingError as `_two_towers` does.
    """
    towers = _two_towers(gallery, percent)
    if not len(gallery.sentences().tokens):
        raise EvaluationError(f"the images of {gallery.cache.path} to be searched have no sentences")
    if towers:
        answer = match_sentences(towers, gallery, rows, image, top=top, priors=priors)
    else:
        answer = search_sentences(gallery, rows[np.array([image])][0], top=top, priors=priors, percent=percent)
    return Search(found_sentences(gallery, answer), [], answer.gallery, describe_method(answer, images=False))


def found_images(gallery: Gallery, answer: Answer) -> list[Found]:
    """The images of an answer by name."""
    images = [gallery.cache.images[gallery.images[number]] for number in answer.numbers]
    return [
        Found(rank, float(score), image.id, image.path, list(image.sentences))
        for rank, (image, score) in enumerate(zip(images, answer.scores, strict=True), start=1)
    ]


def found_sentences(gallery: Gallery, answer: Answer) -> list[Found]:
    """The sentences of an answer with the first image of each."""
    sentences, results = gallery.sentences(), []
    for rank, (number, score) in enumerate(zip(answer.numbers, answer.scores, strict=True), start=1):
        found = gallery.cache.images[sentences.images[number]]
        results.append(Found(rank, float(score), found.id, found.path, [sentences.texts[number]]))
    return results


def prepare_search(gallery: Gallery, *, percent: float | None = None, priors: np.ndarray) -> None:
    """Compute what the first search by sentence, and then by image, would have to wait for.

    percent : of images, as for `search_by_sentence`
    priors : as for `search_by_image`

    Raises as these do.
    """
    towers = _two_towers(gallery, percent)
    if towers:
        match_images(towers, gallery, [UNKNOWN_ID], top=1)
    else:
        search_images(gallery, [UNKNOWN_ID], top=1, percent=percent)
    search_by_image(gallery, gallery.features, int(gallery.images[0]), top=1, priors=priors)


def _two_towers(gallery: Gallery, percent: float | None) -> TwoTowers | None:
    """The model if it matches pictures and sentences. Raises SettingError if it should score only a shortlist then."""
    if not isinstance(gallery.trained.model, TwoTowers):
        return None
    if percent is not None and percent < 100:
        raise SettingError(_needless(gallery.trained, "--shortlist"))
    return gallery.trained.model


def _needless(trained: TrainedModel, option: str) -> str:
    return (
        f"{trained.file} is of the kind {trained.name}, which scores all images and sentences exactly, without a "
        f"shortlist or an index; leave out {option}"
    )


def prior_images(gallery: Gallery, count: int = 1000, *, seed: int = 0) -> np.ndarray:
    """Numbers of at most `count` training images of the cache, drawn with `seed`: the priors of `search_by_image`."""
    return sample_training_images(gallery.cache, count, seed=seed)


def describe_method(answer: Answer, *, images: bool) -> dict[str, Any]:
    """How the answer was found, with the measured recall where there was a shortlist."""
    what = "images" if images else "different sentences"
    method: dict[str, Any] = {"exact": answer.exact, "gallery": answer.gallery, "scored_exactly": answer.rescored}
    if answer.exact:
        return {**method, "text": f"exact: all {answer.gallery:,} {what} were scored"}
    percent = 100 * answer.rescored / answer.gallery
    recall = measured_recall(percent, images=images)
    share = "was not measured" if recall is None else f"was {recall:.3f}"
    text = (
        f"shortlist: {answer.rescored:,} of {answer.gallery:,} {what} ({percent:.2g} %) were scored exactly; the share "
        f"of the true top 10 in such shortlists {share} (Flickr8k test, docs/search.md)"
    )
    return {**method, "recall_of_top_10": recall, "text": text}

"""Search by several models together: what `evaluate-mrnn --combine` measures, for any sentence or picture.

    V(I, w) = sum over models m of  weight_m / scale_m * V_m(I, w)

V_m is what mrnn.evaluate.search.member_values computes. Both images and sentences are ranked by V, so that a score
means the same in both directions, and the same as in the evaluation.

A gallery that takes the captioners seconds is scored exactly. In a larger one the captioners choose a shortlist by
their first-order scores (mrnn.evaluate.search.shortlist), weighted likewise, and all models score what is in it.
Without a captioner everything is scored.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mrnn.data.cache import FeatureCache
from mrnn.data.errors import EvaluationError, SettingError
from mrnn.data.tokenize import tokenize
from mrnn.data.vocabulary import Vocabulary
from mrnn.evaluate.fit import check_features, features_for, searchable_images, searchable_model, searchable_words
from mrnn.evaluate.retrieval.combination import joined
from mrnn.evaluate.retrieval.combination_file import Recipe
from mrnn.evaluate.retrieval.ranking import largest
from mrnn.evaluate.retrieval.stage import sample_training_images
from mrnn.evaluate.search.gallery import Gallery, GallerySentences, SharedGallery
from mrnn.evaluate.search.member_values import CaptionerValues, MemberValues, TowerValues
from mrnn.evaluate.search.numbers import CANDIDATES, Answer, percent_to_score, shortlist_size
from mrnn.evaluate.search.search import Search, found_images, found_sentences
from mrnn.train.checkpoint import TrainedModel
from mrnn.train.features import Features, RegionRows
from mrnn.train.models.two_towers import TwoTowers

IMAGE_PERCENT, SENTENCE_PERCENT = 10.0, 20.0  # of the gallery in a shortlist


@dataclass(frozen=True)
class Together:
    """Models that search together.

    members : what each says of the same images and the same different sentences, in the same order
    factors : weight / scale of each

    Threads may share it.
    """

    members: tuple[MemberValues, ...]
    factors: tuple[float, ...]

    @property
    def gallery(self) -> Gallery:
        """The images and sentences by name, as the first model has them."""
        return self.members[0].gallery

    def by_sentence(self, sentence: str, *, top: int = 10, percent: float | None = None) -> Search:
        """The images with the largest V; equal ones are in the order of the gallery.

        sentence : words in any form that `tokenize` reads
        top : number of results
        percent : share of the images in the shortlist, in (0, 100]; None for all where that takes seconds, else
            IMAGE_PERCENT

        Raises EvaluationError if a model knows no word of the sentence, SettingError if a shortlist is asked for and
        there is no captioner to choose it.
        """
        tokens, unknown = self.tokens(sentence)
        size = len(self.gallery.images)
        percent = self._percent(percent, size * (len(tokens[0]) + 1), IMAGE_PERCENT)
        chosen = np.arange(size)
        if (count := shortlist_size(size, percent=percent, top=top)) < size:
            chosen = np.sort(largest(self.first_images(tokens), count))
        values = self.image_values(tokens, chosen)
        best = largest(values, top)
        answer = Answer(chosen[best], values[best], size, count, exact=count == size)
        return Search(found_images(self.gallery, answer), unknown, size, self._method(answer, "images"))

    def by_image(
        self, rows: Sequence[RegionRows], images: Sequence[int], *, top: int = 10, percent: float | None = None
    ) -> Search:
        """The sentences with the largest V; equal ones are in the order of the gallery.

        rows, images : the image as each model sees it, by its number among some rows
        top : number of results
        percent : as for `by_sentence`, of the sentences, with SENTENCE_PERCENT

        Raises EvaluationError if the images of the gallery have no sentences, SettingError as `by_sentence` does.
        """
        tokens = self.gallery.sentences().tokens
        size = len(tokens)
        if not size:
            raise EvaluationError(f"the images of {self.gallery.cache.path} to be searched have no sentences")
        states = sum(len(sentence) + 1 for sentence in tokens) * (len(self.members[0].priors) + 1)
        percent = self._percent(percent, states, SENTENCE_PERCENT)
        chosen = np.arange(size)
        if (count := shortlist_size(size, percent=percent, top=top)) < size:
            chosen = np.sort(largest(self.first_sentences(rows, images), count))
            # Exact values take P(w) over all training images, so only what may be shown gets them.
            nearly = self.sentence_values(rows, images, chosen, nearly=True)
            chosen = chosen[np.sort(largest(nearly, CANDIDATES * top))]
        values = self.sentence_values(rows, images, chosen)
        best = largest(values, top)
        answer = Answer(chosen[best], values[best], size, count, exact=count == size)
        return Search(found_sentences(self.gallery, answer), [], size, self._method(answer, "different sentences"))

    def tokens(self, sentence: str) -> tuple[list[list[int]], list[str]]:
        """The words of a sentence as each model numbers them, and those that a model does not know.

        Raises EvaluationError if a model knows no word of the sentence.
        """
        tokens, unknown = [], dict[str, None]()
        for member in self.members:
            words, strange = searchable_words(member.gallery.trained, sentence)
            tokens.append(list(member.gallery.trained.vocabulary.encode(words)))
            unknown |= dict.fromkeys(strange)
        return tokens, [*unknown]

    def image_values(self, tokens: Sequence[Sequence[int]], chosen: np.ndarray) -> np.ndarray:
        """V of a sentence with some images of the gallery: (n,). tokens : from `tokens`."""
        return self._sum({n: each.images(tokens[n], chosen) for n, each in enumerate(self.members)})

    def sentence_values(
        self, rows: Sequence[RegionRows], images: Sequence[int], chosen: np.ndarray, *, nearly: bool = False
    ) -> np.ndarray:
        """V of some sentences of the gallery with an image: (n,). See `by_image` and `MemberValues.sentences`."""
        found = enumerate(self.members)
        return self._sum({n: each.sentences(rows[n], images[n], chosen, nearly=nearly) for n, each in found})

    def first_images(self, tokens: Sequence[Sequence[int]]) -> np.ndarray:
        """The captioners' part of V of a sentence with all images, to first order and without log P(w): (N,)."""
        return self._sum({n: each.first_images(tokens[n]) for n, each in self._captioners().items()})

    def first_sentences(self, rows: Sequence[RegionRows], images: Sequence[int]) -> np.ndarray:
        """The captioners' part of V of all sentences with an image, to first order: (S,)."""
        return self._sum({n: each.first_sentences(rows[n], images[n]) for n, each in self._captioners().items()})

    def _sum(self, values: Mapping[int, np.ndarray]) -> np.ndarray:
        """The weighted sum of values by the number of the member."""
        return np.sum([self.factors[n] * value for n, value in values.items()], axis=0)

    def _captioners(self) -> dict[int, CaptionerValues]:
        return {n: each for n, each in enumerate(self.members) if isinstance(each, CaptionerValues)}

    def _percent(self, asked: float | None, states: int, otherwise: float) -> float:
        """The percentage to score. asked : as in `by_sentence`. states, otherwise : as for `percent_to_score`."""
        captioners = self._captioners().values()
        if asked is None:
            return min((percent_to_score(each.gallery, states, otherwise) for each in captioners), default=100.0)
        if asked < 100 and not captioners:
            raise SettingError(
                "all models of this combination match pictures and sentences, and score all of them exactly, without a "
                "shortlist; leave out --shortlist"
            )
        return asked

    def _method(self, answer: Answer, what: str) -> dict[str, Any]:
        """How the answer was found."""
        models = f"{len(self.members)} models" if len(self.members) > 1 else "1 model"
        text = f"exact: all {answer.gallery:,} {what} were scored by {models}"
        if not answer.exact:
            chose = sorted({each.gallery.trained.name for each in self._captioners().values()})
            text = (
                f"shortlist: {answer.rescored:,} of {answer.gallery:,} {what} "
                f"({100 * answer.rescored / answer.gallery:.2g} %), the best by {' and '.join(chose)} alone, were "
                f"scored by {models}"
            )
        return {
            "exact": answer.exact,
            "gallery": answer.gallery,
            "scored_exactly": answer.rescored,
            "models": [each.gallery.trained.name for each in self.members],
            "text": text,
        }


def open_together(
    models: Sequence[tuple[TrainedModel, FeatureCache]],
    recipe: Recipe,
    *,
    split: str | None = None,
    index: Path | None = None,
) -> Together:
    """The images of the first model's cache with their sentences, ready to be searched by all models.

    models : the members of the recipe, in its order, each with its cache
    split : search only its images; None for all
    index : folder that keeps what a gallery needs for the next process, with a folder for each model; None to keep it
        in memory only

    Raises EvaluationError where a model cannot search, there is nothing that it could search, or the caches do not hold
    the same images in the same splits with the same sentences.
    """
    first = models[0][1]
    images = searchable_images(first, split)
    training = sample_training_images(first, recipe.normaliser_images, seed=recipe.seed)
    said = shared_sentences(first, images, [trained.vocabulary for trained, _ in models])
    digests = tuple(member.checkpoint_sha256 for member in recipe.members)
    features, members = dict[tuple[Path, int], Features](), list[MemberValues]()
    for number, ((trained, cache), sentences) in enumerate(zip(models, said, strict=True)):
        matches = isinstance(trained.model, TwoTowers)
        if not matches:
            searchable_model(trained)
        check_features(trained, cache)
        held = cache.path, trained.model.config.rows(cache.rows_per_image)
        if held not in features:
            features[held] = features_for(trained, cache)
        gallery = SharedGallery(
            trained,
            cache,
            joined(images, first, cache),
            features[held],
            split,
            None if index is None else index / str(number),
            sentences,
            digests,
        )
        priors = joined(training, first, cache)
        values = TowerValues(gallery, priors, recipe.local_scaling) if matches else CaptionerValues(gallery, priors)
        members.append(values)
    return Together(tuple(members), tuple(member.weight / member.scale for member in recipe.members))


def shared_sentences(
    cache: FeatureCache, images: np.ndarray, vocabularies: Sequence[Vocabulary]
) -> list[GallerySentences]:
    """The sentences of some images that differ in the words of one of the models, as each model reads them."""
    first: dict[tuple[tuple[int, ...], ...], tuple[str, int]] = {}
    for number in images.tolist():
        for text in cache.images[number].sentences:
            if words := tokenize(text):
                first.setdefault(tuple(tuple(each.encode(words)) for each in vocabularies), (text, number))
    texts, owners = [text for text, _ in first.values()], np.array([n for _, n in first.values()], dtype=np.int64)
    return [GallerySentences([np.array(each[n]) for each in first], texts, owners) for n in range(len(vocabularies))]

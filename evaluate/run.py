"""A trained run, ready to be used from Python: captions, search, scores, alignments, for pictures in any form.

    run = open_run("runs/feats-mrnn")
    print(run.caption("holiday.jpg"))

docs/python.md is the guide. The commands caption-images, search-images and align-sentences do their work through this.
Nothing here prints, exits, sets signal handlers or needs the main thread, and threads may share a run and a gallery.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import overload

import numpy as np
from PIL import Image

from mrnn.data.cache import FeatureCache, open_cache
from mrnn.evaluate.aligned_pictures import align_pictures
from mrnn.evaluate.captioned_pictures import PictureCaption, caption_pictures
from mrnn.evaluate.ensemble import load_together, members_of
from mrnn.evaluate.fit import searchable_words
from mrnn.evaluate.grounding.alignments import Aligned
from mrnn.evaluate.grounding.corrector import read_corrector
from mrnn.evaluate.grounding.segments import BETA
from mrnn.evaluate.image_rows import Picture, PictureReader
from mrnn.evaluate.retrieval.two_towers import pairs_of
from mrnn.evaluate.search.gallery import Gallery
from mrnn.evaluate.search.search import Search, open_gallery, prior_images, search_by_image, search_by_sentence
from mrnn.evaluate.settings import DecodingConfig
from mrnn.train.checkpoint import TrainedModel
from mrnn.train.device import pick_device

ONE_PICTURE = str | Path | bytes | Image.Image | np.ndarray


def open_run(
    checkpoint: str | Path,
    *others: str | Path,
    device: str = "auto",
    weights: str | None = None,
    region_weights: str | None = None,
    workers: int = 2,
) -> "Run":
    """Open a trained run.

    checkpoint : run folder, whose best checkpoint is used, or a checkpoint file
    others : further ones, which write captions together with the first (mrnn.evaluate.ensemble)
    device : 'auto', 'cpu', 'cuda', 'cuda:1', ...
    weights : of the backbone that computes the features of pictures, a file or 'pretrained'; None for where those of
        the training features came from. They are read when the first picture is.
    region_weights : of the detector of regions; None likewise
    workers : threads that decode pictures

    Raises CheckpointError where there is no checkpoint, EvaluationError for runs that do not fit together, and
    SettingError for a device that does not exist.
    """
    trained = load_together([checkpoint, *others], device=pick_device(device, "fp32"))
    return Run(PictureReader(trained, weights=weights, region_weights=region_weights, workers=workers))


@dataclass(frozen=True)
class Run:
    """A trained model with what reads pictures for it; from `open_run`.

    A picture is the path of a file, its bytes, an image of Pillow (of any mode; an EXIF orientation is followed), or an
    array of uint8 with the shape (height, width, 3), RGB, or (height, width), grey.
    """

    reader: PictureReader

    @property
    def trained(self) -> TrainedModel:
        """The model, its vocabulary and what it was trained on."""
        return self.reader.trained

    def __repr__(self) -> str:
        return f"Run({str(self.trained.file)!r}, {self.trained.name})"

    @overload
    def caption(  # type: ignore[overload-overlap]  # a string is a sequence of strings, too
        self, pictures: Picture, *, decoding: DecodingConfig | None = None, prefix: str = ""
    ) -> PictureCaption: ...
    @overload
    def caption(
        self, pictures: Sequence[Picture], *, decoding: DecodingConfig | None = None, prefix: str = ""
    ) -> list[PictureCaption]: ...
    def caption(
        self, pictures: Picture | Sequence[Picture], *, decoding: DecodingConfig | None = None, prefix: str = ""
    ) -> PictureCaption | list[PictureCaption]:
        """Describe pictures in words, with the reason for each word where the model knows one.

        pictures : a picture, or a sequence of them
        decoding : how captions are searched; None for a beam of 5
        prefix : words that every caption begins with

        Returns a caption for a picture, a list for a sequence. Raises EvaluationError for a model that writes no
        captions, or a prefix with an unknown word; ImageError for a picture that cannot be read.
        """
        found = caption_pictures(self.reader, several(pictures), decoding=decoding, prefix=prefix, strict=True).captions
        return found[0] if isinstance(pictures, ONE_PICTURE) else found

    def score(self, pictures: Picture | Sequence[Picture], sentences: str | Sequence[str]) -> np.ndarray:
        """How well sentences describe pictures: natural log P(sentence | picture), or S by a model that matches.

        An ensemble, whose members all write captions, scores by the mean of the members' log P, as it ranks in
        retrieval; that is not the log P of the mean probabilities by which it writes captions.

        pictures : a picture, or a sequence of n
        sentences : a sentence, or a sequence of m

        Returns (n, m) float64. Raises EvaluationError for a sentence of which the model knows no word; ImageError for a
        picture that cannot be read.
        """
        texts = [sentences] if isinstance(sentences, str) else list(sentences)
        numbers = [self.trained.vocabulary.encode(searchable_words(self.trained, text)[0]) for text in texts]
        rows = self.reader.rows(several(pictures), strict=True)
        if not numbers or not rows.names:
            return np.zeros((len(rows.names), len(numbers)))
        by_member = [pairs_of(member.model, numbers, rows) for member in members_of(self.trained)]
        scores = [[pairs.score(image) for image in range(len(rows.names))] for pairs in by_member]
        return np.mean(scores, axis=0)

    @overload
    def align(  # type: ignore[overload-overlap]
        self, picture: Picture, sentences: str, *, beta: float = BETA, correct: str | Path | None = None
    ) -> Aligned: ...
    @overload
    def align(
        self, picture: Picture, sentences: Sequence[str], *, beta: float = BETA, correct: str | Path | None = None
    ) -> list[Aligned]: ...
    def align(
        self, picture: Picture, sentences: str | Sequence[str], *, beta: float = BETA, correct: str | Path | None = None
    ) -> Aligned | list[Aligned]:
        """Find the region of a picture that each part of a sentence speaks of.

        sentences : a sentence, or a sequence of them
        beta : reward for neighbouring words with the same region, at least 0
        correct : correction.json of an evaluation of grounding, whose corrections are applied; None for none

        Returns an alignment for a sentence, a list for a sequence. Raises EvaluationError for a model that does not
        align, or a sentence of which it knows no word; ImageError for a picture that cannot be read.
        """
        corrector = None if correct is None else read_corrector(Path(correct), self.trained)
        texts = [sentences] if isinstance(sentences, str) else list(sentences)
        found = align_pictures(self.reader, [picture], texts, beta=beta, corrector=corrector, strict=True).aligned
        return found[0] if isinstance(sentences, str) else found

    def gallery(
        self,
        cache: str | Path | FeatureCache,
        *,
        split: str | None = None,
        index: str | Path | None = None,
        normaliser_images: int = 1000,
        seed: int = 0,
    ) -> "RunGallery":
        """The pictures and sentences of a feature cache, ready to be searched.

        cache : of features of the kind that the model was trained on; a file, or from `open_cache`
        split : search only its pictures and sentences; None for all
        index : folder that keeps the indexes of large galleries for the next process; None to keep them in memory only
        normaliser_images : training images that P(sentence) is averaged over in search by picture; 0 leaves it out
        seed : random seed that draws them

        Raises EvaluationError for a model that cannot search, or a cache that does not fit it.
        """
        opened = cache if isinstance(cache, FeatureCache) else open_cache(cache)
        gallery = open_gallery(self.trained, opened, split=split, index=index)
        return RunGallery(self.reader, gallery, normaliser_images, seed)


@dataclass(frozen=True)
class RunGallery:
    """Pictures and sentences that a run searches; from `Run.gallery`. What is computed once is kept in memory."""

    reader: PictureReader
    gallery: Gallery
    normaliser_images: int
    seed: int

    @cached_property
    def priors(self) -> np.ndarray:
        """(J,) int64, numbers of the training images that log P(sentence) is averaged over.

        Raises EvaluationError if the cache has no training images.
        """
        return prior_images(self.gallery, self.normaliser_images, seed=self.seed)

    def __repr__(self) -> str:
        where = f"{str(self.gallery.cache.path)!r}, split={self.gallery.split!r}"
        return f"RunGallery({where}, {len(self.gallery.images)} pictures)"

    def find_pictures(self, sentence: str, *, top: int = 10, percent: float | None = None) -> Search:
        """The pictures that a sentence describes best, by log P(sentence | picture), or S by a model that matches.

        top : number of pictures to return
        percent : share of the pictures to score exactly, in (0, 100]; None for all where that takes seconds, else 2

        Raises EvaluationError if the model knows no word of the sentence.
        """
        return search_by_sentence(self.gallery, sentence, top=top, percent=percent)

    def find_sentences(self, picture: Picture, *, top: int = 10, percent: float | None = None) -> Search:
        """The sentences that describe a picture best, by log P(sentence | picture) - log P(sentence), or by
        the standardised S of a model that matches.

        top, percent : as for `find_pictures`, of the sentences, with 5 in place of 2

        Raises ImageError for a picture that cannot be read, EvaluationError if the cache has no sentences.
        """
        rows = self.reader.rows([picture], strict=True)
        return search_by_image(self.gallery, rows, top=top, percent=percent, priors=self.priors)


def several(pictures: Picture | Sequence[Picture]) -> Sequence[Picture]:
    """A sequence of pictures, of one or more."""
    return [pictures] if isinstance(pictures, ONE_PICTURE) else pictures

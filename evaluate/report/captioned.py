"""Captions with the reason for each word, and the page of caption-images: a card for each picture file."""

import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from mrnn.evaluate.generation.decode import Caption
from mrnn.evaluate.generation.words import CaptionWord
from mrnn.evaluate.report.cards import Card, Said, Score
from mrnn.evaluate.report.page import Page
from mrnn.evaluate.report.pictures import thumbnails
from mrnn.train.checkpoint import TrainedModel

OTHERS = 4  # further captions of the search that a card shows
SCORES = (Score("log_prob", "log P per word"), Score("image_part", "image contribution"))
EXPECTED = Score("dev_cider", "CIDEr on dev of captions this sure")
SCORE_NOTES = {
    "log P per word": "natural logarithm of P(caption | image), END included, divided by the number of words and END",
    EXPECTED.label: "mean CIDEr of the captions of the dev split whose log P per word was about the same",
    "image contribution": "what the image added to that logarithm, mean over words and END",
}


def say(
    trained: TrainedModel, words: Sequence[Sequence[CaptionWord]], beams: Sequence[Sequence[Caption]]
) -> list[Said]:
    """Captions with the reason for each word.

    words : of the best caption of each image
    beams : the captions of each image, best first
    """
    decode = trained.vocabulary.decode
    return [
        Said(
            words=[each.word for each in best],
            parts=_table(best),
            others=[(" ".join(decode(other.words)), other.log_prob) for other in others[:OTHERS]],
        )
        for best, (_, *others) in zip(words, beams, strict=True)
    ]


def _table(words: Sequence[CaptionWord]) -> np.ndarray | None:
    """The parts of words, (T, 3) base, words, image; None where they are not known."""
    known = [(each.parts.base, each.parts.words, each.parts.image) for each in words if each.parts]
    return np.array(known).reshape(-1, 3) if len(known) == len(words) else None


def said_scores(said: Said) -> dict[str, float]:
    """The SCORES of a caption; a caption without words has none."""
    if said.parts is None or not len(said.parts):
        return {}
    return {"log_prob": float(said.parts.sum(1).mean()), "image_part": float(said.parts[:, 2].mean())}


def versions() -> dict[str, str]:
    """Versions of this program and of what its numbers depend on."""
    return {name: version(name) for name in ("mrnn", "torch", "numpy", "pillow")} | {
        "python": platform.python_version()
    }


def captioned_page(
    trained: TrainedModel,
    files: Sequence[Path],
    words: Sequence[Sequence[CaptionWord]],
    beams: Sequence[Sequence[Caption]],
    *,
    settings: Mapping[str, Any],
    expected: Sequence[float] = (),
) -> Page:
    """A card for each picture file.

    words : of the best caption of each
    beams : the captions of each, best first
    settings : shown at the end of the page
    expected : the CIDEr that captions as sure as each had on the dev split; empty where that is not known
    """
    worth = [{EXPECTED.key: cider} for cider in expected] or [{} for _ in files]
    cards = [
        Card(str(file), picture, said=[said], scores={**scores, **said_scores(said)})
        for file, picture, said, scores in zip(files, thumbnails(files), say(trained, words, beams), worth, strict=True)
    ]
    return Page(
        title=f"Captions by {trained.run.resolve().name}",
        notes=[f"{trained.name}, epoch {trained.progress.get('epoch', '?')}, vocabulary {len(trained.vocabulary):,}."],
        cards=cards,
        scores=[*([EXPECTED] if expected else []), *SCORES],
        settings={
            **settings,
            "features": trained.features,
            "training": trained.settings,
            "scores of an image": SCORE_NOTES,
            "versions": versions(),
        },
    )

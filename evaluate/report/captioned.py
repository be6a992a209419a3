"""Captions with the reason for each word, and the page of caption-images: a card for each picture file."""

import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from mrnn.evaluate.generation.decode import Caption
from mrnn.evaluate.generation.why import reasons
from mrnn.evaluate.report.cards import END, Card, Said, Score
from mrnn.evaluate.report.page import Page
from mrnn.evaluate.report.pictures import thumbnails
from mrnn.train.checkpoint import TrainedModel
from mrnn.train.models.captioner import LateFusion

OTHERS = 4  # further captions of the search that a card shows
SCORES = (Score("log_prob", "log P per word"), Score("image_part", "image contribution"))
EXPECTED = Score("dev_cider", "CIDEr on dev of captions this sure")
SCORE_NOTES = {
    "log P per word": "natural logarithm of P(caption | image), END included, divided by the number of words and END",
    EXPECTED.label: "mean CIDEr of the captions of the dev split whose log P per word was about the same",
    "image contribution": "what the image added to that logarithm, mean over words and END",
}


def say(trained: TrainedModel, features: Tensor, beams: Sequence[Sequence[Caption]]) -> list[Said]:
    """Captions with the reason for each word.

    features : (B, D)
    beams : the captions of each image, best first
    """
    decode = trained.vocabulary.decode
    model = trained.model
    why: list[np.ndarray | None] = [None] * len(beams)
    if isinstance(model, LateFusion):
        why = [*reasons(model, features, [best for best, *_ in beams])]
    return [
        Said(
            words=[*decode(best.words), *([END] if best.complete else [])],
            parts=parts,
            others=[(" ".join(decode(other.words)), other.log_prob) for other in others[:OTHERS]],
        )
        for (best, *others), parts in zip(beams, why, strict=True)
    ]


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
    features: Tensor,
    beams: Sequence[Sequence[Caption]],
    *,
    settings: Mapping[str, Any],
    expected: Sequence[float] = (),
) -> Page:
    """A card for each picture file.

    features : (B, D), of the files
    beams : the captions of each, best first
    settings : shown at the end of the page
    expected : the CIDEr that captions as sure as each had on the dev split; empty where that is not known
    """
    worth = [{EXPECTED.key: cider} for cider in expected] or [{} for _ in files]
    cards = [
        Card(str(file), picture, said=[said], scores={**scores, **said_scores(said)})
        for file, picture, said, scores in zip(
            files, thumbnails(files), say(trained, features, beams), worth, strict=True
        )
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

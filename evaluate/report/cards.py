"""What the gallery of a page shows of each image, and the JSON that carries it to the page's script."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Said:
    """A caption by one system.

    words : of the caption, with END where the model ended it
    parts : (T, 3), why each of the words was chosen (mrnn.evaluate.generation.why); None where that is not known
    others : further captions of the search with their log-probability (nats)
    """

    words: Sequence[str]
    parts: np.ndarray | None = None
    others: Sequence[tuple[str, float]] = ()


@dataclass(frozen=True)
class Card:
    """One image of the gallery.

    picture : data URI, or '' if the file was not found
    said : a caption by each system
    scores : by the key of a Score; NaN and missing ones sort last
    retrieved : sentences found for it, best first, and whether each is its own
    rank : rank of its first own sentence
    """

    image_id: str
    picture: str = ""
    references: Sequence[str] = ()
    said: Sequence[Said] = ()
    scores: Mapping[str, float] = field(default_factory=dict)
    retrieved: Sequence[tuple[str, bool]] = ()
    rank: int | None = None


@dataclass(frozen=True)
class Question:
    """A sentence that looks for its image; `image` and those `found`, best first, are numbers of cards."""

    sentence: str
    image: int
    rank: int
    found: Sequence[int]


@dataclass(frozen=True)
class Score:
    """What a gallery can be sorted by. digits : decimals shown. lower_is_better : as of ranks."""

    key: str
    label: str
    digits: int = 2
    lower_is_better: bool = False


def to_json(
    cards: Sequence[Card], scores: Sequence[Score], questions: Sequence[Question], systems: Sequence[str]
) -> dict[str, Any]:
    """Plain lists and dicts, numbers rounded to what is shown; script.js reads them."""
    return {
        "systems": list(systems),
        "scores": [
            {"key": s.key, "label": s.label, "digits": s.digits, "order": "up" if s.lower_is_better else "down"}
            for s in scores
        ],
        "cards": [_card(card) for card in cards],
        "questions": [[q.sentence, q.image, q.rank, list(q.found)] for q in questions],
    }


def _card(card: Card) -> dict[str, Any]:
    return {
        "id": card.image_id,
        "picture": card.picture,
        "references": list(card.references),
        "said": [_said(said) for said in card.said],
        "scores": {key: round(float(value), 4) for key, value in card.scores.items() if np.isfinite(value)},
        "retrieved": [[sentence, bool(right)] for sentence, right in card.retrieved],
        "rank": card.rank,
    }


def _said(said: Said) -> dict[str, Any]:
    parts: list[list[float]] = [[] for _ in said.words]
    if said.parts is not None:
        parts = np.round(said.parts, 3).tolist()
    return {
        "words": [[word, *values] for word, values in zip(said.words, parts, strict=True)],
        "others": [[sentence, round(log_prob, 2)] for sentence, log_prob in said.others],
    }

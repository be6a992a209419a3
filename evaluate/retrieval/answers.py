"""What retrieval found, query by query, with ids and texts: for files that people and programs read."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from mrnn.data.cache import FeatureCache
from mrnn.data.files import write_whole
from mrnn.data.tokenize import tokenize
from mrnn.evaluate.retrieval.pruning import Scores, criteria, first_answers, image_ranks, sentence_ranks


class Names:
    """How the images and sentences of a pool are called.

    images : id of each. sentences : of each the id of its image, its number among the image's sentences, its text.
    """

    def __init__(self, cache: FeatureCache, images: np.ndarray) -> None:
        self.images = [cache.images[i].id for i in images]
        self.sentences = [
            {"image_id": cache.images[i].id, "number": number, "sentence": text}
            for i in images
            for number, text in enumerate(cache.images[i].sentences)
            if tokenize(text)
        ]


def image_answers(scores: Scores, names: Names) -> dict[str, Any]:
    """For each image by its id, the worst and best ranks by each criterion, and the first sentences, best first.

    The first sentences are those by log P(w|I) - log P(w). `normalised` holds that difference from below and from
    above: P(w) is worked out no further than the order asks for.
    """
    found = criteria(scores)
    ranks = {name: image_ranks(scores, criterion) for name, criterion in found.items()}
    answers = {}
    for row, image in enumerate(names.images):
        line = slice(row, row + 1)
        (lower,), (upper,) = found["image_to_sentence"].brackets(scores.upper[line], scores.known[line])
        sentences = []
        for number in first_answers(upper[scores.sentences], scores.top).tolist():
            column = scores.sentences[number]
            log_prob = float(scores.upper[row, column])
            sentences.append(
                {
                    **names.sentences[number],
                    "right": bool(scores.owners[number] == row),
                    "normalised": [float(lower[column]), float(upper[column])],
                    "log_prob": log_prob,
                    "log_prob_per_word": log_prob / int(scores.lengths[column]),
                }
            )
        answers[image] = {
            "rank": int(ranks["image_to_sentence"][0][row]),
            "ranks": {name: [int(worst[row]), int(best[row])] for name, (worst, best) in ranks.items()},
            "sentences": sentences,
        }
    return answers


def sentence_answers(scores: Scores, names: Names) -> list[dict[str, Any]]:
    """For each sentence the worst and best rank of its image, and the first images by log P(w|I), best first."""
    answers = []
    for number, (worst, best) in enumerate(zip(*sentence_ranks(scores), strict=True)):
        column = scores.upper[: scores.images, scores.sentences[number]]
        images = [
            {"image_id": names.images[row], "right": bool(row == scores.owners[number]), "log_prob": float(column[row])}
            for row in first_answers(column, scores.top).tolist()
        ]
        ranks = {"sentence_to_image": [int(worst), int(best)]}
        answers.append({**names.sentences[number], "rank": int(worst), "ranks": ranks, "images": images})
    return answers


def write_answers(output: Path, retrieval: dict[str, Any]) -> None:
    """retrieved_sentences.jsonl, a line for each image, and retrieved_images.jsonl, a line for each sentence."""
    by_image = ({"image_id": image, **answer} for image, answer in retrieval["answers"].items())
    _write_lines(output / "retrieved_sentences.jsonl", by_image)
    _write_lines(output / "retrieved_images.jsonl", retrieval["sentence_answers"])


def _write_lines(path: Path, records: Iterable[dict[str, Any]]) -> None:
    write_whole(path, "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records).encode())

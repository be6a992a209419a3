"""Captions that take no model: training captions for other images."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from mrnn.evaluate.metrics.captions import score_captions

Words = Sequence[str]
CHUNK = 500  # queries compared at a time, to bound the memory


def random_captions(training: Sequence[Words], count: int, *, generator: np.random.Generator) -> list[Words]:
    """A training caption for each of `count` images, drawn with replacement by `generator`."""
    return [training[i] for i in generator.integers(len(training), size=count)]


def most_frequent_caption(training: Sequence[Words]) -> tuple[Words, int]:
    """The most frequent training caption, word for word, and its count; among equally frequent ones the first."""
    [(words, count)] = Counter(map(tuple, training)).most_common(1)
    return words, count


def nearest(queries: np.ndarray, candidates: np.ndarray) -> np.ndarray:
    """The candidate with the highest cosine to each query, after the mean of the candidates is subtracted from both.

    queries : (Q, D). candidates : (C, D). Returns (Q,) int64, the first of equally near candidates.
    """
    mean = candidates.mean(axis=0, dtype=np.float64).astype(candidates.dtype)
    queries, candidates = (at_length_one(rows - mean) for rows in (queries, candidates))
    parts = [queries[i : i + CHUNK] @ candidates.T for i in range(0, len(queries), CHUNK)]
    return np.concatenate([part.argmax(axis=1) for part in parts])


def at_length_one(rows: np.ndarray) -> np.ndarray:
    """The rows scaled to length 1, in place; rows of zeros stay as they are."""
    rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    return rows


def consensus_captions(captions: Sequence[Sequence[Words]]) -> list[Words]:
    """The caption of each image that agrees best with the others: highest CIDEr-D, the first of equal ones.

    captions : of each image, at least one, each with at least one word. Document frequencies are counted over these
    captions.
    """
    candidates: dict[str, Words] = {}
    references: dict[str, list[Words]] = {}
    for image, own in enumerate(captions):
        for number, words in enumerate(own):
            if len(own) > 1:
                candidates[f"{image}#{number}"] = words
                references[f"{image}#{number}"] = [*own[:number], *own[number + 1 :]]
    scores = score_captions(candidates, references).per_image if candidates else {}
    chosen = []
    for image, own in enumerate(captions):
        agreement = [scores[f"{image}#{number}"]["CIDEr"] for number in range(len(own))] if len(own) > 1 else [0.0]
        chosen.append(own[int(np.argmax(agreement))])
    return chosen

"""Captions that take no model: training captions for other images."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from mrnn.evaluate.metrics.captions import score_captions

Words = Sequence[str]
CHUNK = 500  # queries compared at a time, which bounds the memory


def random_captions(training: Sequence[Words], count: int, *, generator: np.random.Generator) -> list[Words]:
    """A caption of the training set for each of `count` images, drawn with replacement."""
    return [training[i] for i in generator.integers(len(training), size=count)]


def most_frequent_caption(training: Sequence[Words]) -> tuple[Words, int]:
    """The caption that stands most often in the training set, word for word, and how often; of equals the first."""
    [(words, count)] = Counter(map(tuple, training)).most_common(1)
    return words, count


def nearest(queries: np.ndarray, candidates: np.ndarray) -> np.ndarray:
    """The candidate of highest cosine to each query, after the candidates' mean is taken off both.

    queries : (Q, D). candidates : (C, D). Returns (Q,) int64; of equals the first.
    """
    mean = candidates.mean(axis=0, dtype=np.float64).astype(candidates.dtype)
    queries, candidates = (at_length_one(rows - mean) for rows in (queries, candidates))
    parts = [queries[i : i + CHUNK] @ candidates.T for i in range(0, len(queries), CHUNK)]
    return np.concatenate([part.argmax(axis=1) for part in parts])


def at_length_one(rows: np.ndarray) -> np.ndarray:
    """The rows themselves, scaled in place; zeros stay zeros."""
    rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    return rows


def consensus_captions(captions: Sequence[Sequence[Words]]) -> list[Words]:
    """Of the captions of each image the one that agrees best with its others: highest CIDEr-D, of equals the first.

    captions : at least one of every image, each with a word in it. Document frequencies are of these captions.
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

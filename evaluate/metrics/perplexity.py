"""Perplexity of a split in all, by caption length, and the bits of each image."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from mrnn.train.tasks.captioning import SentenceBits

LENGTHS = ((1, 5), (6, 8), (9, 11), (12, 15), (16, None))  # words without END, both ends included


def perplexity_summary(bits: SentenceBits, lengths: np.ndarray) -> dict[str, Any]:
    """Perplexity with and without `<unk>`, of all S sentences and by their length (S,), words without END."""
    measured = bits.perplexity()
    return {
        "perplexity": measured.perplexity,
        "perplexity_known": measured.perplexity_known,
        "bits_per_word": measured.bits,
        "words_and_ends": measured.tokens,
        "unknown_words": measured.unknown,
        "sentences": len(lengths),
        "by_length": perplexity_by_length(bits, lengths),
    }


def perplexity_by_length(bits: SentenceBits, lengths: np.ndarray) -> list[dict[str, Any]]:
    """One row for each of LENGTHS that has a sentence, short ones first."""
    rows = []
    for first, last in LENGTHS:
        chosen = (lengths >= first) & (lengths <= (last or np.inf))
        if chosen.any():
            measured = bits.perplexity(chosen)
            rows.append(
                {
                    "words": f"{first}-{last}" if last else f"{first}+",
                    "sentences": int(chosen.sum()),
                    "perplexity": measured.perplexity,
                    "perplexity_known": measured.perplexity_known,
                }
            )
    return rows


def perplexity_per_image(bits: SentenceBits, images: Sequence[str]) -> dict[str, dict[str, float]]:
    """The sums over each image's sentences; images : (S,) the image id of each sentence."""
    ids, place = np.unique(np.asarray(images, dtype=object), return_inverse=True)
    sums = {name: np.bincount(place, getattr(bits, name)) for name in ("bits", "known_bits", "targets", "unknown")}
    for name in ("targets", "unknown"):
        sums[name] = sums[name].astype(np.int64)
    rows = zip(*(values.tolist() for values in sums.values()), strict=True)
    return {image: dict(zip(sums, row, strict=True)) for image, row in zip(ids.tolist(), rows, strict=True)}

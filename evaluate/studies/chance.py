"""What chance gives in retrieval: the expected numbers of a random ranking."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from mrnn.evaluate.retrieval.ranking import Recalls


def chance_retrieval(sentences: Sequence[int]) -> dict[str, dict[str, float]]:
    """Expected recalls (percent), median and mean ranks of a random ranking, in both directions.

    sentences : number of sentences of each of the N images. With c of all S sentences belonging to an image,

        P(rank of the first own one > r) = product over i < r of (S - c - i) / (S - i).

    The median rank is the smallest rank that half of all queries are expected to reach.
    """
    counts = Counter(count for count in sentences if count)
    total = sum(sentences)
    missed = np.zeros(total)
    for count, images in counts.items():
        i = np.arange(total)
        missed += images / counts.total() * np.cumprod((total - count - i).clip(0) / (total - i))
    images = len(sentences)
    return {
        "image_to_sentence": summary(1 - missed),
        "sentence_to_image": summary(np.arange(1, images + 1) / images),
    }


def summary(reached: np.ndarray) -> dict[str, float]:
    """Recalls, median and mean rank, named as in metrics.json. reached : probability of a rank of at most 1, 2, ..."""
    r1, r5, r10 = (100 * float(reached[min(k, len(reached)) - 1]) for k in (1, 5, 10))
    mean = 1 + float((1 - reached).sum())  # a rank is 1 and the number of places at which it is not yet reached
    return Recalls(r1, r5, r10, float(np.argmax(reached >= 0.5) + 1), mean).to_json()

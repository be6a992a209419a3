"""What BLEU is counted from, image by image, and both of its definitions computed from the sums.

Cumulative BLEU-n (coco-caption, m-RNN ICLR, DVSA) is the geometric mean of the precisions of 1- to n-grams times the
brevity penalty. The B-n of m-RNN v1 cannot be that: read so, its tables have precisions that rise with n. They look
like individual n-gram precisions, with or without the penalty (the paper's script is not known), so both are offered
under names of their own. Never compare a value of one definition with a table of the other.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

LONGEST = 4
TINY, SMALL = 1e-15, 1e-9  # coco-caption adds these to numerators and denominators; equal scores need them too


@dataclass(frozen=True)
class BleuCounts:
    """Counts of N candidates, of R sums over them, or of anything between: the leading axes are free.

    hits : (..., 4) n-grams of the candidate that its references hold, each counted at most as often as in one of them.
    ngrams : (..., 4) all of its n-grams. words : (...) of the candidate. reference_words : (...) of the reference
    closest in length (ties: the shorter).
    """

    hits: np.ndarray
    ngrams: np.ndarray
    words: np.ndarray
    reference_words: np.ndarray

    def total(self, weights: np.ndarray | None = None) -> "BleuCounts":
        """Sums over the N candidates, each taken (R, N) weights times: R sums, or one without weights."""
        if weights is None:
            weights = np.ones(len(self.words))
        columns = (self.hits, self.ngrams, self.words, self.reference_words)
        return BleuCounts(*(weights @ column for column in columns))

    def precision(self) -> np.ndarray:
        """(..., 4) individual clipped n-gram precision, without brevity penalty; 0 where there is no n-gram."""
        return np.divide(self.hits, self.ngrams, out=np.zeros(self.hits.shape), where=self.ngrams > 0)

    def brevity_penalty(self) -> np.ndarray:
        """(...) min(1, exp(1 - r / c)) of c candidate and r reference words; 0 for candidates without a word."""
        ratio = (self.words + TINY) / (self.reference_words + SMALL)
        return np.exp(np.minimum(0, 1 - 1 / ratio))

    def cumulative(self) -> np.ndarray:
        """(..., 4) Bleu_1 to Bleu_4 as coco-caption computes them, rounding guards included."""
        logs = np.log((self.hits + TINY) / (self.ngrams + SMALL)).cumsum(-1)
        return np.exp(logs / np.arange(1, LONGEST + 1)) * self.brevity_penalty()[..., None]


def count_ngrams(
    candidates: Mapping[str, Sequence[str]], references: Mapping[str, Sequence[Sequence[str]]]
) -> BleuCounts:
    """Counts of every candidate in order; all sentences as words, at least one reference each."""
    shape = (len(candidates), LONGEST)
    counts = BleuCounts(*(np.zeros(size, dtype=np.int64) for size in (shape, shape, shape[0], shape[0])))
    for row, (image, words) in enumerate(candidates.items()):
        counts.words[row] = len(words)
        counts.reference_words[row] = min((abs(len(r) - len(words)), len(r)) for r in references[image])[1]
        for n in range(1, LONGEST + 1):
            found = _ngrams(words, n)
            allowed: Counter[tuple[str, ...]] = Counter()
            for reference in references[image]:
                allowed |= _ngrams(reference, n)
            counts.hits[row, n - 1] = (found & allowed).total()
            counts.ngrams[row, n - 1] = found.total()
    return counts


def _ngrams(words: Sequence[str], n: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1))

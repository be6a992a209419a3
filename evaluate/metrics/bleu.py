"""What BLEU is counted from, image by image, and both of its definitions computed from the sums.

Cumulative BLEU-n (coco-caption, m-RNN ICLR, DVSA) is the geometric mean of the precisions of 1- to n-grams times the
brevity penalty. The B-n of m-RNN v1 cannot be that: read so, its tables have precisions that rise with n. They look
like individual n-gram precisions, with or without the penalty (the paper's script is not known), so both are offered
under names of their own. Never compare a value of one definition with a table of the other.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np

from mrnn.data.ngrams import ORDERS, index_ngrams, look_up

LONGEST = ORDERS
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


def count_clipped(candidates: Sequence[Sequence[str]], references: Sequence[Sequence[Sequence[str]]]) -> BleuCounts:
    """The counts of N candidates, each with at least one reference; all as words (Papineni et al. 2002, section 2)."""
    listed = list(chain.from_iterable(references))
    owners = np.repeat(np.arange(len(candidates)), [len(own) for own in references])
    index, known = index_ngrams(listed)
    hits, ngrams = (np.zeros((len(candidates), LONGEST), dtype=np.int64) for _ in range(2))
    for n, (said, in_references) in enumerate(zip(index.count(candidates), known, strict=True)):
        keys = in_references.keys(owners)
        order = np.lexsort((in_references.counts, keys))  # of one n-gram of an image, the largest count last
        keys, counts = keys[order], in_references.counts[order]
        largest = np.append(keys[1:] != keys[:-1], True)[: len(keys)]
        allowed = look_up(keys[largest], counts[largest], said.keys())
        np.add.at(hits[:, n], said.owners, np.minimum(said.counts, allowed))
        np.add.at(ngrams[:, n], said.owners, said.counts)
    words = [len(said) for said in candidates]
    closest = [
        min((abs(len(reference) - length), len(reference)) for reference in own)[1]
        for length, own in zip(words, references, strict=True)
    ]
    return BleuCounts(hits, ngrams, np.array(words, dtype=np.int64), np.array(closest, dtype=np.int64))

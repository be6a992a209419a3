"""The caption scores, one function for each, by the community's scorers (pycocoevalcap), without Java.

A function takes captions and references as sentences with blanks between the words, and returns for each of its keys
the score of the corpus and that of every image.
"""

import contextlib
import io
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

Sentences = Mapping[str, Sequence[str]]  # image id -> sentences; of candidates there is one
# Key of a metric -> score of the corpus, and that of every image in order; None for one without a score per image.
Scored = dict[str, tuple[float, Sequence[float] | None]]
Scorer = Callable[[Sentences, Sentences], Scored]  # references, candidates


def bleu(references: Sentences, candidates: Sentences) -> Scored:
    """Bleu_1 to Bleu_4: cumulative, closest reference length, brevity penalty; fractions."""
    from pycocoevalcap.bleu.bleu import Bleu  # here, because importing it takes a second

    with _quiet():
        corpus, each = Bleu(4).compute_score(references, candidates, verbose=0)
    return {f"Bleu_{n}": (corpus[n - 1], each[n - 1]) for n in range(1, 5)}


def rouge_l(references: Sentences, candidates: Sentences) -> Scored:
    """ROUGE_L: longest common subsequence, beta 1.2, mean over images; a fraction."""
    from pycocoevalcap.rouge.rouge import Rouge

    with _quiet():
        return {"ROUGE_L": Rouge().compute_score(references, candidates)}


def cider(references: Sentences, candidates: Sentences) -> Scored:
    """CIDEr-D, document frequencies of these references, mean over images; from 0 to 10.

    With a single image every document frequency says nothing, and it is 0.
    """
    from pycocoevalcap.cider.cider import Cider

    with _quiet():
        return {"CIDEr": Cider().compute_score(references, candidates)}


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what the scorers print, and without NumPy's warnings of captions that have no word."""
    with contextlib.redirect_stdout(io.StringIO()), np.errstate(all="ignore"):
        yield

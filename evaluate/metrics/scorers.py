"""The caption scores, one function for each. They equal those of coco-caption, whose choices docs/metrics.md names.

A function takes captions and references as words, and returns for each of its keys the score of the corpus and that of
every image.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from mrnn.data.cider import DocumentFrequencies, cider_d
from mrnn.evaluate.metrics.bleu import BleuCounts, count_clipped
from mrnn.evaluate.metrics.rouge import rouge_l_score

References = Mapping[str, Sequence[Sequence[str]]]  # image id -> sentences, each with a word
Candidates = Mapping[str, Sequence[str]]  # image id, in the same order -> caption, which may be empty
# Key of a metric -> score of the corpus, and that of every image in order; None for one without a score per image.
Scored = dict[str, tuple[float, Sequence[float] | None]]
Scorer = Callable[[References, Candidates], Scored]


def bleu(references: References, candidates: Candidates) -> Scored:
    """Bleu_1 to Bleu_4: cumulative, closest reference length, brevity penalty; fractions."""
    counts = bleu_counts(references, candidates)
    corpus, each = counts.total().cumulative(), counts.cumulative()
    return {f"Bleu_{n + 1}": (float(corpus[n]), each[:, n].tolist()) for n in range(len(corpus))}


def bleu_counts(references: References, candidates: Candidates) -> BleuCounts:
    """What BLEU is computed from, for every image."""
    return count_clipped(*_split(references, candidates))


def rouge_l(references: References, candidates: Candidates) -> Scored:
    """ROUGE_L: longest common subsequence, beta 1.2, mean over images; a fraction."""
    each = [rouge_l_score(said, references[image]) for image, said in candidates.items()]
    return {"ROUGE_L": (float(np.mean(each)), each)}


def cider(references: References, candidates: Candidates, frequencies: DocumentFrequencies | None = None) -> Scored:
    """CIDEr-D, mean over images; from 0 to 10.

    frequencies : document frequencies; None for those of the references. With a single image these say nothing, and the
        score is 0.
    """
    each = cider_d(*_split(references, candidates), frequencies)
    return {"CIDEr": (float(each.mean()), each.tolist())}


def document_frequencies(references: References) -> DocumentFrequencies:
    """The document frequencies of sentences, for `cider`."""
    return DocumentFrequencies.count([[split_at_blanks(words) for words in own] for own in references.values()])


def split_at_blanks(words: Sequence[str]) -> list[str]:
    """The words as BLEU and CIDEr count them: a token of mrnn.evaluate.metrics.ptb may hold no-break spaces."""
    return " ".join(words).split()


def _split(references: References, candidates: Candidates) -> tuple[list[list[str]], list[list[list[str]]]]:
    said = [split_at_blanks(words) for words in candidates.values()]
    return said, [[split_at_blanks(words) for words in references[image]] for image in candidates]

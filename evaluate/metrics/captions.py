"""BLEU, ROUGE-L and CIDEr of generated captions, by the community's scorers (pycocoevalcap), without Java.

The scorers take sentences as words with blanks between. Which words those are is the caller's choice among
mrnn.evaluate.metrics.tokenizers: the model's own, or those of coco-caption.
"""

import contextlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mrnn.evaluate.metrics.bleu import BleuCounts, count_ngrams

DEFINITIONS = {
    "tokens": "references and candidates lower-cased, characters that are neither letters nor digits dropped",
    "Bleu_n": "corpus level, cumulative, closest reference length, brevity penalty, as in coco-caption (a fraction)",
    "ROUGE_L": "longest common subsequence, beta 1.2, mean over images, as in coco-caption (a fraction)",
    "CIDEr": "CIDEr-D as in coco-caption, document frequencies of these references (10 is the maximum)",
    "ngram_precision": "individual clipped n-gram precision of the corpus for n = 1..4, no brevity penalty (m-RNN v1's "
    "B-n is of this kind; never compare it with Bleu_n)",
    "ngram_precision_with_penalty": "the same times the brevity penalty (which of the two m-RNN v1 has is not known)",
}

ONE_IMAGE = (
    "warning: with a single image CIDEr is 0 whatever the caption says, since words are weighted by how many of the "
    "images they occur in; score several images together"
)


@dataclass(frozen=True)
class CaptionScores:
    """Corpus scores by name (Bleu_1..4, ROUGE_L, CIDEr) and the same for every image, in the order of the candidates.

    counts : what BLEU is made of, for every image in the same order.
    """

    corpus: dict[str, float]
    per_image: dict[str, dict[str, float]]
    counts: BleuCounts

    @property
    def ngram_precision(self) -> tuple[float, ...]:
        """Individual clipped precision of the corpus for n = 1..4, without brevity penalty."""
        return tuple(self.counts.total().precision().tolist())

    @property
    def brevity_penalty(self) -> float:
        """Of the corpus, min(1, exp(1 - r/c))."""
        return float(self.counts.total().brevity_penalty())

    @property
    def ngram_precision_with_penalty(self) -> tuple[float, ...]:
        """Individual clipped precision for n = 1..4, times the brevity penalty."""
        return tuple(precision * self.brevity_penalty for precision in self.ngram_precision)


def score_captions(
    candidates: Mapping[str, Sequence[str]], references: Mapping[str, Sequence[Sequence[str]]]
) -> CaptionScores:
    """Scores of one candidate per image, all given as words.

    candidates : image id -> words. references : image id -> sentences as words, at least one that is not empty; empty
    ones are left out. An empty candidate scores 0. CIDEr needs at least two images: with one, every document frequency
    says nothing, and it is 0.
    Raises ValueError if there is no candidate, or an image has no reference.
    """
    if not candidates:
        raise ValueError("there are no captions to score")
    said = {image: [" ".join(words)] for image, words in candidates.items()}
    kept = {image: [" ".join(words) for words in references.get(image, ()) if words] for image in candidates}
    without = [image for image, sentences in kept.items() if not sentences]
    if without:
        raise ValueError(f"image {without[0]!r} has no reference sentence with a word in it")

    from pycocoevalcap.bleu.bleu import Bleu  # here, because importing them takes a second
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge

    with contextlib.redirect_stdout(io.StringIO()), np.errstate(all="ignore"):
        bleu, bleu_each = Bleu(4).compute_score(kept, said, verbose=0)
        rouge, rouge_each = Rouge().compute_score(kept, said)
        cider, cider_each = Cider().compute_score(kept, said)
    names = [f"Bleu_{n}" for n in range(1, 5)] + ["ROUGE_L", "CIDEr"]
    corpus = dict(zip(names, map(float, (*bleu, rouge, cider)), strict=True))
    each = zip(candidates, *bleu_each, rouge_each, cider_each, strict=True)
    per_image = {image: dict(zip(names, map(float, scores), strict=True)) for image, *scores in each}
    # split as BLEU splits: a token of mrnn.evaluate.metrics.ptb may hold a no-break space
    words = {image: [sentence.split() for sentence in sentences] for image, sentences in kept.items()}
    heard = {image: sentence.split() for image, (sentence,) in said.items()}
    return CaptionScores(corpus, per_image, count_ngrams(heard, words))

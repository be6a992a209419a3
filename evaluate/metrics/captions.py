"""The scores of generated captions, of the corpus and of every image, and the counts that BLEU is made of.

Captions and references come as words. Which words those are is the caller's choice among
mrnn.evaluate.metrics.tokenizers: the model's own, or those of coco-caption.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mrnn.data.cider import DocumentFrequencies
from mrnn.evaluate.metrics import names
from mrnn.evaluate.metrics.bleu import BleuCounts
from mrnn.evaluate.metrics.scorers import Scored, bleu_counts, cider

OTHER_DEFINITIONS = {
    "tokens": "references and candidates lower-cased, characters that are neither letters nor digits dropped",
    "ngram_precision": "individual clipped n-gram precision of the corpus for n = 1..4, no brevity penalty (m-RNN v1's "
    "B-n is of this kind; never compare it with Bleu_n)",
    "ngram_precision_with_penalty": "the same times the brevity penalty (which of the two m-RNN v1 has is not known)",
}

ONE_IMAGE = (
    "warning: with a single image CIDEr is 0 whatever the caption says, since words are weighted by how many of the "
    "images they occur in; score several images together"
)
OTHER_FREQUENCIES = ", or take document frequencies from the captions of other images (--df)"
NOTHING_SHARED = (
    "warning: no caption has a word in common with its references, so every score is 0; are both in the same language, "
    "and of the same images?"
)
NOTHING_WEIGHS = (
    "warning: CIDEr is 0 because the references of every image have the words that captions share with them, and such "
    "words weigh nothing; score more different images"
)


def definitions() -> dict[str, str]:
    """What the scores of captions mean, by key."""
    rows = {row.defined_as or row.key: row.definition for row in names.CAPTION_SCORES}
    return OTHER_DEFINITIONS | rows


def cider_warning(scores: "CaptionScores", frequencies: DocumentFrequencies | None = None) -> str | None:
    """A sentence where CIDEr is 0 for a reason that lies in the data, else None; arguments as of `score_captions`."""
    images = len(scores.per_image) if frequencies is None else frequencies.images
    if images == 1:
        return ONE_IMAGE + OTHER_FREQUENCIES
    if scores.corpus["CIDEr"]:
        return None
    if not scores.counts.hits.any():
        return NOTHING_SHARED
    return NOTHING_WEIGHS + OTHER_FREQUENCIES


@dataclass(frozen=True)
class CaptionScores:
    """Scores of captions, by the keys of mrnn.evaluate.metrics.names.CAPTION_SCORES.

    corpus : of all captions
    per_image : of each caption alone, in the order of the candidates
    counts : what BLEU is made of, for every image in the same order
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
        """The corpus value, min(1, exp(1 - r/c)), of r reference and c candidate words."""
        return float(self.counts.total().brevity_penalty())

    @property
    def ngram_precision_with_penalty(self) -> tuple[float, ...]:
        """Individual clipped precision for n = 1..4, times the brevity penalty."""
        return tuple(precision * self.brevity_penalty for precision in self.ngram_precision)


def score_captions(
    candidates: Mapping[str, Sequence[str]],
    references: Mapping[str, Sequence[Sequence[str]]],
    *,
    frequencies: DocumentFrequencies | None = None,
) -> CaptionScores:
    """Scores of one candidate per image, all given as words.

    candidates : image id -> words; an empty caption scores 0
    references : image id -> sentences as words, at least one that is not empty; empty ones are left out
    frequencies : document frequencies for CIDEr; None for those of the references

    Raises ValueError if there is no candidate, or an image has no reference.
    """
    if not candidates:
        raise ValueError("there are no captions to score")
    kept = {image: [words for words in references.get(image, ()) if words] for image in candidates}
    without = [image for image, sentences in kept.items() if not sentences]
    if without:
        raise ValueError(f"image {without[0]!r} has no reference sentence with a word in it")

    found: Scored = {}
    for score in dict.fromkeys(row.score for row in names.CAPTION_SCORES if row.score):
        found |= score(kept, candidates)
    if frequencies is not None:
        found |= cider(kept, candidates, frequencies)
    corpus = {row.key: float(found[row.key][0]) for row in names.CAPTION_SCORES}
    each = {row.key: values for row in names.CAPTION_SCORES if (values := found[row.key][1]) is not None}
    per_image = {
        image: {key: float(values[place]) for key, values in each.items()} for place, image in enumerate(candidates)
    }
    return CaptionScores(corpus, per_image, bleu_counts(kept, candidates))

"""How varied captions are: distinct-n, words used, length, and how many of them are training sentences."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

DEFINITIONS = {
    "distinct_n": "different n-grams of all captions over all of their n-grams (falls with the number of captions)",
    "vocabulary_used": "different words in all captions",
    "different": "different captions",
    "in_training": "share of the captions that are, word for word, among the tokenised training sentences",
    "people": "the same of one reference per image, its first",
}


@dataclass(frozen=True)
class Diversity:
    """How varied a set of captions is.

    distinct_1, distinct_2 : different n-grams over all n-grams
    vocabulary_used, different : different words; different captions
    mean_words : words per caption
    in_training : fraction of the captions that are training sentences; None without a training set
    """

    captions: int
    distinct_1: float
    distinct_2: float
    vocabulary_used: int
    different: int
    mean_words: float
    in_training: float | None

    @property
    def novel(self) -> int | None:
        """Captions that are no training sentence; None without a training set."""
        return None if self.in_training is None else round(self.captions * (1 - self.in_training))


def diversity(captions: Sequence[Sequence[str]], training: Collection[tuple[str, ...]] | None = None) -> Diversity:
    """Measure captions, given as words.

    training : the tokenised training sentences, where they are known

    Raises ValueError without captions.
    """
    if not captions:
        raise ValueError("there are no captions to measure the diversity of")
    sentences = [tuple(words) for words in captions]
    repeated = None if training is None else sum(sentence in training for sentence in sentences) / len(sentences)
    return Diversity(
        captions=len(sentences),
        distinct_1=_distinct(sentences, 1),
        distinct_2=_distinct(sentences, 2),
        vocabulary_used=len({word for sentence in sentences for word in sentence}),
        different=len(set(sentences)),
        mean_words=sum(map(len, sentences)) / len(sentences),
        in_training=repeated,
    )


def _distinct(sentences: Sequence[tuple[str, ...]], n: int) -> float:
    """Different n-grams over all n-grams (Li et al., arXiv 1510.03055); 0 where there are none."""
    ngrams = [sentence[i : i + n] for sentence in sentences for i in range(len(sentence) - n + 1)]
    return len(set(ngrams)) / len(ngrams) if ngrams else 0.0

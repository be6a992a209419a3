"""The words that a model knows, and their numbers."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

BOUNDARY = "<s>"
UNKNOWN = "<unk>"
BOUNDARY_ID = 0
UNKNOWN_ID = 1


@dataclass(frozen=True)
class Vocabulary:
    """Words by number.

    words[0] is the boundary sign: START as an input, END as a target. START is never predicted and END never fed, so
    one row serves both, as in the m-RNN authors' later code. words[1] replaces every word not listed.
    Its length is the paper's vocabulary size V.
    """

    words: tuple[str, ...]
    numbers: dict[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.words[:2] != (BOUNDARY, UNKNOWN):
            raise ValueError(f"a vocabulary begins with {BOUNDARY!r} and {UNKNOWN!r}, not with {self.words[:2]!r}")
        object.__setattr__(self, "numbers", {word: number for number, word in enumerate(self.words)})
        if len(self.numbers) != len(self.words):
            raise ValueError("a vocabulary lists every word once")

    def __len__(self) -> int:
        return len(self.words)

    def encode(self, words: Sequence[str]) -> list[int]:
        """Numbers of the words, without boundary signs; unlisted words become UNKNOWN_ID."""
        return [self.numbers.get(word, UNKNOWN_ID) for word in words]

    def decode(self, numbers: Iterable[int]) -> list[str]:
        """Words of the numbers up to the first END."""
        words = []
        for number in numbers:
            if number == BOUNDARY_ID:
                break
            words.append(self.words[number])
        return words


def build_vocabulary(sentences: Iterable[Sequence[str]], *, cutoff: int) -> Vocabulary:
    """The vocabulary of tokenised training sentences: words seen at least `cutoff` times, frequent ones first.

    Words of equal frequency are in alphabetical order. Words spelled like the two signs are left out.
    """
    counts = Counter(word for sentence in sentences for word in sentence)
    kept = [word for word, count in counts.items() if count >= cutoff and word not in (BOUNDARY, UNKNOWN)]
    kept.sort(key=lambda word: (-counts[word], word))
    return Vocabulary((BOUNDARY, UNKNOWN, *kept))

"""An n-gram language model with interpolated modified Kneser-Ney smoothing (Chen and Goodman 1999).

    P(w | h) = max(c(h w) - D, 0) / c(h .) + gamma(h) P(w | h'),        h' = h without its first word

with D = D1, D2 or D3+ for a count of 1, 2, or 3 and more, and gamma(h) = sum of the discounts / c(h .). Below the
highest order, c counts the different words to the left instead of the occurrences, except for n-grams that begin with
START, which nothing precedes (as in KenLM). Unigrams are interpolated with the uniform distribution over the
vocabulary. For an unseen history the next shorter one is used. Words, `<unk>` and END are those of a `Vocabulary`, so
the perplexity is of the same tokens as that of the neural models. The m-RNN paper compares with "back-off" models of
this kind (Good-Turing).
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from mrnn.data.vocabulary import BOUNDARY_ID, UNKNOWN_ID
from mrnn.train.tasks.captioning import Perplexity

FALLBACK_DISCOUNTS = (0.5, 1.0, 1.5)  # as in KenLM, where there are too few counts to estimate discounts from
Gram = tuple[int, ...]


class NGramModel:
    """P(word | the words before it in the sentence); words are given by number."""

    def __init__(self, sentences: Iterable[Sequence[int]], *, vocabulary: int, order: int = 3) -> None:
        """Count the n-grams of some sentences.

        sentences : word numbers, without START and END
        vocabulary : V, number of words that can be predicted, <unk> and END included
        order : n

        Raises ValueError for an order below 1, or without a sentence.
        """
        if order < 1:
            raise ValueError(f"the order of an n-gram model is at least 1, not {order}")
        self.order, self.vocabulary = order, vocabulary
        counts: list[Counter[Gram]] = [Counter() for _ in range(order)]
        for sentence in sentences:
            for target, history in events(sentence):
                for length, of_length in enumerate(counts):
                    if length <= len(history):
                        of_length[(*history[len(history) - length :], target)] += 1
        if not counts[0]:
            raise ValueError("an n-gram model needs at least one sentence")
        self._tables = [_table(_adjusted(counts, length)) for length in range(order)]

    def probability(self, word: int, history: Sequence[int]) -> float:
        """P(word | history). history : the sentence so far, beginning with START."""
        value = 1 / self.vocabulary
        for gamma, seen in self._levels(history):
            value = seen.get(word, 0.0) + gamma * value
        return value

    def distribution(self, history: Sequence[int]) -> np.ndarray:
        """P(word | history) of every word: (V,) float64 with the sum 1."""
        values = np.full(self.vocabulary, 1 / self.vocabulary)
        for gamma, seen in self._levels(history):
            values *= gamma
            values[list(seen)] += list(seen.values())
        return values

    def _levels(self, history: Sequence[int]) -> Iterator[tuple[float, dict[int, float]]]:
        """Gamma and the discounted shares of the next word, for every history that was seen, the shortest first."""
        for length, table in enumerate(self._tables[: len(history) + 1]):
            found = table.get(tuple(history[len(history) - length :]))
            if found is None:
                return  # a longer history cannot have been seen either
            yield found


def events(sentence: Sequence[int]) -> Iterator[tuple[int, Gram]]:
    """Every word of a sentence, and END, with all words before it from START on."""
    words = (BOUNDARY_ID, *sentence, BOUNDARY_ID)
    return ((words[place], words[:place]) for place in range(1, len(words)))


def _adjusted(counts: Sequence[Counter[Gram]], length: int) -> Counter[Gram]:
    """The counts of n-grams with a history of `length` words: occurrences at the top, else different words before."""
    if length == len(counts) - 1:
        return counts[length]
    before = Counter(gram[1:] for gram in counts[length + 1])
    return Counter(
        {gram: n if length and gram[0] == BOUNDARY_ID else before[gram] for gram, n in counts[length].items()}
    )


def _table(counts: Counter[Gram]) -> dict[Gram, tuple[float, dict[int, float]]]:
    """Gamma and the discounted shares of the words seen after it, for every history."""
    discounts = discounts_of(counts.values())
    after: dict[Gram, dict[int, int]] = defaultdict(dict)
    for gram, count in counts.items():
        after[gram[:-1]][gram[-1]] = count
    table = {}
    for history, words in after.items():
        total = sum(words.values())
        taken = {word: discounts[min(count, 3) - 1] for word, count in words.items()}
        shares = {word: (count - taken[word]) / total for word, count in words.items()}
        table[history] = sum(taken.values()) / total, shares
    return table


def discounts_of(counts: Iterable[int]) -> tuple[float, float, float]:
    """D1, D2 and D3+ from the numbers of n-grams with the counts 1 to 4; FALLBACK_DISCOUNTS where these are too few."""
    n1, n2, n3, n4 = (frequency[k] for frequency in [Counter(counts)] for k in (1, 2, 3, 4))
    if not (n1 and n2 and n3):
        return FALLBACK_DISCOUNTS
    y = n1 / (n1 + 2 * n2)
    found = (1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3)
    return found if all(0 < found[k] < k + 1 for k in range(3)) else FALLBACK_DISCOUNTS


def ngram_perplexity(model: NGramModel, sentences: Iterable[Sequence[int]]) -> Perplexity:
    """Perplexity of sentences as `mrnn.train.tasks.captioning` defines it: END and `<unk>` counted, START not.

    Raises ValueError if there are no sentences.
    """
    bits, known_bits, tokens, unknown = 0.0, 0.0, 0, 0
    for sentence in sentences:
        for word, history in events(sentence):
            cost = -math.log2(model.probability(word, history))
            bits += cost
            tokens += 1
            if word == UNKNOWN_ID:
                unknown += 1
            else:
                known_bits += cost
    if not tokens:
        raise ValueError("there are no sentences to take the perplexity of")
    return Perplexity(bits / tokens, 2 ** (bits / tokens), 2 ** (known_bits / (tokens - unknown)), tokens, unknown)


def likeliest_sentence(model: NGramModel, *, beam: int = 5, max_steps: int = 30) -> list[int]:
    """The most probable sentence without `<unk>` that a beam search finds; a longer one is cut.

    model : of the training captions
    beam : number of sentences kept while searching
    max_steps : maximum length in words, END included

    An n-gram model sees no image, so this is its caption for every image. Finished sentences compete with unfinished
    ones, and scores are not normalised by length, as in `mrnn.evaluate.generation.decode`.
    """
    kept: list[tuple[float, Gram]] = [(0.0, (BOUNDARY_ID,))]
    for _ in range(max_steps):
        longer = [(score, words) for score, words in kept if is_whole(words)]
        for score, words in kept:
            if not is_whole(words):
                log_probs = np.log(model.distribution(words))
                log_probs[UNKNOWN_ID] = -np.inf
                longer += [(score + log_probs[w], (*words, int(w))) for w in np.argsort(-log_probs)[:beam]]
        kept = sorted(longer, key=lambda hypothesis: -hypothesis[0])[:beam]
        if all(is_whole(words) for _, words in kept):
            break
    whole = [words[1:-1] for _, words in kept if is_whole(words)]
    return list(whole[0] if whole else kept[0][1][1:])


def is_whole(words: Gram) -> bool:
    """Whether a sentence that begins with START ends with END."""
    return len(words) > 1 and words[-1] == BOUNDARY_ID

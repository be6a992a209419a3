"""Words and lengths: how the captions of a model differ from the references."""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from mrnn.evaluate.metrics.diversity import Diversity
from mrnn.evaluate.report.charts import bars
from mrnn.evaluate.report.page import text

WORDS = 15  # of a table


@dataclass(frozen=True)
class Language:
    """Counts over sentences as words.

    ours, people : how often each word occurs in the captions and in the references
    our_lengths, people_lengths : sentences by their number of words
    diversity : of the captions
    vocabulary : words that the model knows
    unknown : words of the references that the model does not know
    """

    ours: Counter[str]
    people: Counter[str]
    our_lengths: Counter[int]
    people_lengths: Counter[int]
    diversity: Diversity
    vocabulary: int
    unknown: Counter[str]


def describe_language(
    captions: Sequence[Sequence[str]],
    references: Sequence[Sequence[str]],
    known: Collection[str],
    *,
    diversity: Diversity,
) -> Language:
    """Count words and lengths.

    captions, references : sentences as words
    known : the model's vocabulary
    diversity : of these captions
    """
    ours = Counter(word for words in captions for word in words)
    people = Counter(word for words in references for word in words)
    return Language(
        ours=ours,
        people=people,
        our_lengths=Counter(map(len, captions)),
        people_lengths=Counter(map(len, references)),
        diversity=diversity,
        vocabulary=len(known),
        unknown=Counter({word: count for word, count in people.items() if word not in known}),
    )


def language_section(language: Language) -> str:
    """Counts, a histogram of lengths, and words that the model uses much more or less often than the references."""
    varied = language.diversity
    facts = {
        "captions": f"{varied.captions:,}",
        "different captions": _share(varied.different, varied.captions),
        "not among the training sentences": "" if varied.novel is None else _share(varied.novel, varied.captions),
        "different words in the captions": f"{len(language.ours):,} of {language.vocabulary:,} known",
        "different words in the references": f"{len(language.people):,}",
        "words of the references that the model does not know": _share(
            language.unknown.total(), language.people.total()
        ),
        "mean words per caption": f"{varied.mean_words:.1f} (references {_mean(language.people_lengths):.1f})",
    }
    rows = "".join(f"<tr><th scope=row>{name}</th><td>{value}</td></tr>" for name, value in facts.items() if value)
    lengths = range(
        min([*language.our_lengths, *language.people_lengths]), 1 + _last(language.our_lengths, language.people_lengths)
    )
    chart = bars(
        [str(length) for length in lengths],
        {
            "captions": _shares(language.our_lengths, lengths),
            "references": _shares(language.people_lengths, lengths),
        },
        axis="words per sentence",
    )
    return (
        f'<div class="pair"><div class="wide"><table>{rows}</table></div><div>{chart}</div></div>'
        f'<h3>Words used too often and too rarely</h3><p class="small">Uses per 1,000 words, for the words whose '
        f'rates differ most.</p><div class="pair">{_rates(language, too_often=True)}'
        f"{_rates(language, too_often=False)}</div>" + (_unknown(language.unknown) if language.unknown else "")
    )


def _rates(language: Language, *, too_often: bool) -> str:
    ours, people = max(language.ours.total(), 1), max(language.people.total(), 1)
    rates = {
        word: (1000 * language.ours[word] / ours, 1000 * language.people[word] / people)
        for word in language.ours.keys() | language.people.keys()
    }
    order = sorted(rates, key=lambda word: ((rates[word][1] - rates[word][0]) * (1 if too_often else -1), word))
    rows = "".join(
        f"<tr><th scope=row>{text(word)}</th><td>{rates[word][0]:.1f}</td><td>{rates[word][1]:.1f}</td></tr>"
        for word in order[:WORDS]
        if (rates[word][0] > rates[word][1]) == too_often
    )
    title = "more often than in the references" if too_often else "less often than in the references"
    head = f"<tr><th>{title}</th><th>captions</th><th>references</th></tr>"
    return f"<table><thead>{head}</thead><tbody>{rows}</tbody></table>"


def _unknown(unknown: Counter[str]) -> str:
    words = ", ".join(f"{text(word)} ({count:,})" for word, count in unknown.most_common(2 * WORDS))
    more = " …" if len(unknown) > 2 * WORDS else ""
    return f"<h3>Words of the references that the model does not know</h3><p>{words}{more}</p>"


def _share(part: int, whole: int) -> str:
    return f"{part:,} ({100 * part / whole:.1f}%)" if whole else ""


def _mean(lengths: Counter[int]) -> float:
    return sum(length * count for length, count in lengths.items()) / max(lengths.total(), 1)


def _shares(lengths: Counter[int], shown: range) -> list[float]:
    """Share of each length; longer sentences count in the last bar."""
    values = np.array([lengths[length] for length in shown], dtype=float)
    values[-1] += sum(count for length, count in lengths.items() if length >= shown.stop)
    return (values / max(lengths.total(), 1)).tolist()


def _last(*lengths: Counter[int]) -> int:
    """The longest length shown: at most 1 sentence in 200 is longer."""
    longest = 1
    for counter in lengths:
        left = counter.total() / 200
        for length in sorted(counter, reverse=True):
            left -= counter[length]
            if left < 0:
                longest = max(longest, length)
                break
    return longest

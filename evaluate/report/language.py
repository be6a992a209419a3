"""Words and lengths: what the captions of a model have in common with what people write, and what not."""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from mrnn.evaluate.report.charts import bars
from mrnn.evaluate.report.page import text

WORDS = 15  # of a table


@dataclass(frozen=True)
class Language:
    """Counts over sentences as words.

    ours, people : how often each word stands in our captions and in the references. our_lengths, people_lengths :
    sentences by their number of words. different, novel : captions that differ, and those that are no training sentence
    word for word (None without training sentences). unknown : words of the references that the model does not know.
    """

    ours: Counter[str]
    people: Counter[str]
    our_lengths: Counter[int]
    people_lengths: Counter[int]
    captions: int
    different: int
    novel: int | None
    vocabulary: int
    unknown: Counter[str]


def describe_language(
    captions: Sequence[Sequence[str]],
    references: Sequence[Sequence[str]],
    known: Collection[str],
    *,
    training: Collection[tuple[str, ...]] = (),
) -> Language:
    """Count words and lengths. known : the model's vocabulary. training : its training sentences."""
    ours = Counter(word for words in captions for word in words)
    people = Counter(word for words in references for word in words)
    written = [tuple(words) for words in captions]
    return Language(
        ours=ours,
        people=people,
        our_lengths=Counter(map(len, captions)),
        people_lengths=Counter(map(len, references)),
        captions=len(captions),
        different=len(set(written)),
        novel=sum(words not in training for words in written) if training else None,
        vocabulary=len(known),
        unknown=Counter({word: count for word, count in people.items() if word not in known}),
    )


def language_section(language: Language) -> str:
    """Counts, a histogram of lengths, and words that the model says much more or less often than people do."""
    facts = {
        "captions": f"{language.captions:,}",
        "different captions": _share(language.different, language.captions),
        "not among the training sentences": "" if language.novel is None else _share(language.novel, language.captions),
        "different words in our captions": f"{len(language.ours):,} of {language.vocabulary:,} known",
        "different words in the references": f"{len(language.people):,}",
        "words of the references that the model does not know": _share(
            language.unknown.total(), language.people.total()
        ),
        "words of a caption, mean": f"{_mean(language.our_lengths):.1f} "
        f"(references {_mean(language.people_lengths):.1f})",
    }
    rows = "".join(f"<tr><th scope=row>{name}</th><td>{value}</td></tr>" for name, value in facts.items() if value)
    lengths = range(
        min([*language.our_lengths, *language.people_lengths]), 1 + _last(language.our_lengths, language.people_lengths)
    )
    chart = bars(
        [str(length) for length in lengths],
        {
            "our captions": _shares(language.our_lengths, lengths),
            "references": _shares(language.people_lengths, lengths),
        },
        axis="words of a sentence",
    )
    return (
        f'<div class="pair"><div class="wide"><table>{rows}</table></div><div>{chart}</div></div>'
        f'<h3>Words said too often and too rarely</h3><p class="small">Uses per 1,000 words; the words whose rates '
        f'differ most.</p><div class="pair">{_rates(language, too_often=True)}{_rates(language, too_often=False)}</div>'
        + (_unknown(language.unknown) if language.unknown else "")
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
    title = "more often than people" if too_often else "less often than people"
    return (
        f"<table><thead><tr><th>{title}</th><th>ours</th><th>references</th></tr></thead><tbody>{rows}</tbody></table>"
    )


def _unknown(unknown: Counter[str]) -> str:
    words = ", ".join(f"{text(word)} ({count:,})" for word, count in unknown.most_common(2 * WORDS))
    return f"<h3>Words it does not know</h3><p>{words}{' …' if len(unknown) > 2 * WORDS else ''}</p>"


def _share(part: int, whole: int) -> str:
    return f"{part:,} ({100 * part / whole:.1f}%)" if whole else ""


def _mean(lengths: Counter[int]) -> float:
    return sum(length * count for length, count in lengths.items()) / max(lengths.total(), 1)


def _shares(lengths: Counter[int], shown: range) -> list[float]:
    """Share of each length; what lies behind the last one shown counts there."""
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

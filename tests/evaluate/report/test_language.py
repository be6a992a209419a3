"""Words and lengths, counted by hand; charts hold every value."""

import re

import pytest

from mrnn.evaluate.metrics.diversity import diversity
from mrnn.evaluate.report.charts import bars, rank_histogram
from mrnn.evaluate.report.language import describe_language, language_section


def test_counts() -> None:
    ours = [["a", "dog"], ["a", "dog"], ["a", "cat", "sleeps"]]
    people = [["a", "dog", "runs"], ["one", "zebra"], ["a", "<b>"]]
    found = describe_language(
        ours,
        people,
        {"a", "dog", "cat", "sleeps", "runs", "one"},
        diversity=diversity(ours, {("a", "dog")}),
    )
    assert found.unknown == {"zebra": 1, "<b>": 1}
    assert found.our_lengths == {2: 2, 3: 1}
    page = language_section(found)
    assert "2 (66.7%)" in page, "different captions"
    assert "1 (33.3%)" in page, "not among the training sentences"
    assert "2 (28.6%)" in page, "words that the model does not know"
    assert "&lt;b&gt;" in page
    assert "<b>" not in page
    assert "<th scope=row>dog</th><td>285.7</td><td>142.9</td>" in page
    more, _, less = page.partition("less often than in the references")
    assert "<th scope=row>dog</th>" in more
    assert "<th scope=row>runs</th>" in less
    assert "not among" not in language_section(describe_language(ours, people, {"a"}, diversity=diversity(ours)))


def test_long_sentences_are_counted_in_the_last_bar() -> None:
    people = [["w"] * (5 if number else 40) for number in range(1000)]
    page = language_section(describe_language([["w"] * 4], people, {"w"}, diversity=diversity([["w"] * 4])))
    assert re.findall(r"references, (\d+): ([\d.]+)%", page) == [("4", "0.0"), ("5", "100.0")]


def test_ranks_fall_into_their_bars() -> None:
    chart = rank_histogram({"one way": [1, 1, 2, 5, 6, 21], "other way": [1, 10], "no queries": []})
    shares = {
        (name, rank): float(share) for name, rank, share in re.findall(r"<title>([^,]+), ([^:]+): ([\d.]+)%", chart)
    }
    assert shares["one way", "1"] == pytest.approx(33.3)
    assert shares["one way", "2–5"] == pytest.approx(33.3)
    assert shares["one way", "6–10"] == shares["one way", "–50"] == pytest.approx(16.7)
    assert shares["other way", "1"] == shares["other way", "6–10"] == 50
    assert sum(share for (name, _), share in shares.items() if name == "one way") == pytest.approx(100, abs=0.2)
    assert rank_histogram({"no queries": []}) == bars([], {}, axis="x") == ""
    assert len(re.findall("<rect", rank_histogram({"all first": [1, 1]}))) == 1

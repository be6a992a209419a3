"""The PTB twin against the original's recorded output; tests/compare_ptb.py (`make ptb`) records it anew."""

import hashlib
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mrnn.data.annotation_files import read_lines
from mrnn.evaluate.metrics.ptb import PUNCTUATION, ptb_tokenize

GOLDEN = Path(__file__).parent / "ptb_golden.json"
DIGESTS = {  # of what Java prints, as tests/compare_ptb.py shows it
    "flickr8k": "97a192e0a93bdb69ceda6188e83ebadc1aba187b6cde43366251bffb8e367482",
    "flickr30k": "e721260e220ee5c16701d98d41cd83eb7ba19ac28599e7c293a30fcc59fd477f",
    "coco": "9da43c339600f891a139ae36b35d1b37fe172eee418e9cc868d3e7169a641a3c",
}


def captions_of(name: str, data: Path) -> list[str]:
    if name == "coco":
        path = data / "coco" / "annotations" / "captions_val2017.json"
        return [record["caption"] for record in json.loads(path.read_text())["annotations"]]
    (path,) = data.glob(f"{name}*/*.token.*")
    return [line.partition("\t")[2] for _, line in read_lines(path)]


def test_sentences_with_every_quirk() -> None:
    pairs = json.loads(GOLDEN.read_text())
    found = ptb_tokenize([caption for caption, _ in pairs])
    for (caption, expected), tokens in zip(pairs, found, strict=True):
        assert " | ".join(tokens) == expected, caption


@pytest.mark.parametrize("name", DIGESTS)
def test_all_real_captions(name: str, real_data: Path) -> None:
    tokens = ptb_tokenize(captions_of(name, real_data))
    assert hashlib.sha256("\n".join(map(" ".join, tokens)).encode()).hexdigest() == DIGESTS[name]


def test_quirks_by_name() -> None:
    assert ptb_tokenize(["A man (sitting) ."]) == [["a", "man", "-lrb-", "sitting", "-rrb-"]]
    assert ptb_tokenize(["He can't, it's the dogs' T-shirt"]) == [
        ["he", "ca", "n't", "it", "'s", "the", "dogs", "t-shirt"]
    ]
    assert ptb_tokenize(["1 1/2 cups"]) == [["1\xa01/2", "cups"]], "one token with a no-break space"
    kept, dropped = ptb_tokenize(["the letter T.", "two dogs"])[0], ptb_tokenize(["the letter T.", "The dogs"])[0]
    assert (kept[-1], dropped[-1]) == ("t.", "t"), "the next caption's first word decides"


def test_plain_words_take_the_short_way_to_the_same_tokens() -> None:
    words = ["a dog runs and jumps", "a dog runs, and jumps.", "runs. jumps , dog", "a, b. c"]
    assert ptb_tokenize(words) == [tokens.split() for tokens in ("a dog runs and jumps",) * 2] + [
        ["runs", "jumps", "dog"],
        ["a", "b.", "c"],
    ]


@settings(deadline=None, max_examples=60)
@given(st.lists(st.text(max_size=40), max_size=6))
def test_whatever_the_captions_hold(captions: list[str]) -> None:
    tokens = ptb_tokenize(captions)
    assert len(tokens) == len(captions), "a line break inside a caption does not shift the others"
    for token in [token for caption in tokens for token in caption]:
        assert token not in PUNCTUATION
        assert not set(token) & set(" \t\n\r")


def test_no_captions() -> None:
    assert ptb_tokenize([]) == []
    assert ptb_tokenize(["", " ", "."]) == [[], [], []]

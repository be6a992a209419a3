"""Words of sentences, as DVSA takes them."""

import sys

import pytest

from mrnn.data.tokenize import tokenize


@pytest.mark.parametrize(
    ("sentence", "words"),
    [
        ("A small boat rests on a quiet lake .", ["a", "small", "boat", "rests", "on", "a", "quiet", "lake"]),
        ("A man in a tee-shirt, isn't he?", ["a", "man", "in", "a", "teeshirt", "isnt", "he"]),
        ("Two  dogs\trun\n", ["two", "dogs", "run"]),
        ("CAFÉ Ünder 3 Bäume", ["café", "ünder", "3", "bäume"]),
        ("猫 坐着。", ["猫", "坐着"]),
        ("... !", []),
        ("", []),
    ],
)
def test_tokenize(sentence: str, words: list[str]) -> None:
    assert tokenize(sentence) == words


def test_every_character_is_kept_or_dropped_by_the_rule() -> None:
    text = "".join(map(chr, range(sys.maxunicode + 1))).lower()
    assert "".join(tokenize(text)) == "".join(c for c in text if c.isalnum())
    assert tokenize(text) == "".join(c for c in text if c.isalnum() or c.isspace()).split()


def test_words_come_out_as_they_go_in() -> None:
    words = tokenize("The quick, brown fox; jumps: over (2) lazy dogs!")
    assert tokenize(" ".join(words)) == words


def test_signs_of_the_vocabulary_cannot_be_written() -> None:
    assert tokenize("<s> <unk>") == ["s", "unk"]

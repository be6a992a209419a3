"""Words of sentences, as DVSA takes them."""

import json
import re
import sys
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mrnn.data.annotation_files import read_lines
from mrnn.data.tokenize import VARIATION_SELECTORS, segmentation_warning, tokenize, unsegmented_scripts


def real_captions(data: Path) -> Iterator[str]:
    for pattern in ("flickr8k/*.token.txt", "flickr30k-captions/*.token.gz"):
        for path in data.glob(pattern):
            yield from (line.partition("\t")[2] for _, line in read_lines(path))
    for path in data.glob("coco/annotations/captions_*.json"):
        yield from (record["caption"] for record in json.loads(path.read_text())["annotations"])


@pytest.mark.parametrize(
    ("sentence", "words"),
    [
        ("A small boat rests on a quiet lake .", ["a", "small", "boat", "rests", "on", "a", "quiet", "lake"]),
        ("A man in a tee-shirt, isn't he?", ["a", "man", "in", "a", "teeshirt", "isnt", "he"]),
        ("Two  dogs\trun\n", ["two", "dogs", "run"]),
        ("CAFÉ Ünder 3 Bäume", ["café", "ünder", "3", "bäume"]),
        ("猫 坐着。", ["猫", "坐着"]),
        ("एक कुत्ता दौड़ता है।", ["एक", "कुत्ता", "दौड़ता", "है"]),
        ("แมว นั่ง บน เสื่อ", ["แมว", "นั่ง", "บน", "เสื่อ"]),
        ("شَجَرَة، كبيرة", ["شَجَرَة", "كبيرة"]),
        ("İstanbul'da IŞIK", ["istanbulda", "işik"]),
        ("I ❤️ NY 1️⃣", ["i", "ny", "1"]),
        ("a \u0301 b -\u0301c", ["a", "b", "c"]),
        ("... !", []),
        ("", []),
    ],
)
def test_tokenize(sentence: str, words: list[str]) -> None:
    assert tokenize(sentence) == words


def test_every_character_is_kept_or_dropped_by_the_rule() -> None:
    for number in range(sys.maxunicode + 1):
        character = unicodedata.normalize("NFC", chr(number)).replace("İ", "i").lower()
        kept = "".join(c for c in unicodedata.normalize("NFC", character) if c.isalnum() or unicodedata.combining(c))
        if character.isalnum() or (number < 0x300 and not character.isspace()):
            assert "".join(tokenize(chr(number))) == kept, hex(number)


def test_marks_stay_on_letters_and_only_there() -> None:
    for number in range(sys.maxunicode + 1):
        if unicodedata.category(chr(number)) in ("Mn", "Mc") and not VARIATION_SELECTORS.match(chr(number)):
            word = unicodedata.normalize("NFC", f"q{chr(number)}q".lower())
            assert tokenize(f"Q{chr(number)}Q {chr(number)} -{chr(number)}") == [word], hex(number)


@pytest.mark.parametrize("form", ["NFC", "NFD", "NFKC", "NFKD"])
@given(text=st.text(max_size=30))
def test_one_word_has_one_spelling(form: str, text: str) -> None:
    written = unicodedata.normalize(form, text)
    if unicodedata.normalize("NFC", written) == unicodedata.normalize("NFC", text):
        assert tokenize(written) == tokenize(text)
    words = tokenize(text)
    assert tokenize(" ".join(words)) == words
    assert all(unicodedata.is_normalized("NFC", word) for word in words)


@given(st.text(st.characters(max_codepoint=127)))
def test_english_is_parted_as_ever(text: str) -> None:
    assert tokenize(text) == "".join(c for c in text.lower() if c.isalnum() or c.isspace()).split()


def test_real_captions_are_parted_as_ever(real_data: Path) -> None:
    """By the rule before marks were kept, word for word."""
    for caption in real_captions(real_data):
        assert tokenize(caption) == re.sub(r"[^\w\s]|_", "", caption.lower()).split()


@pytest.mark.parametrize(
    ("script", "sentence", "parted"),
    [
        ("Chinese or Japanese", "一只猫坐在垫子上", "一 只 猫 坐 在 垫子 上"),
        ("Chinese or Japanese", "犬が草の上を走っている。", "犬 が 草 の 上 を 走って いる 。"),
        ("Thai", "แมวนั่งบนเสื่อ", "แมว นั่ง บน เสื่อ"),
        ("Lao", "ໝາແລ່ນຢູ່ຫຍ້າ", "ໝາ ແລ່ນ ຢູ່ ຫຍ້າ"),
        ("Burmese", "ခွေးတစ်ကောင်မြက်ပေါ်မှာ", "ခွေး တစ် ကောင် မြက် ပေါ် မှာ"),
        ("Khmer", "ឆ្កែមួយកំពុងរត់លើស្មៅ", "ឆ្កែ មួយ កំពុង រត់ លើ ស្មៅ"),
        ("Tibetan", "ཁྱི་ཞིག་རྩྭ་ཐོག་ཏུ་རྒྱུག", "ཁྱི ཞིག རྩྭ ཐོག ཏུ རྒྱུག"),
    ],
)
def test_scripts_without_blanks_are_named(script: str, sentence: str, parted: str) -> None:
    assert unsegmented_scripts(["A dog runs.", sentence]) == {script: 1}
    assert script in segmentation_warning([sentence])
    assert unsegmented_scripts([parted]) == {}, "words parted before need no warning"


def test_scripts_with_blanks_need_no_warning() -> None:
    sentences = ["A dog runs.", "Ein Hund läuft", "एक कुत्ता दौड़ता है", "개가 잔디 위에서 달린다", "كلب يركض على العشب"]
    assert segmentation_warning(sentences) == ""


def test_words_come_out_as_they_go_in() -> None:
    words = tokenize("The quick, brown fox; jumps: over (2) lazy dogs!")
    assert tokenize(" ".join(words)) == words


def test_signs_of_the_vocabulary_cannot_be_written() -> None:
    assert tokenize("<s> <unk>") == ["s", "unk"]

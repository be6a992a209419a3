"""From a sentence to words, as in DVSA: lower case, characters that are neither letters nor digits dropped.

The rule is the same for every script. Text is put into Unicode's composed form (NFC) first, so that one word has one
spelling, and the marks that belong to a letter (vowel signs, accents without a composed form) stay with it.
"""

import re
import unicodedata
from collections.abc import Iterable

# What is neither `str.isalnum` nor `str.isspace`: to Python \w means alphanumeric or underscore.
DROPPED = re.compile(r"[^\w\s]|_")
MARKS = ("Mn", "Mc")  # Unicode categories of marks that take part in spelling; enclosing ones (Me) do not
# Marks that choose a glyph and no sound: the same word is typed with and without them.
VARIATION_SELECTORS = re.compile("[\u180b-\u180f\ufe00-\ufe0f\U000e0100-\U000e01ef]")

# Scripts whose writers put no blanks between words: the characters, and the mean length of what stands between blanks,
# in letters, from which on a text has hardly been parted into words before.
UNSEGMENTED = {
    "Chinese or Japanese": (
        "\u3005-\u3007\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff",
        4,
    ),
    "Thai": ("\u0e01-\u0e2e\u0e40-\u0e46", 6),
    "Lao": ("\u0e81-\u0eae\u0ec0-\u0ec6\u0edc-\u0edf", 6),
    "Burmese": ("\u1000-\u102a\u103f\u1050-\u1055", 6),
    "Khmer": ("\u1780-\u17b3", 6),
    "Tibetan": ("\u0f40-\u0f6c", 6),
}


def tokenize(sentence: str) -> list[str]:
    """Words of a sentence.

    Put into NFC and lower-cased; every character that is neither alphanumeric, nor white space, nor a mark on a letter
    is deleted (so "tee-shirt" gives "teeshirt"); split at white space. Letters of every script count. The rule is the
    one of DVSA section 4; m-RNN's own could not be established.
    """
    if sentence.isascii():
        return DROPPED.sub("", sentence.lower()).split()
    # The dotted capital of Turkish is the only letter whose small form Python gives a mark of its own.
    text = unicodedata.normalize("NFC", sentence).replace("\u0130", "i").lower()
    return unicodedata.normalize("NFC", _letters_with_marks(text)).split()


def _letters_with_marks(text: str) -> str:
    """The alphanumeric characters, the marks on them, and white space."""
    kept: list[str] = []
    for character in VARIATION_SELECTORS.sub("", text):
        if (
            character.isalnum()
            or character.isspace()
            or (unicodedata.category(character) in MARKS and kept and not kept[-1].isspace())
        ):
            kept.append(character)
    return "".join(kept)


def unsegmented_scripts(sentences: Iterable[str]) -> dict[str, int]:
    """Scripts of UNSEGMENTED in which sentences are written without blanks between words, and in how many.

    Text that was parted into words before, by blanks, does not count: its words are short.
    """
    texts = [text for text in sentences if not text.isascii()]
    found = {}
    for script, (characters, longest) in UNSEGMENTED.items():
        letter = re.compile(f"[{characters}]")
        words = [[n for word in text.split() if (n := len(letter.findall(word)))] for text in texts]
        lengths = [n for each in words for n in each]
        if lengths and sum(lengths) >= longest * len(lengths):
            found[script] = sum(map(bool, words))
    return found


def segmentation_warning(sentences: Iterable[str]) -> str:
    """A warning for captions whose words mrnn cannot tell apart, naming their script; '' where there are none."""
    found = unsegmented_scripts(sentences)
    if not found:
        return ""
    named = " and ".join(f"{count} caption{'s' * (count > 1)} in {script}" for script, count in found.items())
    return (
        f"warning: no blanks between the words of {named}. Words are split at blanks, so whole phrases count as single "
        "words; separate the words with blanks first, using a word segmenter for the language"
    )

"""From a sentence to words, as in DVSA: lower case, characters that are neither letters nor digits dropped."""


class _Kept(dict[int, str | None]):
    """What str.translate makes of each character; decided once for each, since captions repeat a few dozen."""

    def __missing__(self, code: int) -> str | None:
        character = chr(code)
        self[code] = character if character.isalnum() or character.isspace() else None
        return self[code]


_kept = _Kept()


def tokenize(sentence: str) -> list[str]:
    """Words of a sentence.

    Lower-cased; every character that is neither alphanumeric nor white space is deleted (so "tee-shirt" gives
    "teeshirt"); split at white space. Letters of every script count. The rule is the one of DVSA section 4; m-RNN's
    own could not be established.
    """
    return sentence.lower().translate(_kept).split()

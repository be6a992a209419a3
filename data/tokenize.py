"""From a sentence to words, as in DVSA: lower case, characters that are neither letters nor digits dropped."""

import re

# What is neither `str.isalnum` nor `str.isspace`: to Python \w means alphanumeric or underscore, in every script.
DROPPED = re.compile(r"[^\w\s]|_")


def tokenize(sentence: str) -> list[str]:
    """Words of a sentence.

    Lower-cased; every character that is neither alphanumeric nor white space is deleted (so "tee-shirt" gives
    "teeshirt"); split at white space. Letters of every script count. The rule is the one of DVSA section 4; m-RNN's
    own could not be established.
    """
    return DROPPED.sub("", sentence.lower()).split()

"""From captions as people and files hold them to the words that scorers take."""

import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence

from mrnn.data.tokenize import MARKS as MARK_CATEGORIES
from mrnn.data.tokenize import segmentation_warning, tokenize
from mrnn.evaluate.metrics.ptb import ptb_tokenize
from mrnn.evaluate.metrics.ptb_characters import LETTERS, MARKS, character_class

TOKENIZERS: dict[str, Callable[[Sequence[str]], list[list[str]]]] = {
    # A model's captions are composed (NFC), since its words are; references may have an accent apart.
    # Captions that are composed already, as English ones are, get coco-caption's tokens to the letter.
    "ptb": lambda sentences: ptb_tokenize([unicodedata.normalize("NFC", sentence) for sentence in sentences]),
    "plain": lambda sentences: [tokenize(sentence) for sentence in sentences],
}
TOKEN_DEFINITIONS = {
    "ptb": "as in coco-caption: PTB tokens in small letters, its list of punctuation dropped",
    "plain": "lower-cased, characters that are neither letters nor digits dropped (the words the models learn)",
}
# Of these scripts coco-caption's tokeniser knows the letters, but not all the vowel signs, and parts words there.
PARTED_BY_PTB = re.compile(f"(?![{character_class(LETTERS + MARKS)}])[\u0900-\u1fff\ua800-\uabff]")
Candidates = dict[str, list[str]]
References = dict[str, list[list[str]]]


def tokenize_all(
    candidates: Mapping[str, str], references: Mapping[str, Sequence[str]], *, tokenizer: str
) -> tuple[Candidates, References]:
    """The words of one candidate per image, and of the references of the same images, in the order of the candidates.

    tokenizer : one of TOKENIZERS. Candidates and references are tokenised as two lists, as coco-caption does, since
    with `ptb` a sentence can depend on the one after it.
    """
    split = TOKENIZERS[tokenizer]
    said = dict(zip(candidates, split(list(candidates.values())), strict=True))
    words: Iterator[list[str]] = iter(split([sentence for image in candidates for sentence in references[image]]))
    return said, {image: [next(words) for _ in references[image]] for image in candidates}


def script_warnings(sentences: Sequence[str], *, tokenizer: str) -> list[str]:
    """Warnings for sentences in scripts whose words the tokenizer cannot tell apart, naming the scripts."""
    warnings = [segmentation_warning(sentences)]
    if tokenizer == "ptb":
        parted: set[str] = set()
        for sentence in sentences:
            if not sentence.isascii():
                marks = PARTED_BY_PTB.findall(unicodedata.normalize("NFC", sentence))
                parted.update(unicodedata.name(c, "?").split()[0].title() for c in marks if _is_mark(c))
        if parted:
            warnings.append(
                f"warning: coco-caption's tokeniser splits words in {', '.join(sorted(parted))} at their vowel signs; "
                "--tokenizer plain keeps them whole"
            )
    return [warning for warning in warnings if warning]


def _is_mark(character: str) -> bool:
    return unicodedata.category(character) in MARK_CATEGORIES

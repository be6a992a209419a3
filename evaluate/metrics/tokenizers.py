"""From captions as people and files hold them to the words that scorers take."""

from collections.abc import Callable, Iterator, Mapping, Sequence

from mrnn.data.tokenize import tokenize
from mrnn.evaluate.metrics.ptb import ptb_tokenize

TOKENIZERS: dict[str, Callable[[Sequence[str]], list[list[str]]]] = {
    "ptb": ptb_tokenize,
    "plain": lambda sentences: [tokenize(sentence) for sentence in sentences],
}
TOKEN_DEFINITIONS = {
    "ptb": "as in coco-caption: PTB tokens in small letters, its list of punctuation dropped",
    "plain": "lower-cased, characters that are neither letters nor digits dropped (the words the models learn)",
}
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

"""ROUGE-L: the longest common subsequence of a caption and its references (Lin 2004, section 3)."""

from collections.abc import Sequence

BETA = 1.2  # weight of recall, coco-caption's


def rouge_l_score(candidate: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """F of precision and recall of the longest common subsequence, a fraction; 0 for a candidate without words.

    candidate : words of a caption
    references : sentences as words, at least one word each

    Lin takes the best F of all references. coco-caption, and so this function, takes the best precision and the best
    recall, which may be of two references.
    """
    if not candidate:
        return 0.0
    common = common_words(candidate, references)
    precision = max(common) / len(candidate)
    recall = max(length / len(reference) for length, reference in zip(common, references, strict=True))
    if not precision:
        return 0.0
    return (1 + BETA**2) * precision * recall / (recall + BETA**2 * precision)


def common_words(candidate: Sequence[str], references: Sequence[Sequence[str]]) -> list[int]:
    """Length of the longest common subsequence with each reference.

    The row of the dynamic programme is the bits of one integer: a bit is 0 where the length grows along the candidate,
    and the next row takes four operations (Hyyrö 2004, Bit-parallel LCS-length computation revisited).
    """
    places: dict[str, int] = {}
    for place, word in enumerate(candidate):
        places[word] = places.get(word, 0) | 1 << place
    full = (1 << len(candidate)) - 1
    lengths = []
    for reference in references:
        row = full
        for word in reference:
            matches = row & places.get(word, 0)
            row = (row + matches) | (row - matches)
        lengths.append(len(candidate) - (row & full).bit_count())
    return lengths

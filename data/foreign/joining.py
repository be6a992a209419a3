"""Which image of a data set each image of a source is: by id, by path or name, or by its captions."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import PurePosixPath

import numpy as np

from mrnn.data.captions import Corpus
from mrnn.data.errors import CacheError
from mrnn.data.foreign.source import Source

NOBODY = -1
# What the ids of others can be, in the order in which equal successes are decided.
NAMES = {
    "id": lambda image: image.id,
    "path": lambda image: image.path,
    "file name": lambda image: PurePosixPath(image.path).name,
    "file name without suffix": lambda image: PurePosixPath(image.path).stem,
}


def join(sources: Sequence[Source], corpus: Corpus) -> tuple[list[np.ndarray], str]:
    """The number of each source's images in the corpus, (n,) int64, NOBODY for strays; and by what they were joined.

    Ids are compared with what NAMES makes of the images, and the one of these that fits most of a source's ids is
    used. Captions decide, where a source has them: ids are used then only if they never contradict the captions.
    Raises CacheError if no image is of the corpus, or one has two rows.
    """
    found = [_join_one(source, corpus) for source in sources]
    seen: dict[int, str] = {}
    for source, (places, _) in zip(sources, found, strict=True):
        for number, place in enumerate(places.tolist()):
            if place != NOBODY and place in seen:
                raise CacheError(
                    f"{corpus.images[place].id!r} has two rows, {seen[place]} and {source.where(number)}; import files "
                    "in which every image has one"
                )
            seen[place] = source.where(number)
    if not any((places != NOBODY).any() for places, _ in found):
        source = sources[0]
        example = f"the first is {source.ids[0]!r}" if source.ids else "joined by captions"
        raise CacheError(f"{source.path}: no id is an image of {corpus.name} ({example}); pass --ids FILE")
    return [places for places, _ in found], ", ".join(dict.fromkeys(rule for _, rule in found))


def _join_one(source: Source, corpus: Corpus) -> tuple[np.ndarray, str]:
    by_captions = _by_captions(source.sentences, corpus) if source.sentences else None
    if source.ids is None:
        if by_captions is not None:
            return by_captions, "captions"
        assert source.count == len(corpus.images)
        return np.arange(source.count), "order"
    by_ids, rule = _by_ids(source.ids, corpus)
    if by_captions is None or (by_captions == NOBODY).all():
        return by_ids, rule
    both = (by_ids != NOBODY) & (by_captions != NOBODY)
    if not both.any() or (by_ids[both] != by_captions[both]).any():
        return by_captions, "captions"
    return np.where(by_ids == NOBODY, by_captions, by_ids), rule


def _by_ids(ids: Sequence[str], corpus: Corpus) -> tuple[np.ndarray, str]:
    best, rule = np.full(len(ids), NOBODY), "id"
    for name, name_of in NAMES.items():
        numbers = _unique([name_of(image) for image in corpus.images])
        places = np.array([numbers.get(image_id, NOBODY) for image_id in ids], dtype=np.int64)
        if (places != NOBODY).sum() > (best != NOBODY).sum():
            best, rule = places, name
    return best, rule


def _unique(names: Sequence[str]) -> dict[str, int]:
    """Numbers of the names that occur once."""
    counts = Counter(names)
    return {name: number for number, name in enumerate(names) if counts[name] == 1}


def _by_captions(sentences: Sequence[tuple[str, ...]], corpus: Corpus) -> np.ndarray:
    """The image that has at least half of the captions, and more of them than any other image."""
    owners: dict[str, set[int]] = defaultdict(set)
    for number, image in enumerate(corpus.images):
        for sentence in image.sentences:
            owners[_letters(sentence)].add(number)
    places = np.full(len(sentences), NOBODY)
    for row, captions in enumerate(sentences):
        votes = Counter(number for caption in captions for number in owners.get(_letters(caption), ()))
        ranked = votes.most_common(2)
        if ranked and 2 * ranked[0][1] >= len(captions) and (len(ranked) < 2 or ranked[1][1] < ranked[0][1]):
            places[row] = ranked[0][0]
    return places


def _letters(sentence: str) -> str:
    """Letters and digits only: projects tokenise captions, and drop punctuation, each in its own way."""
    return "".join(filter(str.isalnum, sentence.lower()))

"""The pairs of regions and words that `align-sentences` writes: what a generator of region descriptions learns from.

DVSA (Karpathy and Fei-Fei 2015, arXiv 1412.2306) trains its generator on them in place of pictures and sentences.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mrnn.data.annotation_files import json_field, parse_json
from mrnn.data.cache import FeatureCache
from mrnn.data.errors import CorpusError
from mrnn.data.tokenize import tokenize
from mrnn.data.vocabulary import Vocabulary
from mrnn.train.features import valid_rows
from mrnn.train.sentences import Sentences, encode_sentences

SLACK = 0.01  # pixels; the file has two digits
Pair = tuple[int, int, int, int, int]  # a column of each field of `Segments`


@dataclass(frozen=True)
class Segments:
    """Pairs of a region and the words that speak of it.

    image : (S,) int64, number of each pair's image in the cache. number : (S,) int64, which of its sentences.
    first, end : (S,) int64, first token of the words in that sentence, and the one past the last.
    row : (S,) int64, of the region's features among all rows of the cache.
    """

    image: np.ndarray
    number: np.ndarray
    first: np.ndarray
    end: np.ndarray
    row: np.ndarray

    def __len__(self) -> int:
        return len(self.row)

    def __getitem__(self, chosen: slice | np.ndarray) -> "Segments":
        """Some of the pairs."""
        columns = (self.image, self.number, self.first, self.end, self.row)
        return Segments(*(column[chosen] for column in columns))

    def sentences(self, cache: FeatureCache, vocabulary: Vocabulary) -> Sentences:
        """The words as sentences whose `image` is the row of the region."""
        return encode_sentences(self.words(cache), self.row, vocabulary)

    def words(self, cache: FeatureCache) -> list[list[str]]:
        """The words of each pair."""
        found: list[list[str]] = []
        said, tokens = (-1, -1), list[str]()
        columns = (self.image, self.number, self.first, self.end)
        for image, number, first, end in zip(*(column.tolist() for column in columns), strict=True):
            if (image, number) != said:  # the pairs of a sentence follow each other
                said, tokens = (image, number), tokenize(cache.images[image].sentences[number])
            found.append(tokens[first:end])
        return found


@dataclass(frozen=True)
class SegmentFile:
    """path : of the file. by_split : the pairs of each split that has some. sha256 : of the file's bytes, in hex."""

    path: Path
    by_split: dict[str, Segments]
    sha256: str

    def of(self, split: str) -> Segments:
        """The pairs of a split. Raises CorpusError if there are none."""
        if split not in self.by_split:
            there = ", ".join(f"{name or 'none'}: {len(each)}" for name, each in self.by_split.items()) or "no line"
            raise CorpusError(
                f"{self.path} has no segments of the split {split!r} ({there}); write it with align-sentences --split "
                "train,val"
            )
        return self.by_split[split]


def read_segments(path: str | Path, cache: FeatureCache, *, any_regions: bool = False) -> SegmentFile:
    """The pairs of a file of JSON lines that `align-sentences` wrote, with the rows of a cache that they belong to.

    The cache may hold other features than the one that was aligned, but must have the same sentences and, in the same
    rows, the same regions.

    path : the file.
    cache : the opened feature cache.
    any_regions : accept regions that the cache does not have, for those who need the words alone; `row` means nothing.

    Raises CorpusError for a file of another form or of another cache; the message names the line.
    """
    path = Path(path)
    rows = Rows(cache, any_regions=any_regions)
    found: dict[str, list[Pair]] = {}
    digest = hashlib.sha256()
    try:
        with path.open("rb") as stream:
            for number, line in enumerate(stream, start=1):
                digest.update(line)
                image, pairs = rows.pairs(line.decode(), where=f"{path}, line {number}")
                found.setdefault(cache.images[image].split, []).extend(pairs)
    except OSError as error:
        raise CorpusError(f"{path}: the segments cannot be read ({error.strerror or error})") from error
    except UnicodeDecodeError as error:
        raise CorpusError(f"{path}: not UTF-8 text, so not a file of align-sentences") from error
    by_split = {split: Segments(*np.array(pairs, dtype=np.int64).T) for split, pairs in found.items() if pairs}
    return SegmentFile(path, by_split, digest.hexdigest())


class Rows:
    """The rows of a cache by image id and number of the region."""

    def __init__(self, cache: FeatureCache, *, any_regions: bool) -> None:
        self._cache, self._any = cache, any_regions
        self._numbers = {image.id: number for number, image in enumerate(cache.images)}
        self._valid = valid_rows(cache)
        self._rectangles = cache.regions.rectangles.reshape(*self._valid.shape, 4)

    def pairs(self, line: str, *, where: str) -> tuple[int, list[Pair]]:
        """The number of the image of a line, and its pairs. where : the line, for messages."""
        record = parse_json(line, where=where)
        image_id, number = (
            json_field(record, "image_id", str, where=where),
            json_field(record, "number", int, where=where),
        )
        image = self._numbers.get(image_id, -1)
        sentences = self._cache.images[image].sentences if image >= 0 else ()
        if not 0 <= number < len(sentences) or record.get("sentence") != sentences[number]:
            raise self._foreign(where, f"sentence number {number} of the image {image_id!r} like this one")
        words, rectangles = len(tokenize(sentences[number])), self._rectangles[image].tolist()
        pairs = []
        for each in json_field(record, "segments", list, where=where):
            first, end, region = (json_field(each, key, int, where=where) for key in ("first", "end", "region"))
            if not 0 <= first < end <= words:
                raise CorpusError(f"{where}: words {first} to {end} are no part of a sentence of {words} words")
            there = 0 <= region < len(rectangles) and self._valid[image, region]
            if not self._any and not (there and is_rectangle(each.get("rectangle"), rectangles[region])):
                raise self._foreign(where, f"region {region} of the image {image_id!r} with this rectangle")
            pairs.append((image, number, first, end, image * len(rectangles) + region))
        return image, pairs

    def _foreign(self, where: str, lacking: str) -> CorpusError:
        return CorpusError(
            f"{where}: {self._cache.path} has no {lacking}; give the cache that the segments were made of, or one with "
            "the same sentences and regions"
        )


def is_rectangle(value: Any, rectangle: list[float]) -> bool:
    """Whether a JSON value is this rectangle, but for rounding."""
    try:
        return len(value) == 4 and all(abs(one - other) <= SLACK for one, other in zip(value, rectangle, strict=True))
    except TypeError:
        return False

"""The regions of a cache that phrases name: what people call them, and how well one of them agrees with the others.

The boxes of Flickr30k Entities (Plummer et al. 2017) stand in for the regions that DVSA had people describe.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mrnn.data.cache import FeatureCache
from mrnn.data.tokenize import tokenize
from mrnn.train.features import valid_rows

SLACK = 0.01  # pixels; what cutting a box to its picture in float32 may change
UNKNOWN = -1  # the sentence of a phrase that belongs to no caption of the cache

Words = list[str]


@dataclass(frozen=True)
class NamedRegion:
    """A region that is a box with phrases.

    image : number of its image in the cache. row : of its features among all rows of the cache.
    name : the image's id and the number of the region, the whole picture being 0.
    phrases : as the data set has them, each with a word. sentences : which of the image's sentences each is in.
    """

    image: int
    row: int
    name: str
    phrases: tuple[str, ...]
    sentences: tuple[int, ...]

    def references(self) -> list[Words]:
        """The phrases as words."""
        return [tokenize(phrase) for phrase in self.phrases]

    def by_others(self, number: int) -> list[Words]:
        """The phrases, as words, of other sentences, and so of other people, than phrase `number`."""
        own = self.sentences[number]
        return [
            words
            for other, (words, sentence) in enumerate(zip(self.references(), self.sentences, strict=True))
            if other != number and (sentence != own or own == UNKNOWN)
        ]


def named_regions(cache: FeatureCache, images: Sequence[int] | np.ndarray) -> list[NamedRegion]:
    """The regions of some images that are boxes named by a phrase with a word, in the order of the rows.

    A region is a box if it has its place; of several boxes in one place the phrases are taken together.
    """
    valid = valid_rows(cache)
    rectangles = cache.regions.rectangles.reshape(*valid.shape, 4).astype(np.float64)
    found = []
    for number in map(int, images):
        image = cache.images[number]
        boxes = [box for box in image.boxes if tokenize(box.phrase)]
        if not boxes:
            continue
        places = np.array([(box.left, box.top, box.left + box.width, box.top + box.height) for box in boxes])
        places = places.clip(0, np.tile(rectangles[number, 0, 2:], 2))
        places[:, 2:] -= places[:, :2]
        same = np.abs(rectangles[number, :, None] - places).max(axis=2) <= SLACK  # (R, K)
        same[0] = False
        for region in np.flatnonzero(same.any(axis=1) & valid[number]).tolist():
            named = [box for box, here in zip(boxes, same[region], strict=True) if here]
            found.append(
                NamedRegion(
                    number,
                    number * cache.rows_per_image + region,
                    f"{image.id}#{region}",
                    tuple(box.phrase for box in named),
                    tuple(box.sentence for box in named),
                )
            )
    return found


def people(
    regions: Sequence[NamedRegion], generator: np.random.Generator
) -> tuple[dict[str, Words], dict[str, list[Words]]]:
    """One phrase of each region that several people name, drawn at random, and the phrases of the others, by name."""
    said, others = {}, {}
    for region in regions:
        chosen = int(generator.integers(len(region.phrases)))
        if left := region.by_others(chosen):
            said[region.name], others[region.name] = tokenize(region.phrases[chosen]), left
    return said, others

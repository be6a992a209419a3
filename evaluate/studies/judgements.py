"""People's judgements of image-caption pairs, read from the files that belong to Flickr8k.

The protocol is that of the caption-metric papers since SPICE (Anderson et al. 2016), as the code of CLIPScore (Hessel
et al. 2021, github.com/jmhessel/clipscore, flickr8k_example) spells it out:

    Flickr8k-Expert   three ratings from 1 to 4 of each of 5,822 pairs. Pairs whose caption is one of the image's own
                      (158) are left out. Ratings are not averaged: each of the remaining 16,992 is compared with the
                      score of its pair. Kendall's tau-c.
    Flickr8k-CF       the share of yes votes of each of 47,830 pairs, none left out. An image's own caption that was
                      judged for it is removed from its references, for all pairs of the image. Kendall's tau-b.

Whether a caption is an image's own is decided by its text. mrnn.evaluate.studies.agreement computes both coefficients
for both sets.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from mrnn.data.annotation_files import find_file, not_found, read_lines
from mrnn.data.errors import CorpusError
from mrnn.data.flickr import FLICKR8K, captions_by_id
from mrnn.data.tokenize import tokenize

EXPERT_FORM = "an image, a caption name.jpg#k and three ratings from 1 to 4, with tabs between"
CROWD_FORM = "an image, a caption name.jpg#k, the share of yes, the yeses and the noes, with tabs between"


@dataclass(frozen=True)
class Judgements:
    """People's judgements of P pairs of an image and a caption.

    coefficient : 'tau_b' or 'tau_c', which the papers report for this set
    images, captions : (P,) ids of the images and texts of the captions
    references : (P,) captions of the image that a metric may compare with
    ratings : (P, K) float64, K judgements of each pair, higher is better
    left_out : number of pairs that the protocol leaves out
    """

    name: str
    coefficient: str
    images: tuple[str, ...]
    captions: tuple[str, ...]
    references: tuple[tuple[str, ...], ...]
    ratings: np.ndarray
    left_out: int = 0

    def __len__(self) -> int:
        return len(self.images)

    def only(self, chosen: np.ndarray) -> "Judgements":
        """The pairs chosen by (P,) bool."""
        kept = np.flatnonzero(chosen)
        return replace(
            self,
            images=tuple(self.images[i] for i in kept),
            captions=tuple(self.captions[i] for i in kept),
            references=tuple(self.references[i] for i in kept),
            ratings=self.ratings[kept],
        )


def read_judgements(root: str | Path) -> tuple[Judgements, Judgements]:
    """Flickr8k-Expert and Flickr8k-CF, from the folder of Flickr8k, which holds the captions too.

    Raises CorpusError if a file is missing, a line is not of the known form, or a pair has no caption or no references.
    """
    root = Path(root)
    captions = captions_by_id(root)
    own: dict[str, list[str]] = defaultdict(list)
    for caption_id, text in captions.items():
        own[caption_id.rpartition("#")[0]].append(text)
    rated = _read_pairs(root, "ExpertAnnotations.txt", captions, form=EXPERT_FORM, parse=parse_expert)
    voted = _read_pairs(root, "CrowdFlowerAnnotations.txt", captions, form=CROWD_FORM, parse=parse_crowd)
    judged: dict[str, set[str]] = defaultdict(set)
    for image, text, _ in voted:
        judged[image].add(text)
    others = {image: [text for text in own[image] if text not in texts] for image, texts in judged.items()}
    foreign = [pair for pair in rated if pair[1] not in own[pair[0]]]
    return (
        _assemble("Flickr8k-Expert", "tau_c", foreign, own, left_out=len(rated) - len(foreign)),
        _assemble("Flickr8k-CF", "tau_b", voted, others),
    )


def parse_expert(fields: Sequence[str]) -> list[float]:
    """Three ratings from 1 to 4. Raises ValueError for anything else."""
    ratings = [float(field) for field in fields]
    if any(rating not in (1, 2, 3, 4) for rating in ratings):
        raise ValueError("not ratings from 1 to 4")
    return ratings


def parse_crowd(fields: Sequence[str]) -> list[float]:
    """The share of yes, which must be that of the votes behind it. Raises ValueError otherwise."""
    share, yes, no = float(fields[0]), int(fields[1]), int(fields[2])
    if yes < 0 or no < 0 or not yes + no or abs(share - yes / (yes + no)) > 1e-5:
        raise ValueError("the share is not that of the votes")
    return [yes / (yes + no)]


Pair = tuple[str, str, list[float]]


def _read_pairs(
    root: Path, name: str, captions: Mapping[str, str], *, form: str, parse: Callable[[Sequence[str]], list[float]]
) -> list[Pair]:
    """(image, text of the caption, ratings) of every line of a judgement file."""
    path = find_file(root, FLICKR8K.folders, (name,))
    if path is None:
        raise not_found(FLICKR8K.name, "file of judgements", root, (name,))
    pairs = []
    for number, line in read_lines(path):
        try:
            image, caption, *fields = line.strip().split("\t")
            if len(fields) != 3:
                raise ValueError("not five columns")
            ratings = parse(fields)
        except ValueError:
            raise CorpusError(f"{path}, line {number}: expected {form}, found {line[:80]!r}") from None
        if caption not in captions:
            raise CorpusError(f"{path}, line {number}: the captions of the data set have no {caption!r}")
        pairs.append((image, captions[caption], ratings))
    if not pairs:
        raise CorpusError(f"{path}: it holds no judgement; is the file whole?")
    return pairs


def _assemble(
    name: str, coefficient: str, pairs: Sequence[Pair], references: Mapping[str, Sequence[str]], *, left_out: int = 0
) -> Judgements:
    for image, *_ in pairs:
        if not any(tokenize(text) for text in references.get(image, ())):
            raise CorpusError(f"{name}: the judged image {image!r} has no captions to compare with in the data set")
    return Judgements(
        name,
        coefficient,
        images=tuple(image for image, *_ in pairs),
        captions=tuple(text for _, text, _ in pairs),
        references=tuple(tuple(references[image]) for image, *_ in pairs),
        ratings=np.array([ratings for *_, ratings in pairs]),
        left_out=left_out,
    )

"""What every data set reader returns: images with their splits, sentences and boxes.

A `Corpus` is text only. The extraction stage finds out whether a file exists and can be decoded; a reader looks at the
folder only to list what is missing. The order of `Corpus.images` is the order of the rows of a feature cache.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from mrnn.data.errors import CorpusError

SPLITS = ("train", "val", "test")
NO_WORDS = (-1, -1)


@dataclass(frozen=True, slots=True)
class Box:
    """A part of an image that a phrase of one of its sentences names.

    left, top, width, height : pixels of the upright image, counted from 0.
    sentence : index into `Image.sentences`, or -1 where the phrase belongs to none.
    words : first word of the phrase in that sentence, split at blanks, and one past its last; NO_WORDS where unknown.
    kind : what the annotators call it ('people', 'clothing', ...), '' where they do not.
    """

    left: float
    top: float
    width: float
    height: float
    phrase: str
    sentence: int = -1
    words: tuple[int, int] = NO_WORDS
    kind: str = ""


@dataclass(frozen=True, slots=True)
class Image:
    """An image of a data set.

    id : the data set's own name for it (the file name; for COCO the integer, in digits).
    path : its path relative to the root, with forward slashes.
    split : 'train', 'val', 'test', or '' for none.
    sentences : raw text as in the data file, stripped of surrounding blanks; any number.
    """

    id: str
    path: str
    split: str
    sentences: tuple[str, ...]
    boxes: tuple[Box, ...] = ()


@dataclass(frozen=True, slots=True)
class Problem:
    """Something in the data files that the user should know about; it is counted and listed, never silently dropped.

    kind : a short phrase by which problems are counted, such as 'captions without a picture'.
    subject : the id, file or line concerned.
    detail : more about it.

    Characters that no file can store (see `Corpus`) are escaped, since they may be what is wrong.
    """

    kind: str
    subject: str
    detail: str = ""

    def __post_init__(self) -> None:
        for name in ("kind", "subject", "detail"):
            text: str = getattr(self, name)
            if not is_storable(text):
                storable = text.replace("\0", "\\0").encode(errors="backslashreplace").decode()
                object.__setattr__(self, name, storable)


@dataclass(frozen=True)
class Corpus:
    """A whole data set as read.

    root : the folder that `Image.path` is relative to.
    integer_ids : the data set's ids are integers (COCO), and result files must hold them so.
    notes : decisions of the reader, a line each, such as a held-out validation split.
    pictures_lacking : why there are no image files, if the data set came without; its captions are useful even so.

    Raises CorpusError for two images with one id, a split other than SPLITS or '', or text that no file can store.
    """

    name: str
    root: Path
    images: tuple[Image, ...]
    problems: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()
    integer_ids: bool = False
    pictures_lacking: str = ""

    def __post_init__(self) -> None:
        twice = [image_id for image_id, count in Counter(image.id for image in self.images).items() if count > 1]
        if twice:
            raise CorpusError(f"{self.name}: the image id {twice[0]!r} is used by more than one image")
        for image in self.images:
            if image.split and image.split not in SPLITS:
                raise CorpusError(f"{self.name}: image {image.id!r} has the unknown split {image.split!r}")
            for text in (
                image.id,
                image.path,
                *image.sentences,
                *(text for box in image.boxes for text in (box.phrase, box.kind)),
            ):
                if not is_storable(text):
                    raise CorpusError(
                        f"{self.name}: image {image.id!a} has text with a NUL or half a surrogate pair: {text[:80]!a}"
                    )

    def count(self, split: str) -> int:
        """Number of images in a split ('' for those in none)."""
        return sum(image.split == split for image in self.images)

    def sha256(self) -> str:
        """Hex digest over ids, paths, splits, sentences and boxes in their order: equal digests, equal annotations."""
        digest = hashlib.sha256()
        for image in self.images:
            boxes = [_plain_box(box) for box in image.boxes]
            digest.update(json.dumps([image.id, image.path, image.split, image.sentences, boxes]).encode())
            digest.update(b"\n")
        return digest.hexdigest()

    def limited(self, n: int) -> "Corpus":
        """The trial corpus of `--limit n`: n images, in proportion to the splits; images in no split are left out.

        They are always the same ones, evenly spaced in the order of each split. Every split that has images keeps at
        least one as long as n allows it. If the splits have fewer than n images, all of them are kept.
        """
        if n < 1:
            raise CorpusError(f"a limit must be at least 1 image, not {n}")
        members = {split: [i for i, image in enumerate(self.images) if image.split == split] for split in SPLITS}
        members = {split: indices for split, indices in members.items() if indices}
        total = sum(map(len, members.values()))
        n = min(n, total)
        shares = {split: n * len(indices) / total for split, indices in members.items()}
        least = int(n >= len(members))
        counts = {split: max(int(share), least) for split, share in shares.items()}
        while sum(counts.values()) > n:
            above = [split for split in counts if counts[split] > least]
            counts[max(above, key=lambda split: counts[split] - shares[split])] -= 1
        while sum(counts.values()) < n:
            counts[min(counts, key=lambda split: counts[split] - shares[split])] += 1
        kept = sorted(
            indices[position * len(indices) // counts[split]]
            for split, indices in members.items()
            for position in range(counts[split])
        )
        return replace(self, images=tuple(self.images[i] for i in kept))


def _plain_box(box: Box) -> list[object]:
    """A box for a digest; what only some annotations have is left out of the others, whose digests thus stay."""
    rectangle = [float(box.left), float(box.top), float(box.width), float(box.height)]
    extra = [*box.words, box.kind] if box.words != NO_WORDS or box.kind else []
    return [*rectangle, box.phrase, box.sentence, *extra]


def is_storable(text: str) -> bool:
    """Whether UTF-8 and HDF5 can store the text: it has no NUL and no half of a surrogate pair."""
    return "\0" not in text and (text.isascii() or not any("\ud800" <= c <= "\udfff" for c in text))


def relative_path(text: str, *, where: str) -> str:
    """A path from a data file as a clean relative one with forward slashes.

    where : the file (and line) that contains it, for the message.
    Raises CorpusError if it is empty, absolute, or leads out of the root.
    """
    path = PurePosixPath(text.replace("\\", "/"))
    drive = len(text) > 1 and text[1] == ":"
    if not text.strip() or path.is_absolute() or drive or ".." in path.parts or "\0" in text or not path.parts:
        raise CorpusError(f"{where}: the path {text!r} leads outside the data set's folder; it must be relative to it")
    return str(path)


def seeded_order(ids: Iterable[str], *, seed: int = 0) -> list[str]:
    """The ids in a random order that depends on the seed and the ids alone, not on the order in which they come."""
    return sorted(
        ids, key=lambda image_id: hashlib.sha256(f"{seed}:{image_id}".encode(errors="surrogatepass")).digest()
    )


def seeded_split(ids: Sequence[str], *, val: int, test: int, seed: int = 0) -> dict[str, str]:
    """Split ids at random into `test`, `val` and, for the rest, `train`; the same ids give the same splits."""
    order = seeded_order(ids, seed=seed)
    return {
        image_id: "test" if position < test else "val" if position < test + val else "train"
        for position, image_id in enumerate(order)
    }

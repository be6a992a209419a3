"""Flickr30k Entities (Plummer et al., IJCV 2017): the boxes of the phrases of Flickr30k's captions.

Two forms are read: the authors' own (Sentences/ID.txt, Annotations/ID.xml), and one file of JSON lines with a
photograph each (`entities_flickr8k.jsonl.gz`). Photographs are joined by their number, which Flickr8k's names begin
with; sentences by their text but for case, blanks and the final stop. Boxes are counted from 1 with both ends
included, in pixels of the published photograph; they become pixels of the file that is there, whatever its size.
"""

import re
import xml.etree.ElementTree as ElementTree
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mrnn.data.annotation_files import (
    json_field,
    not_found,
    parse_json,
    read_lines,
    read_text,
    require_folder,
)
from mrnn.data.assembly import Draft, assemble
from mrnn.data.captions import NO_WORDS, Box, Corpus, Image, Problem
from mrnn.data.errors import CorpusError
from mrnn.data.picture_files import picture_size
from mrnn.data.pictures import find_pictures
from mrnn.data.splits import find_split_lists, random_splits, read_split_lists

NAME = "flickr30k-entities"
SENTENCES, ANNOTATIONS = "Sentences", "Annotations"
PICTURES = ("flickr30k-images", "flickr30k_images", "Images", "images", "")
LISTS = {"train": ("train.txt",), "val": ("val.txt",), "test": ("test.txt",)}
NOT_VISUAL = "0"
PHRASE = re.compile(r"\[/EN#(?P<chain>\d+)/(?P<kind>[^\s\]]*)\s+(?P<words>[^\]]*)\]")


@dataclass(frozen=True, slots=True)
class Phrase:
    """Words begin to end - 1 of a sentence. chain : what they mean; equal chains mean the same thing."""

    begin: int
    end: int
    chain: str
    kind: str


@dataclass(frozen=True, slots=True)
class Annotated:
    """A photograph as annotated.

    boxes : chain -> (xmin, ymin, xmax, ymax), counted from 1, both ends included; a chain may have several.
    sentences : words with the phrases among them.
    """

    width: int
    height: int
    boxes: Mapping[str, list[tuple[int, int, int, int]]]
    sentences: tuple[tuple[list[str], list[Phrase]], ...]


def read_entities(root: str | Path) -> Corpus:
    """The data set of a folder in the authors' layout, with its own sentences, and the split lists in it."""
    root = require_folder(root, NAME)
    annotated = dict(_read_folder(root))
    drafts = {
        f"{number}.jpg": Draft(
            f"{number}.jpg", f"{number}.jpg", sentences=[" ".join(words) for words, _ in photograph.sentences]
        )
        for number, photograph in annotated.items()
    }
    lists = find_split_lists(root, ("",), LISTS)

    def resolve(line: str) -> str:
        return line if line.endswith(".jpg") else f"{line}.jpg"

    splits = read_split_lists(lists, resolve=resolve) if lists else random_splits(drafts)
    for image_id in splits.by_id:
        drafts.setdefault(image_id, Draft(image_id, image_id))
    pictures = find_pictures(root, PICTURES, name=NAME, named=drafts)
    for draft in drafts.values():
        draft.path, draft.split = pictures.prefix + draft.path, splits.by_id.get(draft.id, "")
    notes = [f"captions from {SENTENCES}/", splits.note]
    corpus = assemble(NAME, root, drafts=drafts.values(), pictures=pictures, problems=splits.problems, notes=notes)
    return _join(corpus, annotated, where=ANNOTATIONS)


def add_boxes(corpus: Corpus, path: Path) -> Corpus:
    """The corpus with the boxes of Flickr30k Entities instead of its own.

    path : a file of JSON lines (also .gz), or a folder in the authors' layout.
    Photographs without boxes and annotated sentences that no caption equals are listed among the problems; the boxes
    of the latter stay, with sentence -1. Raises CorpusError if no photograph at all is among the corpus's.
    """
    annotated = dict(_read_folder(path) if path.is_dir() else _read_json_lines(path))
    return _join(corpus, annotated, where=path.name)


def _join(corpus: Corpus, annotated: Mapping[str, Annotated], *, where: str) -> Corpus:
    images, problems, strays, phrases = [], list(corpus.problems), 0, 0
    for image in corpus.images:
        photograph = annotated.get(_number(image.id))
        if photograph is None:
            problems.append(Problem("images without annotated boxes", image.id, where))
            images.append(replace(image, boxes=()))
            continue
        size = None if corpus.pictures_lacking else picture_size(corpus.root / image.path)
        boxes, unmatched = _boxes(photograph, image, size or (photograph.width, photograph.height))
        problems += [Problem("annotated sentences that no caption equals", image.id, text) for text in unmatched]
        strays += len(unmatched)
        phrases += len({(box.sentence, box.words, box.phrase) for box in boxes})
        images.append(replace(image, boxes=tuple(boxes)))
    if not any(image.boxes for image in images):
        example = corpus.images[0].id if corpus.images else "none"
        raise CorpusError(f"{where}: no photograph of {corpus.name} has a box in it (the first is {example!r})")
    note = (
        f"boxes from {where}: {sum(len(image.boxes) for image in images)} boxes for {phrases} "
        f"phrases of {sum(bool(image.boxes) for image in images)} images; {strays} annotated sentences equal no caption"
    )
    return replace(corpus, images=tuple(images), problems=tuple(problems), notes=(*corpus.notes, note))


def _boxes(photograph: Annotated, image: Image, size: tuple[int, int]) -> tuple[list[Box], list[str]]:
    """The boxes of a photograph's phrases in pixels of a picture of that size, and sentences that are no caption."""
    by_text: dict[str, list[int]] = defaultdict(list)
    for index, caption in enumerate(image.sentences):
        by_text[_key(caption)].append(index)
    boxes, unmatched = [], []
    for words, phrases in photograph.sentences:
        same = by_text[_key(" ".join(words))]
        sentence = same.pop(0) if same else -1
        if sentence < 0:
            unmatched.append(" ".join(words))
        for phrase in phrases:
            if phrase.chain == NOT_VISUAL:
                continue
            text = " ".join(words[phrase.begin : phrase.end])
            place = NO_WORDS if sentence < 0 else _same_words(words, phrase, image.sentences[sentence].split())
            for xmin, ymin, xmax, ymax in photograph.boxes.get(phrase.chain, ()):
                left, right = ((xmin - 1) * size[0] / photograph.width, xmax * size[0] / photograph.width)
                top, bottom = ((ymin - 1) * size[1] / photograph.height, ymax * size[1] / photograph.height)
                boxes.append(Box(left, top, right - left, bottom - top, text, sentence, place, phrase.kind))
    return boxes, unmatched


def _same_words(words: list[str], phrase: Phrase, caption: list[str]) -> tuple[int, int]:
    """Which words of a caption of equal letters the phrase is; the caption's blanks may lie elsewhere."""
    first = sum(map(len, words[: phrase.begin]))
    last = sum(map(len, words[: phrase.end])) - 1
    begin = end = position = 0
    for number, word in enumerate(caption):
        if position <= first:
            begin = number
        if position <= last:
            end = number + 1
        position += len(word)
    return begin, end


def _key(sentence: str) -> str:
    return "".join(sentence.lower().split()).rstrip(".")


def _number(name: str) -> str:
    """Flickr's number of a photograph: 1000268201 for 1000268201_693b08cb0e.jpg (Flickr8k) and 1000268201.jpg."""
    return Path(name).stem.partition("_")[0]


def _read_json_lines(path: Path) -> Iterator[tuple[str, Annotated]]:
    for number, line in read_lines(path):
        where = f"{path}, line {number}"
        record = parse_json(line, where=where)
        boxes: dict[str, list[tuple[int, int, int, int]]] = defaultdict(list)
        for box in json_field(record, "boxes", list, where=where):
            if not (isinstance(box, list) and len(box) == 5 and isinstance(box[4], list)):
                raise CorpusError(f"{where}: a box must be [xmin, ymin, xmax, ymax, [chains]], not {box!r:.60}")
            for chain in box[4]:
                boxes[str(chain)].append(_rectangle(box[:4], where=where))
        sentences = []
        for sentence in json_field(record, "sentences", list, where=where):
            words = json_field(sentence, "tokens", str, where=where).split()
            phrases = [
                _phrase(item, len(words), where=where) for item in json_field(sentence, "phrases", list, where=where)
            ]
            sentences.append((words, phrases))
        width, height = (json_field(record, side, int, where=where) for side in ("width", "height"))
        yield _number(json_field(record, "image", str, where=where)), _checked(width, height, boxes, sentences, where)


def _phrase(item: Any, words: int, *, where: str) -> Phrase:
    if isinstance(item, list) and len(item) == 4 and all(isinstance(n, int) for n in item[:3]):
        begin, end, chain, kind = item
        if 0 <= begin < end <= words and isinstance(kind, str):
            return Phrase(begin, end, str(chain), kind)
    raise CorpusError(f"{where}: a phrase must be [first word, one past the last, chain, kind], not {item!r:.60}")


def _read_folder(root: Path) -> Iterator[tuple[str, Annotated]]:
    for folder in (SENTENCES, ANNOTATIONS):
        if not (root / folder).is_dir():
            raise not_found(NAME, f"folder {folder}", root, [f"{SENTENCES}/", f"{ANNOTATIONS}/"])
    files = sorted((root / SENTENCES).glob("*.txt"))
    if not files:
        raise CorpusError(f"{root / SENTENCES}: there are no files ID.txt")
    for path in files:
        sentences = [_read_sentence(line) for _, line in read_lines(path)]
        xml = root / ANNOTATIONS / f"{path.stem}.xml"
        if xml.is_file():
            yield path.stem, _read_annotation(xml, sentences)


def _read_sentence(line: str) -> tuple[list[str], list[Phrase]]:
    """Words and phrases of '[/EN#41/people A girl] walks by [/EN#0/notvisual the way] .'"""
    words: list[str] = []
    phrases = []
    position = 0
    for match in PHRASE.finditer(line):
        words += line[position : match.start()].split()
        inside = match["words"].split()
        if inside:
            phrases.append(Phrase(len(words), len(words) + len(inside), match["chain"], match["kind"]))
        words += inside
        position = match.end()
    return words + line[position:].split(), phrases


def _read_annotation(path: Path, sentences: list[tuple[list[str], list[Phrase]]]) -> Annotated:
    text = read_text(path)
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise CorpusError(f"{path}: declares entities, which no annotation needs")
    try:
        tree = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise CorpusError(f"{path}: not XML ({error}); is the file whole?") from error
    boxes: dict[str, list[tuple[int, int, int, int]]] = defaultdict(list)
    for thing in tree.iter("object"):
        box = thing.find("bndbox")
        if box is None:  # annotated as the whole scene, or as having no box
            continue
        rectangle = _rectangle([box.findtext(side, "") for side in ("xmin", "ymin", "xmax", "ymax")], where=str(path))
        for name in thing.iter("name"):
            boxes[(name.text or "").strip()].append(rectangle)
    width, height = (_whole(tree.findtext(f"size/{side}", ""), where=str(path)) for side in ("width", "height"))
    return _checked(width, height, boxes, sentences, str(path))


def _rectangle(values: list[Any], *, where: str) -> tuple[int, int, int, int]:
    xmin, ymin, xmax, ymax = (_whole(value, where=where) for value in values)
    if not (1 <= xmin <= xmax and 1 <= ymin <= ymax):
        raise CorpusError(f"{where}: the box {xmin}, {ymin}, {xmax}, {ymax} has no area (boxes are counted from 1)")
    return xmin, ymin, xmax, ymax


def _whole(value: Any, *, where: str) -> int:
    try:
        return int(value)
    except (TypeError, ValueError, OverflowError):
        raise CorpusError(f"{where}: expected a whole number of pixels, found {value!r:.40}") from None


def _checked(
    width: int,
    height: int,
    boxes: Mapping[str, list[tuple[int, int, int, int]]],
    sentences: list[tuple[list[str], list[Phrase]]],
    where: str,
) -> Annotated:
    beyond = [box for found in boxes.values() for box in found if box[2] > width or box[3] > height]
    if beyond or width < 1 or height < 1:
        raise CorpusError(f"{where}: a box {beyond[:1]} lies beyond the picture of {width} x {height} pixels")
    return Annotated(width, height, boxes, tuple(sentences))

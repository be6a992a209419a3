"""Flickr8k and Flickr30k: the authors' token files, Kaggle's tables, and the split lists in use."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from mrnn.data.annotation_files import find_file, not_found, other_files, read_lines, require_folder
from mrnn.data.assembly import Draft, assemble
from mrnn.data.captions import Corpus, Problem, relative_path
from mrnn.data.errors import CorpusError
from mrnn.data.karpathy import find_karpathy, read_entries
from mrnn.data.pictures import find_pictures
from mrnn.data.splits import Splits, find_split_lists, random_splits, read_split_lists
from mrnn.data.tables import read_caption_table

TOKEN_LINE = re.compile(r"(?P<name>[^#\t]+)#(?P<number>\d+)(?P<gap>[ \t]|$)(?P<caption>.*)")
RESULTS_LINE = re.compile(r"(?P<name>[^|]+)\|\s*(?P<number>\d+)\s*(?P<gap>[| ]|$)(?P<caption>.*)")


@dataclass(frozen=True)
class Layout:
    """Where the files of one of the sets lie. In all tuples the first that exists counts; '' is the root itself."""

    name: str
    captions: tuple[str, ...]
    folders: tuple[str, ...]
    pictures: tuple[str, ...]
    lists: dict[str, tuple[str, ...]]


FLICKR8K = Layout(
    name="flickr8k",
    captions=("Flickr8k.token.txt", "Flickr8k.token.txt.gz", "captions.txt"),
    folders=("", "Flickr8k_text", "text"),
    pictures=("Flicker8k_Dataset", "Flickr8k_Dataset", "Images", "images", ""),
    lists={
        "train": ("Flickr_8k.trainImages.txt", "train.txt", "train_images.txt"),
        "val": ("Flickr_8k.devImages.txt", "val.txt", "val_images.txt"),
        "test": ("Flickr_8k.testImages.txt", "test.txt", "test_images.txt"),
    },
)
FLICKR30K = Layout(
    name="flickr30k",
    captions=("results_20130124.token", "results_20130124.token.gz", "results.csv", "captions.txt"),
    folders=("", "flickr30k_entities", "flickr30k", "flickr30k_images"),
    pictures=("flickr30k-images", "flickr30k_images", "flickr30k_images/flickr30k_images", "Images", "images", ""),
    lists={
        "train": ("train.txt", "train_images.txt", "flickr30k_train.txt"),
        "val": ("val.txt", "val_images.txt", "flickr30k_val.txt"),
        "test": ("test.txt", "test_images.txt", "flickr30k_test.txt"),
    },
)


@dataclass(frozen=True, slots=True)
class Caption:
    """One caption line. number : the k of name#k, or -1 where the file has none."""

    image: str
    number: int
    text: str
    problem: Problem | None = None


def read_flickr8k(root: str | Path) -> Corpus:
    """Flickr8k with the official lists, else Karpathy's splits if that file is there, else random ones."""
    return _read(root, FLICKR8K)


def read_flickr30k(root: str | Path) -> Corpus:
    """Flickr30k with split lists, else Karpathy's splits if that file is there, else random ones."""
    return _read(root, FLICKR30K)


def _read(root: str | Path, layout: Layout) -> Corpus:
    root = require_folder(root, layout.name)
    file = _caption_file(root, layout)
    drafts: dict[str, Draft] = {}
    problems: list[Problem] = []
    seen: set[tuple[str, int]] = set()
    captions, notes = read_captions(file)
    for caption in captions:
        draft = drafts.setdefault(caption.image, Draft(caption.image, caption.image))
        if caption.problem:
            problems.append(caption.problem)
        key = caption.image, caption.number
        if caption.number >= 0 and key in seen:
            problems.append(Problem("caption numbers that occur twice", f"{key[0]}#{key[1]}", caption.text))
        else:
            seen.add(key)
            draft.sentences.append(caption.text)
    splits = _splits(root, layout, drafts)
    for image_id in splits.by_id:
        drafts.setdefault(image_id, Draft(image_id, image_id))
    pictures = find_pictures(root, layout.pictures, name=layout.name, named=drafts)
    for draft in drafts.values():
        draft.path = pictures.prefix + relative_path(draft.path, where=str(file))
        draft.split = splits.by_id.get(draft.id, "")
    return assemble(
        layout.name,
        root,
        drafts=drafts.values(),
        pictures=pictures,
        problems=[*problems, *splits.problems],
        notes=[f"captions from {file.name}", *notes, *other_files(file, layout.captions), splits.note],
    )


def captions_by_id(root: str | Path) -> dict[str, str]:
    """Flickr8k's captions by the ids `name.jpg#k` that its judgement files use.

    In a file without k the captions of an image count from 0 in its order; of an id that occurs twice the first stays.
    """
    root = require_folder(root, FLICKR8K.name)
    captions: dict[str, str] = {}
    seen: Counter[str] = Counter()
    for caption in read_captions(_caption_file(root, FLICKR8K))[0]:
        number = caption.number if caption.number >= 0 else seen[caption.image]
        captions.setdefault(f"{caption.image}#{number}", " ".join(caption.text.split()))
        seen[caption.image] += 1
    return captions


def _caption_file(root: Path, layout: Layout) -> Path:
    """The file of the customary name, or else the one token file under any other name."""
    file = find_file(root, layout.folders, layout.captions)
    if file is not None:
        return file
    others = sorted(path for pattern in ("*.token", "*.token.gz") for path in root.glob(pattern) if path.is_file())
    if len(others) > 1:
        names = ", ".join(path.name for path in others)
        raise CorpusError(f"{layout.name}: {root} holds {names}; name the one to use {layout.captions[0]}")
    if not others:
        raise not_found(layout.name, "caption file", root, [*layout.captions, "*.token", "*.token.gz"])
    return others[0]


def read_captions(path: Path) -> tuple[Iterable[Caption], tuple[str, ...]]:
    """The captions of a file in any of the three forms, which its first line tells apart, and notes on its reading.

    `name#k<TAB>caption`; `name| k| caption` under a header; CSV with a header that names an image and a caption column.
    """
    first = next((line for _, line in read_lines(path)), "")
    if TOKEN_LINE.fullmatch(first):
        return _read_numbered(path, TOKEN_LINE, gap="\t", form="name.jpg#0, a tab and the caption"), ()
    if "|" in first:
        return _read_numbered(path, RESULTS_LINE, gap="|", form="'name.jpg| 0| caption'", header=first), ()
    table = read_caption_table(path, with_splits=False)
    return [Caption(row.image, -1, caption) for row in table.rows for caption in row.captions], table.notes


def _read_numbered(
    path: Path, pattern: re.Pattern[str], *, gap: str, form: str, header: str | None = None
) -> Iterator[Caption]:
    """Captions of lines that a pattern matches; a line with something else where `gap` belongs is listed."""
    for number, line in read_lines(path):
        match = pattern.fullmatch(line.strip(" "))
        if not match and line == header:
            continue
        if not match or len(match["number"]) > 9:
            raise CorpusError(f"{path}, line {number}: expected {form}, found {line[:60]!r}")
        image = match["name"].strip()
        problem = None
        if match["gap"] not in (gap, ""):
            detail = f"{path.name}, line {number}: {gap!r} is missing"
            problem = Problem("damaged caption lines", image, detail)
        yield Caption(image, int(match["number"]), match["caption"], problem)


def _splits(root: Path, layout: Layout, drafts: Mapping[str, Draft]) -> Splits:
    """From split lists, else from Karpathy's file, else at random over the images with captions."""

    def resolve(line: str) -> str:
        """Lists name images with or without '.jpg'."""
        return line if line in drafts or line.lower().endswith(".jpg") else f"{line}.jpg"

    lists = find_split_lists(root, layout.folders, layout.lists)
    if lists:
        return read_split_lists(lists, resolve=resolve)
    for path in find_karpathy(root):
        if path.name in ("dataset.json", f"dataset_{layout.name}.json"):
            return Splits({entry.filename: entry.split for entry in read_entries(path)}, f"splits from {path.name}")
    return random_splits(drafts)

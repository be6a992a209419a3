"""A folder of one's own pictures with a table of captions: CSV, tab-separated, or JSON-lines."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mrnn.data.annotation_files import (
    find_file,
    find_pictures,
    json_field,
    not_found,
    parse_json,
    printable,
    read_lines,
    read_table,
    require_folder,
    shortened,
)
from mrnn.data.assembly import Draft, assemble
from mrnn.data.captions import Corpus, relative_path
from mrnn.data.errors import CorpusError
from mrnn.data.splits import Splits, random_splits, with_validation

CAPTION_FILES = ("captions.csv", "captions.tsv", "captions.jsonl")
PICTURE_FOLDERS = ("", "images", "Images", "imgs", "pictures", "photos")
IMAGE_KEYS = ("image", "file", "filename", "file_name", "image_path", "path", "image_name")
CAPTION_KEYS = ("caption", "sentence", "text")
SPLITS = {
    **dict.fromkeys(("train", "training", "restval"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
    **dict.fromkeys(("", "none"), ""),
}


@dataclass(frozen=True, slots=True)
class Row:
    """One row. where : file and line, for messages."""

    where: str
    image: str
    captions: list[str]
    split: str


def read_folder(root: Path) -> Corpus:
    """One's own pictures: captions.csv, captions.tsv or captions.jsonl in root, any number of rows per picture.

    A row names a picture (relative to root, or to a folder images/ in it), a caption, and possibly a split. Without
    splits they are random. Ids are the paths as the rows give them. Pictures that no row names come last, without
    captions and split.
    """
    require_folder(root, "folder")
    file = find_file(root, ("",), CAPTION_FILES)
    if file is None:
        raise not_found("folder", "caption file", root, CAPTION_FILES)
    drafts: dict[str, Draft] = {}
    for row in _read_json_lines(file) if file.suffix == ".jsonl" else _read_table(file):
        image_id = relative_path(row.image, where=row.where)
        draft = drafts.setdefault(image_id, Draft(image_id, image_id))
        draft.sentences += row.captions
        if draft.split and row.split and draft.split != row.split:
            raise CorpusError(
                f"{row.where}: {image_id!r} is in {row.split} here and in {draft.split} before; it can be in one only"
            )
        draft.split = draft.split or row.split
    splits = _splits(drafts)
    pictures = find_pictures(root, PICTURE_FOLDERS, name="folder", named=drafts, recursive=True)
    for draft in drafts.values():
        draft.path = pictures.prefix + draft.path
        draft.split = splits.by_id.get(draft.id, "")
    named = {draft.path for draft in drafts.values()}
    others = sorted(path for path in pictures.paths if path not in named and printable(path) == path)
    return assemble(
        "folder",
        root,
        drafts=[*drafts.values(), *(Draft(path.removeprefix(pictures.prefix), path) for path in others)],
        pictures=pictures,
        notes=[f"captions from {file.name}", splits.note],
    )


def _splits(drafts: dict[str, Draft]) -> Splits:
    given = {draft.id: draft.split for draft in drafts.values() if draft.split}
    return with_validation(Splits(given, "splits from the split column")) if given else random_splits(drafts)


def _read_table(path: Path) -> Iterator[Row]:
    header, rows = read_table(path)
    image = next((header.index(key) for key in IMAGE_KEYS if key in header), None)
    caption = next((header.index(key) for key in CAPTION_KEYS if key in header), None)
    if image is None or caption is None:
        raise CorpusError(
            f"{path}, line 1: expected a column for the picture ({', '.join(IMAGE_KEYS)}) and one for the caption "
            f"({', '.join(CAPTION_KEYS)}); found the columns {', '.join(map(repr, header)) or 'none'}"
        )
    for number, row in rows:
        where = f"{path}, line {number}"
        split = row[header.index("split")] if "split" in header else ""
        yield Row(where, row[image].strip(), [row[caption]], _split(split, where=where))


def _read_json_lines(path: Path) -> Iterator[Row]:
    for number, line in read_lines(path):
        where = f"{path}, line {number}"
        record = parse_json(line, where=where)
        if not isinstance(record, dict):
            raise CorpusError(f"{where}: expected an object with 'image' and 'caption', found {shortened(record)}")
        image = next((key for key in IMAGE_KEYS if key in record), "image")
        caption = next((key for key in CAPTION_KEYS if key in record), "caption")
        if "captions" in record:
            captions = json_field(record, "captions", list, where=where)
            if not all(isinstance(each, str) for each in captions):
                raise CorpusError(f"{where}: 'captions' must be a list of strings")
        else:
            captions = [json_field(record, caption, str, where=where)]
        split = json_field(record, "split", str, where=where) if record.get("split") is not None else ""
        yield Row(where, json_field(record, image, str, where=where), captions, _split(split, where=where))


def _split(text: str, *, where: str) -> str:
    split = SPLITS.get(text.strip().lower())
    if split is None:
        raise CorpusError(f"{where}: the split is {shortened(text)}, expected train, val or test")
    return split

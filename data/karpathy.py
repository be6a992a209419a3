"""Karpathy's files: dataset_flickr8k.json, dataset_flickr30k.json, dataset_coco.json, and others of that form."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mrnn.data.annotation_files import (
    json_field,
    not_found,
    parse_json,
    read_text,
    require_folder,
    shortened,
)
from mrnn.data.assembly import Draft, assemble
from mrnn.data.captions import Corpus, Problem, relative_path
from mrnn.data.errors import CorpusError
from mrnn.data.pictures import find_pictures

SPLITS = {"train": "train", "restval": "train", "val": "val", "test": "test"}
PICTURE_FOLDERS = (
    "imgs", "images", "Images", "flickr30k-images", "flickr30k_images", "Flicker8k_Dataset", "Flickr8k_Dataset", "",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Entry:
    """One image of a file. path : relative to the folder of pictures; cocoid : COCO's integer id, or -1."""

    path: str
    filename: str
    cocoid: int
    split: str
    sentences: list[str]


def find_karpathy(folder: Path) -> list[Path]:
    """The files in a folder that have one of the names in use, dataset.json and dataset_*.json, sorted."""
    return sorted(
        path for pattern in ("dataset.json", "dataset_*.json") for path in folder.glob(pattern) if path.is_file()
    )


def read_entries(path: Path) -> list[Entry]:
    """The images of a file, in its order; 'restval' counts as train. Raises CorpusError for another form."""
    document = parse_json(read_text(path), where=str(path))
    records = json_field(document, "images", list, where=str(path))
    return [_entry(record, where=f"{path}, image {number}") for number, record in enumerate(records)]


def _entry(record: object, *, where: str) -> Entry:
    filename = json_field(record, "filename", str, where=where)
    split = json_field(record, "split", str, where=where)
    if split not in SPLITS:
        raise CorpusError(f"{where}: the split is {shortened(split)}, expected one of {', '.join(SPLITS)}")
    assert isinstance(record, dict)
    folder = json_field(record, "filepath", str, where=where) if "filepath" in record else ""
    return Entry(
        path=relative_path(f"{folder}/{filename}" if folder else filename, where=where),
        filename=filename,
        cocoid=json_field(record, "cocoid", int, where=where) if "cocoid" in record else -1,
        split=SPLITS[split],
        sentences=list(_sentences(json_field(record, "sentences", list, where=where), where=where)),
    )


def _sentences(records: list[object], *, where: str) -> Iterator[str]:
    for record in records:
        if isinstance(record, dict) and "raw" in record:
            yield json_field(record, "raw", str, where=where)
        else:
            tokens = json_field(record, "tokens", list, where=where)
            if not all(isinstance(token, str) for token in tokens):
                raise CorpusError(f"{where}: 'tokens' must be a list of strings")
            yield " ".join(tokens)


def read_karpathy(root: str | Path) -> Corpus:
    """The data set of the one dataset_*.json in root.

    Ids are COCO's integers where every image has one, else file names. Pictures lie in one of PICTURE_FOLDERS, below it
    in `filepath` where the file gives one.
    """
    root = require_folder(root, "karpathy")
    files = find_karpathy(root)
    if not files:
        raise not_found("karpathy", "captions", root, ["dataset.json", "dataset_*.json"])
    if len(files) > 1:
        raise CorpusError(
            f"karpathy: {root} holds {', '.join(path.name for path in files)}; which one? "
            "Put one of them (a link will do) into a folder of its own, with its pictures"
        )
    entries = read_entries(files[0])
    integer_ids = bool(entries) and all(entry.cocoid >= 0 for entry in entries)
    named = {entry.path for entry in entries}
    pictures = find_pictures(root, PICTURE_FOLDERS, name="karpathy", named=named)
    drafts: dict[str, Draft] = {}
    problems = []
    for entry in entries:
        image_id = str(entry.cocoid) if integer_ids else entry.filename
        if image_id in drafts:
            problems.append(Problem("image ids that occur twice", image_id, f"the second, {entry.path}, is left out"))
        else:
            drafts[image_id] = Draft(image_id, pictures.prefix + entry.path, entry.split, entry.sentences)
    return assemble(
        "karpathy", root, drafts=drafts.values(), pictures=pictures, problems=problems, integer_ids=integer_ids,
        notes=[f"captions and splits from {files[0].name}; restval counts as train"],
    )  # fmt: skip

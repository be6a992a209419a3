"""MS COCO: the official caption files of 2014 or 2017, with Karpathy's splits where his file is given."""

from collections.abc import Mapping
from pathlib import Path

from mrnn.data.annotation_files import (
    find_file,
    json_field,
    not_found,
    parse_json,
    read_text,
    require_folder,
)
from mrnn.data.assembly import Draft, assemble
from mrnn.data.captions import Corpus, Problem, relative_path, seeded_split
from mrnn.data.errors import CorpusError
from mrnn.data.karpathy import find_karpathy, read_entries
from mrnn.data.pictures import Pictures, find_pictures
from mrnn.data.splits import Splits, random_splits

YEARS = ("2014", "2017")
FOLDERS = ("annotations", "")
HELD_OUT_MAX = 5000  # val and test images of Karpathy's split, both from val2014


def read_coco(root: str | Path) -> Corpus:
    """COCO from captions_train*.json and captions_val*.json in `annotations/` or root; either may be missing.

    Pictures lie in train2014/, val2014/ and so on, in the same below images/, or all in images/. Splits: those of
    dataset_coco.json or dataset.json if there, else train* is train and of val* two seeded parts of at most 5,000 are
    val and test, the rest train. Of two years the older is read: they are the same images.
    Ids may be integers, as COCO's are, or strings.
    """
    root = require_folder(root, "coco")
    files = _caption_files(root)
    drafts: dict[str, Draft] = {}
    problems: list[Problem] = []
    pictures = Pictures("", set())
    part_of: dict[str, str] = {}
    integer_ids = True
    for part, path in files.items():
        found, found_problems, integers = _read_captions(path)
        integer_ids = integer_ids and integers
        both = next((image_id for image_id in found if image_id in part_of), None)
        if both:
            raise CorpusError(f"{path}: image {both} is in {files[part_of[both]].name} as well")
        folder = path.name.removeprefix("captions_").removesuffix(".json")
        named = {draft.path for draft in found.values()}
        there = find_pictures(root, (folder, f"images/{folder}", "images", ""), name="coco", named=named)
        for draft in found.values():
            draft.path = there.prefix + draft.path
        drafts |= found
        problems += found_problems
        pictures = pictures.joined(there)
        part_of |= dict.fromkeys(found, part)
    splits = _karpathy_splits(root) or _official_splits(part_of)
    problems += [
        Problem("images of the split list that the caption files do not name", image_id, split)
        for image_id, split in splits.by_id.items()
        if image_id not in drafts
    ]
    for draft in drafts.values():
        draft.split = splits.by_id.get(draft.id, "")
    return assemble(
        "coco",
        root,
        drafts=drafts.values(),
        pictures=pictures,
        problems=problems,
        notes=[f"captions from {', '.join(path.name for path in files.values())}", splits.note],
        integer_ids=integer_ids,
    )


def _caption_files(root: Path) -> dict[str, Path]:
    """The caption files of one year by part, 'train' or 'val'."""
    for year in YEARS:
        found = {part: find_file(root, FOLDERS, [f"captions_{part}{year}.json"]) for part in ("train", "val")}
        files = {part: path for part, path in found.items() if path is not None}
        if files:
            return files
    names = [f"captions_{part}{year}.json" for year in YEARS for part in ("train", "val")]
    raise not_found("coco", "caption file", root, [*(f"annotations/{name}" for name in names), *names])


def _read_captions(path: Path) -> tuple[dict[str, Draft], list[Problem], bool]:
    """Images by id, with paths relative to their folder, in the order of the file; and whether all ids are integers."""
    document = parse_json(read_text(path), where=str(path))
    drafts: dict[str, Draft] = {}
    problems: list[Problem] = []
    integers = True
    for number, record in enumerate(json_field(document, "images", list, where=str(path))):
        where = f"{path}, image {number}"
        image_id = _id(record, "id", where=where)
        integers = integers and isinstance(record["id"], int)
        picture = relative_path(json_field(record, "file_name", str, where=where), where=where)
        if image_id in drafts:
            problems.append(Problem("image ids that occur twice", image_id, f"the second, {picture}, is left out"))
        else:
            drafts[image_id] = Draft(image_id, picture)
    seen: set[str] = set()
    for number, record in enumerate(json_field(document, "annotations", list, where=str(path))):
        where = f"{path}, annotation {number}"
        annotation_id = _id(record, "id", where=where)
        image_id = _id(record, "image_id", where=where)
        caption = json_field(record, "caption", str, where=where)
        if image_id not in drafts:
            problems.append(Problem("captions of an image that is not listed", image_id, f"annotation {annotation_id}"))
        elif annotation_id in seen:
            problems.append(Problem("annotation ids that occur twice", annotation_id, caption))
        else:
            drafts[image_id].sentences.append(caption)
        seen.add(annotation_id)
    return drafts, problems, integers


def _id(record: object, key: str, *, where: str) -> str:
    """An id as text: COCO's are integers, people's own files hold strings as well. Raises CorpusError for others."""
    text = isinstance(record, dict) and isinstance(record.get(key), str)
    found = str(json_field(record, key, str if text else int, where=where)).strip()
    if not found:
        raise CorpusError(f"{where}: {key!r} is empty")
    return found


def _karpathy_splits(root: Path) -> Splits | None:
    """The splits of dataset_coco.json or dataset.json in root or annotations/; None if there is none."""
    for path in [path for folder in FOLDERS for path in find_karpathy(root / folder)]:
        if path.name in ("dataset_coco.json", "dataset.json"):
            entries = read_entries(path)
            if any(entry.cocoid < 0 for entry in entries):
                raise CorpusError(f"{path}: not every image has a 'cocoid'; is this the file of COCO?")
            return Splits({str(entry.cocoid): entry.split for entry in entries}, f"splits from {path.name}")
    return None


def _official_splits(part_of: Mapping[str, str]) -> Splits:
    """Train is train; val is parted at random. With one file only, all of it is split at random."""
    if len(set(part_of.values())) < 2:
        return random_splits(part_of)
    candidates = [image_id for image_id, part in part_of.items() if part == "val"]
    test = min(HELD_OUT_MAX, len(candidates) // 2)
    val = min(HELD_OUT_MAX, len(candidates) - test)
    note = (
        f"no Karpathy file: of {len(candidates)} official validation images {val} are val, {test} test "
        f"and {len(candidates) - val - test} train, drawn at random (seed 0)"
    )
    return Splits(dict.fromkeys(part_of, "train") | seeded_split(candidates, val=val, test=test), note)

"""IAPR TC-12: one description file per image, SGML-like, in ISO-8859-1."""

import os
import re
from pathlib import Path

from mrnn.data.annotation_files import not_found, read_text, require_folder
from mrnn.data.assembly import Draft, assemble
from mrnn.data.captions import Corpus, Problem, relative_path
from mrnn.data.pictures import find_pictures
from mrnn.data.splits import find_split_lists, random_splits, read_split_lists

ANNOTATION_FOLDERS = ("annotations_complete_eng", "annotations_complete", "annotations")
PICTURE_FOLDERS = ("images", "Images", "")
LISTS = {
    "train": ("iaprtc12_train_list.txt",),
    "val": ("iaprtc12_val_list.txt",),
    "test": ("iaprtc12_test_list.txt",),
}
# The files contain raw ampersands and are not always well-formed, so no XML parser reads them: a field ends at the
# next known tag.
TAGS = r"DOC|DOCNO|TITLE|DESCRIPTION|NOTES|LOCATION|DATE|IMAGE|THUMBNAIL"
DESCRIPTION = re.compile(rf"<DESCRIPTION>(.*?)(?=</?(?:{TAGS})>|\Z)", re.DOTALL | re.IGNORECASE)
IMAGE = re.compile(r"<IMAGE>([^<]*)", re.IGNORECASE)


def read_iaprtc12(root: str | Path) -> Corpus:
    """IAPR TC-12 with the public train and test lists; images in neither have no split.

    Ids are 'NN/NNNN', for the description file NN/NNNN.eng and the image NN/NNNN.jpg. A description is split into
    sentences at ';'. There is no list for validation, so a seeded part of train is held out; without lists the splits
    are random.
    """
    root = require_folder(root, "iaprtc12")
    folder = next((root / name for name in ANNOTATION_FOLDERS if (root / name).is_dir()), None)
    if folder is None:
        raise not_found("iaprtc12", "folder of descriptions", root, [f"{name}/" for name in ANNOTATION_FOLDERS])
    drafts: dict[str, Draft] = {}
    problems: list[Problem] = []
    for image_id in _description_ids(folder):
        path = folder / f"{image_id}.eng"
        text = read_text(path, encoding="iso-8859-1")
        sentences, picture = parse_description(text)
        drafts[image_id] = Draft(image_id, f"{image_id}.jpg", sentences=sentences)
        if picture and not picture.endswith(f"{image_id}.jpg"):
            problems.append(Problem("descriptions whose IMAGE tag names another picture", image_id, picture))
    if not drafts:
        raise not_found("iaprtc12", "description", folder, ["NN/NNNN.eng, such as 00/25.eng"])
    lists = find_split_lists(root, ("", folder.name), LISTS)
    splits = read_split_lists(lists, resolve=_listed_id) if lists else random_splits(drafts)
    for image_id in splits.by_id:
        drafts.setdefault(image_id, Draft(image_id, relative_path(f"{image_id}.jpg", where="the split lists")))
    named = {draft.path for draft in drafts.values()}
    pictures = find_pictures(root, PICTURE_FOLDERS, name="iaprtc12", named=named, recursive=True)
    for draft in drafts.values():
        draft.path = pictures.prefix + draft.path
        draft.split = splits.by_id.get(draft.id, "")
    return assemble(
        "iaprtc12",
        root,
        drafts=drafts.values(),
        pictures=pictures,
        problems=[*problems, *splits.problems],
        notes=[f"captions from {folder.name}, split at ';'", splits.note],
    )


def parse_description(text: str) -> tuple[list[str], str]:
    """The sentences of a description file, and what its IMAGE tag names ('' without one)."""
    description = DESCRIPTION.search(text)
    image = IMAGE.search(text)
    parts = description[1].split(";") if description else []
    return [part.strip() for part in parts if part.strip()], image[1].strip() if image else ""


def _description_ids(folder: Path) -> list[str]:
    """'NN/NNNN' of every NN/NNNN.eng, in the order of folders and numbers."""
    ids = []
    with os.scandir(folder) as parts:
        names = [part.name for part in parts if part.is_dir()]
    for name in names:
        with os.scandir(folder / name) as files:
            ids += [f"{name}/{file.name.removesuffix('.eng')}" for file in files if file.name.endswith(".eng")]
    return sorted(ids, key=lambda image_id: [(len(part), part) for part in image_id.split("/")])


def _listed_id(line: str) -> str:
    """Lists name images as NN/NNNN; some copies add a folder or a suffix."""
    return line.removeprefix("images/").removesuffix(".jpg").removesuffix(".eng")

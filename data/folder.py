"""A folder of one's own pictures with a table of captions: CSV, tab-separated, or JSON-lines."""

from pathlib import Path

from mrnn.data.annotation_files import find_file, not_found, other_files, printable, require_folder
from mrnn.data.assembly import Draft, assemble
from mrnn.data.captions import Corpus, relative_path
from mrnn.data.errors import CorpusError
from mrnn.data.pictures import find_pictures
from mrnn.data.splits import Splits, random_splits, with_validation
from mrnn.data.tables import read_caption_table, read_json_lines

CAPTION_FILES = ("captions.csv", "captions.tsv", "captions.jsonl")
PICTURE_FOLDERS = ("", "images", "Images", "imgs", "pictures", "photos")


def read_folder(root: str | Path) -> Corpus:
    """One's own pictures: captions.csv, captions.tsv or captions.jsonl in root, any number of rows per picture.

    A row names a picture (relative to root, or to a folder images/ in it), its captions, and possibly a split; see
    mrnn.data.tables for the columns. Without splits they are random. Ids are the paths as the rows give them. Pictures
    that no row names come last, without captions and split.
    """
    root = require_folder(root, "folder")
    file = find_file(root, ("",), CAPTION_FILES)
    if file is None:
        raise not_found("folder", "caption file", root, CAPTION_FILES)
    drafts: dict[str, Draft] = {}
    table = read_json_lines(file) if file.suffix == ".jsonl" else read_caption_table(file)
    for row in table.rows:
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
    named = {pictures.on_disk(draft.path) for draft in drafts.values()}
    others = sorted(path for path in pictures.paths if path not in named and printable(path) == path)
    return assemble(
        "folder",
        root,
        drafts=[*drafts.values(), *(Draft(path.removeprefix(pictures.prefix), path) for path in others)],
        pictures=pictures,
        notes=[f"captions from {file.name}", *table.notes, *other_files(file, CAPTION_FILES), splits.note],
    )


def _splits(drafts: dict[str, Draft]) -> Splits:
    given = {draft.id: draft.split for draft in drafts.values() if draft.split}
    return with_validation(Splits(given, "splits from the split column")) if given else random_splits(drafts)

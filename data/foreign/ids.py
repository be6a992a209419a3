"""Lists of image ids, in the order of feature rows, in the forms in which people keep them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mrnn.data.annotation_files import parse_json, read_lines, read_text
from mrnn.data.errors import CacheError

# Keys that hold the id of an image: COCO's in Karpathy's files, neuraltalk2's, and names of files.
ID_KEYS = ("cocoid", "id", "filename", "file_path")


def read_ids(path: str | Path, *, keys: Sequence[str] = ID_KEYS) -> tuple[str, ...]:
    """The ids in a file, in the order of the rows.

    path : text, an id per line; a JSON list of ids; a JSON list of objects, or an object with such a list under
        'images' (neuraltalk2, Karpathy), where the first of `keys` that every object has is the id; or a JSON object
        {id: row} (imgid2idx).

    Raises CacheError for anything else; a pickle is not opened. Raises CorpusError as `read_text` does.
    """
    path = Path(path)
    with path.open("rb") as stream:
        start = stream.read(2)
    if path.suffix in (".pkl", ".pickle") or start in (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"):
        raise CacheError(refuse_pickle(path))
    text = read_text(path)
    if not text.lstrip().startswith(("[", "{")):
        return tuple(line.strip() for _, line in read_lines(path))
    content = parse_json(text, where=str(path))
    if isinstance(content, dict):
        content = content["images"] if isinstance(content.get("images"), list) else _by_row(content, path)
    if all(isinstance(entry, dict) for entry in content):
        key = next((key for key in keys if all(key in entry for entry in content)), None)
        if key is None:
            raise CacheError(f"{path}: its objects have no key in common that holds an id ({', '.join(keys)})")
        content = [entry[key] for entry in content]
    for number, image_id in enumerate(content):
        if not isinstance(image_id, str | int) or isinstance(image_id, bool):
            raise CacheError(f"{path}, entry {number}: {image_id!r:.40} is not an image id")
    return tuple(map(str, content))


def refuse_pickle(path: Path) -> str:
    """Why a pickle is not read, and how its owner makes JSON of it."""
    target = path.with_suffix(".json").name
    command = f"import json, pickle; json.dump(pickle.load(open('{path.name}', 'rb')), open('{target}', 'w'))"
    return (
        f"{path} is a pickle, which can run any code when it is read, so mrnn does not read it; if you trust it, "
        f'python -c "{command}" makes {target}, for --ids'
    )


def _by_row(rows: dict[str, Any], path: Path) -> list[str]:
    if not all(isinstance(row, int) for row in rows.values()) or sorted(rows.values()) != list(range(len(rows))):
        raise CacheError(f"{path}: an object must give each id its row, 0 to {len(rows) - 1}, every row once")
    return sorted(rows, key=lambda image_id: rows[image_id])

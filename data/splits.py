"""Which images are for training, validation and testing: split lists, and seeded splits where there are no lists."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mrnn.data.annotation_files import find_file, read_lines
from mrnn.data.captions import Problem, seeded_split
from mrnn.data.errors import CorpusError

HELD_OUT_MAX = 1000  # images each in val and test of the papers' Flickr and IAPR splits


@dataclass(frozen=True)
class Splits:
    """Split by image id; other images are in no split. note : one line on where the splits come from."""

    by_id: dict[str, str]
    note: str
    problems: tuple[Problem, ...] = ()


def held_out(count: int) -> int:
    """Size of a random val or test split of `count` images: a tenth, at most 1,000; one of 3 to 9 images."""
    return min(HELD_OUT_MAX, count // 10) or int(count >= 3)


def random_splits(ids: Iterable[str]) -> Splits:
    """Seeded random splits, for images without split lists."""
    ids = list(ids)
    share = held_out(len(ids))
    note = f"no split lists: {len(ids) - 2 * share} train, {share} val and {share} test images drawn at random (seed 0)"
    if not share:
        note += "; training takes at least three images, one for each split"
    return Splits(seeded_split(ids, val=share, test=share), note)


def with_validation(splits: Splits) -> Splits:
    """The same splits if any image is in val, else with a seeded part of train held out as val."""
    train = [image_id for image_id, split in splits.by_id.items() if split == "train"]
    if "val" in splits.by_id.values() or not train:
        return splits
    share = held_out(len(train))
    held = seeded_split(train, val=share, test=0)
    note = f"{splits.note}; no validation split: {share} of {len(train)} train images drawn at random (seed 0) are val"
    return Splits({**splits.by_id, **held}, note, splits.problems)


def find_split_lists(root: Path, folders: Sequence[str], names: Mapping[str, Sequence[str]]) -> dict[str, Path]:
    """The list file of every split that has one.

    root : the folder of the data set.
    folders : where to look, below root ('' is root itself).
    names : the file names in use for each split.

    Raises CorpusError if there is a list, but none of train or none of test.
    """
    found = {split: find_file(root, folders, candidates) for split, candidates in names.items()}
    lists = {split: path for split, path in found.items() if path is not None}
    for split in ("train", "test"):
        if lists and split not in lists:
            raise CorpusError(
                f"found {', '.join(map(str, lists.values()))}, but no list of the {split} images; "
                f"add {' or '.join(names[split])} beside it, or remove the others to split at random"
            )
    return lists


def read_split_lists(lists: Mapping[str, Path], *, resolve: Callable[[str], str]) -> Splits:
    """The splits of list files, with a part of train held out as val if it has no list.

    lists : for each split a file with one image per line.
    resolve : turns a line of a list into an image id.
    Raises CorpusError for an image in two lists.
    """
    by_id: dict[str, str] = {}
    problems: list[Problem] = []
    for split, path in lists.items():
        for number, line in read_lines(path):
            image_id = resolve(line.strip())
            if image_id not in by_id:
                by_id[image_id] = split
            elif by_id[image_id] == split:
                problems.append(Problem("images named twice in a split list", image_id, f"{path.name}, line {number}"))
            else:
                raise CorpusError(
                    f"{path}, line {number}: {image_id!r} is in {lists[by_id[image_id]].name} as well; "
                    "an image can be in one split only"
                )
    note = f"splits from {', '.join(path.name for path in lists.values())}"
    return with_validation(Splits(by_id, note, tuple(problems)))

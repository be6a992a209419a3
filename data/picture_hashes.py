"""What the hashes in a cache tell of its pictures: which have changed since, and which are equal."""

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mrnn.data.cache import STATE_PENDING, FeatureCache
from mrnn.data.picture_files import hash_file
from mrnn.data.progress import Progress


@dataclass(frozen=True)
class PictureCheck:
    """What became of the pictures of a cache since extraction; ids.

    changed : the file has other bytes. vanished : there is no file any more, or it cannot be read.
    appeared : the file could not be read then and can be read now. unknown : no hash was recorded.
    """

    same: int
    changed: tuple[str, ...]
    vanished: tuple[str, ...]
    appeared: tuple[str, ...]
    unknown: int


def check_pictures(cache: FeatureCache, root: Path) -> PictureCheck:
    """Compare the files below `root` with the hashes taken at extraction. Pending images are left out."""
    changed, vanished, appeared = [], [], []
    same = unknown = 0
    present = np.flatnonzero(cache.states != STATE_PENDING)
    with Progress("pictures", len(present), unit="files") as progress:
        for number in present:
            image, before = cache.images[number], bytes(cache.picture_hashes[number])
            now = hash_file(root / image.path)
            if not any(before):
                if now is not None and image.id in cache.reasons:
                    appeared.append(image.id)
                else:
                    unknown += 1
            elif now is None:
                vanished.append(image.id)
            elif now != before:
                changed.append(image.id)
            else:
                same += 1
            progress.add(1)
    return PictureCheck(same, tuple(changed), tuple(vanished), tuple(appeared), unknown)


@dataclass(frozen=True)
class EqualPictures:
    """Images whose files have the same bytes. leaks : of these the groups that lie in more than one split."""

    groups: tuple[tuple[str, ...], ...]
    leaks: tuple[tuple[str, ...], ...]


def equal_pictures(cache: FeatureCache) -> EqualPictures:
    """Groups of images of a cache whose picture files are equal byte for byte, in the order of the images."""
    by_hash: dict[bytes, list[int]] = defaultdict(list)
    for number, digest in enumerate(np.asarray(cache.picture_hashes)):
        if digest.any() and cache.states[number] != STATE_PENDING:
            by_hash[digest.tobytes()].append(number)
    groups = [numbers for numbers in by_hash.values() if len(numbers) > 1]

    def ids(numbers: list[int]) -> tuple[str, ...]:
        return tuple(cache.images[n].id for n in numbers)

    leaks = [numbers for numbers in groups if len({cache.images[n].split for n in numbers} - {""}) > 1]
    return EqualPictures(tuple(map(ids, groups)), tuple(map(ids, leaks)))


def describe_equal(cache: FeatureCache, *, listed: int = 5) -> list[str]:
    """Sentences about equal pictures for the terminal, the leaks first; empty if there are none."""
    found = equal_pictures(cache)
    split_of = {image.id: image.split or "no split" for image in cache.images}
    lines = []
    for group in found.leaks[:listed]:
        named = ", ".join(f"{image_id} ({split_of[image_id]})" for image_id in group)
        lines.append(f"WARNING: the same picture is in two splits: {named}")
    if len(found.leaks) > listed:
        lines.append(f"WARNING: {len(found.leaks) - listed} more pictures are in two splits; see the report")
    harmless = [group for group in found.groups if group not in found.leaks]
    lines += [f"equal pictures: {', '.join(group)}" for group in harmless[:listed]]
    if len(harmless) > listed:
        lines.append(f"equal pictures: {len(harmless) - listed} more groups")
    return lines

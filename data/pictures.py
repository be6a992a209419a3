"""Where the pictures of a data set lie, and which of those that its files name are there."""

import glob
import os
import re
import unicodedata
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from mrnn.data.annotation_files import folder_content, not_found, printable
from mrnn.data.captions import Problem
from mrnn.data.errors import CorpusError

# What the name of a picture that no data file names may end in; a picture that is named may have any name.
PICTURE_SUFFIXES = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".avif", ".jp2",
)  # fmt: skip
PROBED = 20  # named files that are looked for one by one in a folder whose listing holds none of them


@dataclass(frozen=True)
class Listing:
    """What lies in a folder. paths : the picture files, relative to it. problems : parts of it that cannot be read."""

    paths: set[str]
    problems: tuple[Problem, ...] = ()


@dataclass(frozen=True)
class Pictures:
    """What was found of a data set's pictures.

    prefix : to put before a named path, '' or with a final slash. paths : the pictures that are there, with it.
    lacking : why there is none at all, where there is no folder of pictures: their captions can be used all the same.
    problems : folders that cannot be read.
    spelled : named path -> path on disk, where the two are the same letters composed in another way (NFC and NFD).
    """

    prefix: str
    paths: set[str]
    lacking: str = ""
    problems: tuple[Problem, ...] = ()
    spelled: dict[str, str] = field(default_factory=dict)

    def on_disk(self, path: str) -> str:
        """A path, with its prefix, spelled as the file is."""
        return self.spelled.get(path, path)

    def joined(self, other: "Pictures") -> "Pictures":
        """Both, without a prefix of their own; lacking if one is."""
        return Pictures(
            "",
            self.paths | other.paths,
            self.lacking or other.lacking,
            self.problems + other.problems,
            self.spelled | other.spelled,
        )


def list_pictures(folder: Path, *, recursive: bool, named: Collection[str] = ()) -> Listing:
    """The picture files in a folder: those that are named, and of the others those with a picture's suffix.

    Hidden files do not count unless they are named. Links are followed (people link picture folders into place), each
    folder is entered once. A folder that cannot be read is listed as a problem and passed over.
    """
    found: set[str] = set()
    problems: list[Problem] = []
    entered: set[str] = set()
    pending = [""]
    while pending:
        below = pending.pop()
        place = os.path.realpath(folder / below)
        if place in entered:
            continue
        entered.add(place)
        try:
            for entry in _entries(place):
                path = below + entry.name
                if path not in named and entry.name.startswith("."):
                    continue
                if (path in named or entry.name.lower().endswith(PICTURE_SUFFIXES)) and _is_file(entry):
                    found.add(path)
                elif recursive and os.path.isdir(entry):
                    pending.append(f"{path}/")
        except OSError as error:
            problems.append(
                Problem("folders that cannot be read", printable(str(folder / below)), error.strerror or "")
            )
    return Listing(found, tuple(problems))


def refuse_address(given: str | Path) -> None:
    """Raise CorpusError if what should be a file is an address on the web."""
    text = os.fspath(given)
    if address := re.match(r"([a-z]{2,}):/{1,2}(?=[^/])", text):  # a Path has lost one of the slashes
        raise CorpusError(
            f"{address[1]}://{text[address.end() :]}: an address on the web; download the image and give the file"
        )


def picture_files(given: Sequence[str | Path]) -> list[Path]:
    """The picture files that a user means: files as they are, folders and patterns (`*.jpg`) sorted and in full.

    Of a folder its own pictures count, told by their suffixes, not those of folders inside. A name at which there is
    nothing stays, so that it is reported like other files that cannot be read. Raises CorpusError for
    a folder or pattern without pictures, and an address on the web.
    """
    files: list[Path] = []
    for each in given:
        text = os.fspath(each)
        refuse_address(text)
        if os.path.isdir(text):
            listing = list_pictures(Path(text), recursive=False)
            found = [Path(text) / name for name in sorted(listing.paths)]
            if not found:
                reason = listing.problems[0].detail if listing.problems else f"found {folder_content(Path(text))}"
                raise CorpusError(
                    f"{text}: a folder without pictures ({reason}); give image files, folders or patterns"
                )
            files += found
        elif os.path.lexists(text) or not glob.has_magic(text):
            files.append(Path(text))
        else:
            found = sorted(Path(name) for name in glob.glob(text, recursive=True) if os.path.isfile(name))
            if not found:
                raise CorpusError(f"{text}: no file fits this pattern")
            files += found
    return files


def _entries(folder: str) -> Iterator[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        yield from entries


def _is_file(entry: os.DirEntry[str]) -> bool:
    """As entry.is_file, but a link that leads in a circle is no file instead of an error."""
    return os.path.isfile(entry) if entry.is_symlink() else entry.is_file()


def find_pictures(
    root: Path, folders: Sequence[str], *, name: str, named: Collection[str], recursive: bool = False
) -> Pictures:
    """Where the pictures lie: the first of the folders that holds a named one, else the first that exists.

    folders : below root; '' is root itself, which counts only if it holds a named picture.
    name : of the data set, for messages.
    named : the paths that the data set gives, relative to the folder sought; they may lie deeper in it.
    recursive : whether pictures that are not named are looked for in folders inside, too.
    """
    named = frozenset(named)
    deep = recursive or any("/" in path for path in named)
    fallback: Pictures | None = None
    for folder in folders:
        if not os.path.isdir(root / folder):
            continue
        listing = list_pictures(root / folder, recursive=deep, named=named)
        prefix = f"{folder}/" if folder else ""
        spelled = _other_spellings(named - listing.paths, listing.paths)
        probed = islice(sorted(named - listing.paths), PROBED)
        hit = spelled or not listing.paths.isdisjoint(named) or _there(root / folder, probed)
        if not hit and (fallback is not None or not folder):
            continue
        # Listing a folder is quick and stands for most; only what it does not show is asked for by name.
        paths = listing.paths | (_there(root / folder, named - listing.paths - spelled.keys()) if hit else set())
        pictures = Pictures(
            prefix,
            {prefix + path for path in paths},
            problems=listing.problems,
            spelled={prefix + path: prefix + other for path, other in spelled.items()},
        )
        if hit:
            return pictures
        fallback = pictures
    if fallback is None:
        example = min(named, default="")
        wanted = [f"{folder}/" if folder else f"pictures such as {example!r} beside the captions" for folder in folders]
        return Pictures("", set(), lacking=str(not_found(name, "folder of pictures", root, wanted)))
    return fallback


def _there(folder: Path, paths: "Iterator[str] | Collection[str]") -> set[str]:
    """Those of the paths at which the folder has a file."""
    return {path for path in paths if os.path.isfile(folder / path)}


def _other_spellings(missing: Collection[str], found: Collection[str]) -> dict[str, str]:
    """Missing paths that a found one is equal to but for the composition of its letters (macOS decomposes names)."""
    foreign = {path: unicodedata.normalize("NFC", path) for path in missing if not path.isascii()}
    if not foreign:
        return {}
    on_disk = {unicodedata.normalize("NFC", path): path for path in found if not path.isascii()}
    return {path: on_disk[composed] for path, composed in foreign.items() if composed in on_disk}

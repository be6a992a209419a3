"""Combines what the data files name and what is on disk into a `Corpus`; the one place that leaves images out."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mrnn.data.annotation_files import printable
from mrnn.data.captions import Corpus, Image, Problem
from mrnn.data.errors import CorpusError
from mrnn.data.pictures import Pictures


@dataclass(slots=True)
class Draft:
    """An image while its captions are being collected; fields as in `Image`, sentences as in the file."""

    id: str
    path: str
    split: str = ""
    sentences: list[str] = field(default_factory=list)


def assemble(
    name: str,
    root: Path,
    *,
    drafts: Iterable[Draft],
    pictures: Pictures,
    problems: Sequence[Problem] = (),
    notes: Sequence[str] = (),
    integer_ids: bool = False,
) -> Corpus:
    """The corpus of the drafts, in their order, with a list of everything unusual about them.

    name, root, notes, integer_ids : as in Corpus.
    drafts : the images that the data files name.
    pictures : the image files on disk.
    problems : what the reader has found already.

    An image in a split is kept even if its file is missing or it has no sentence: extraction reports the former,
    training skips the latter. An image in no split is left out if its file is missing, unless all files are missing.
    White space in sentences becomes single blanks; empty sentences are dropped. Raises CorpusError if there is no
    sentence at all, or where Corpus does.
    """
    images: list[Image] = []
    found = [*problems, *pictures.problems]
    named: set[str] = set()
    for draft in drafts:
        sentences = tuple(words for sentence in draft.sentences if (words := " ".join(sentence.split())))
        path = pictures.on_disk(draft.path)
        named.add(path)
        missing = not pictures.lacking and path not in pictures.paths
        if len(sentences) < len(draft.sentences):
            found.append(Problem("images with empty captions", draft.id, f"{len(draft.sentences) - len(sentences)}"))
        if missing and not draft.split:
            found.append(Problem("captions without a picture, in no split", draft.id, f"{len(sentences)} captions"))
            continue
        if missing:
            found.append(Problem("pictures missing", draft.id, f"{path}, in {draft.split}"))
        if not sentences:
            found.append(Problem("images without captions", draft.id, draft.split and f"in {draft.split}"))
        images.append(Image(draft.id, path, draft.split, sentences))
    if not any(image.sentences for image in images):
        raise CorpusError(f"{name}: the caption files in {root} contain no caption of any image; are they complete?")
    unnamed = sorted(pictures.paths - named)
    found += [Problem("pictures that no data file names", printable(path)) for path in unnamed]
    return Corpus(name, root, tuple(images), tuple(found), tuple(notes), integer_ids, pictures.lacking)

"""From what the data files name and what lies on disk to a `Corpus`; the one place that decides who stays."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mrnn.data.annotation_files import printable
from mrnn.data.captions import Corpus, Image, Problem
from mrnn.data.errors import CorpusError


@dataclass(slots=True)
class Draft:
    """An image while its captions are being collected; fields as in `Image`, sentences as they stand in the file."""

    id: str
    path: str
    split: str = ""
    sentences: list[str] = field(default_factory=list)


def assemble(
    name: str,
    root: Path,
    *,
    drafts: Iterable[Draft],
    pictures: Collection[str],
    problems: Sequence[Problem] = (),
    notes: Sequence[str] = (),
    integer_ids: bool = False,
) -> Corpus:
    """The corpus of the drafts, in their order, with everything odd about them listed.

    pictures : paths below root of the picture files that are there.
    An image of a split stays even if its file is missing or it has no sentence: extraction reports the one, training
    passes over the other. An image of no split without a file is left out. White space in sentences becomes single
    blanks, empty sentences are dropped. All of it is listed. Raises CorpusError if there is no sentence at all, or for
    characters that no text file can hold.
    """
    images: list[Image] = []
    found = list(problems)
    named: set[str] = set()
    for draft in drafts:
        sentences = tuple(words for sentence in draft.sentences if (words := " ".join(sentence.split())))
        _require_text(name, draft.id, (draft.id, draft.path, *sentences))
        named.add(draft.path)
        missing = draft.path not in pictures
        if len(sentences) < len(draft.sentences):
            found.append(Problem("images with empty captions", draft.id, f"{len(draft.sentences) - len(sentences)}"))
        if missing and not draft.split:
            found.append(Problem("captions without a picture, in no split", draft.id, f"{len(sentences)} captions"))
            continue
        if missing:
            found.append(Problem("pictures missing", draft.id, f"{draft.path}, in {draft.split}"))
        if not sentences:
            found.append(Problem("images without captions", draft.id, draft.split and f"in {draft.split}"))
        images.append(Image(draft.id, draft.path, draft.split, sentences))
    if not any(image.sentences for image in images):
        raise CorpusError(f"{name}: the caption files in {root} hold no caption of any image; are they whole?")
    unnamed = sorted(set(pictures) - named)
    found += [Problem("pictures that no data file names", printable(path)) for path in unnamed]
    return Corpus(name, root, tuple(images), tuple(found), tuple(notes), integer_ids)


def _require_text(name: str, image_id: str, texts: Iterable[str]) -> None:
    """Raise CorpusError for what JSON escapes can smuggle in: half a surrogate pair, a NUL."""
    joined = "\n".join(texts)
    try:
        joined.encode()
    except UnicodeEncodeError as error:
        raise CorpusError(f"{name}: image {image_id!a} has half a surrogate pair in its id or a caption") from error
    if "\0" in joined:
        raise CorpusError(f"{name}: image {image_id!a} has a NUL character in its id or a caption")

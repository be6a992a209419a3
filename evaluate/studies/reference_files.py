"""Sentences of images, from a user's file or from a data set: what captions and score matrices are held against."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mrnn.data.annotation_files import json_field, json_id, parse_json, read_text
from mrnn.data.captions import SPLITS
from mrnn.data.datasets import read_dataset
from mrnn.data.errors import CorpusError, EvaluationError
from mrnn.data.progress import silent
from mrnn.data.tables import ID_KEYS, read_caption_table, read_json_lines
from mrnn.evaluate.settings import ALL

Report = Callable[[str], None]
TABLES, JSON_LINES = (".csv", ".tsv"), (".jsonl", ".ndjson")
PICKLE = b"\x80"  # first byte of a pickle of any protocol since 2


@dataclass(frozen=True)
class References:
    """The sentences of images, in the order of their source.

    source : where they are from, for messages
    pairs : id of the image and text of each sentence
    """

    source: str
    pairs: tuple[tuple[str, str], ...]

    def by_image(self) -> dict[str, tuple[str, ...]]:
        """The sentences of each image, in the order in which images occur first."""
        found: dict[str, list[str]] = {}
        for image, sentence in self.pairs:
            found.setdefault(image, []).append(sentence)
        return {image: tuple(sentences) for image, sentences in found.items()}


def references(
    file: str | Path | None = None,
    *,
    dataset: str | None = None,
    root: str | Path | None = None,
    split: str = "test",
    report: Report = silent,
) -> References:
    """The sentences of a file or of a data set.

    file : see `read_references`; or else
    dataset : name of a data set, one of READERS
    root : folder of the data set, None for its default folder
    split : images of the data set, one of SPLITS or 'all'
    report : called with a line about anything in a file that is not read

    Raises ValueError unless either file or dataset is given; CorpusError where files are not of the known form;
    EvaluationError if there are no sentences.
    """
    if (dataset is None) == (file is None):
        raise ValueError("give either a data set or a file of references")
    if file is not None:
        return read_references(file, report=report)
    assert dataset is not None
    return dataset_references(dataset, root, split=split)


def read_references(path: str | Path, *, report: Report = silent) -> References:
    """The sentences of a file, by its name's ending.

    .csv, .tsv : a table with a column for the image (`image_id`, `image`, `file_name`, ...) and one or more of captions
    .jsonl, .ndjson : an object with the same keys per line
    any other : a COCO annotation file, {"annotations": [{"image_id", "caption"}]}

    Integer ids become their digits; .gz is unpacked. report : called with a line about what is not read.

    Raises CorpusError if the file is not of this form, EvaluationError if it holds no sentence.
    """
    path = Path(path)
    with path.open("rb") as stream:
        if stream.read(1) == PICKLE:
            raise CorpusError(
                f"{path} is a pickle, which is not read because loading one can run any code; give the captions "
                "themselves as CSV, JSON lines or a COCO annotation file"
            )
    suffix = Path(path.stem if path.suffix == ".gz" else path.name).suffix.lower()
    if suffix in (*TABLES, *JSON_LINES):
        lines = suffix in JSON_LINES
        table = (
            read_json_lines(path, image_keys=ID_KEYS)
            if lines
            else read_caption_table(path, with_splits=False, image_keys=ID_KEYS)
        )
        for note in table.notes:
            report(note)
        pairs = [(row.image, caption) for row in table.rows for caption in row.captions]
    else:
        pairs = []
        document = parse_json(read_text(path), where=str(path))
        for number, record in enumerate(json_field(document, "annotations", list, where=str(path))):
            where = f"{path}, annotation {number}"
            image = json_id(record, "image_id", where=where)
            pairs.append((image, json_field(record, "caption", str, where=where)))
    if not pairs:
        raise EvaluationError(f"{path} holds no captions")
    return References(path.name, tuple(pairs))


def dataset_references(dataset: str, root: str | Path | None = None, *, split: str = "test") -> References:
    """The sentences of a data set; arguments and errors as for `references`."""
    assert split in (*SPLITS, ALL)
    corpus = read_dataset(dataset, None if root is None else Path(root))
    images = [image for image in corpus.images if split in (image.split, ALL)]
    pairs = tuple((image.id, sentence) for image in images for sentence in image.sentences)
    if not pairs:
        counts = ", ".join(f"{name} {corpus.count(name)}" for name in SPLITS)
        raise EvaluationError(
            f"{corpus.name} has no image with sentences in the split {split!r} (images: {counts}); give another --split"
        )
    return References(f"{dataset} {split}", pairs)

"""Captions and references from files of anybody's making: the COCO result format and the COCO annotation format."""

from collections.abc import Collection
from pathlib import Path

from mrnn.data.annotation_files import json_field, parse_json, read_text, shortened
from mrnn.data.captions import SPLITS, Corpus
from mrnn.data.errors import EvaluationError

ALL = "all"  # instead of a split: every image with a reference


def read_results(path: Path) -> dict[str, str]:
    """The captions of a result file, [{"image_id", "caption"}], by image id; integer ids as their digits.

    Raises CorpusError if it is not of this form, EvaluationError if it is empty or names an image twice.
    """
    document = parse_json(read_text(path), where=str(path))
    if not isinstance(document, list):
        raise EvaluationError(
            f'{path}: expected a list [{{"image_id": ..., "caption": "..."}}, ...], found {shortened(document)}'
        )
    captions: dict[str, str] = {}
    for number, record in enumerate(document):
        where = f"{path}, entry {number}"
        whole = isinstance(record, dict) and isinstance(record.get("image_id"), int)
        image = str(json_field(record, "image_id", int if whole else str, where=where))
        caption = json_field(record, "caption", str, where=where)
        if image in captions:
            raise EvaluationError(f"{where}: image {image} has a caption already; give one for each image")
        captions[image] = caption
    if not captions:
        raise EvaluationError(f"{path} holds no captions; there is nothing to score")
    return captions


def read_references(path: Path) -> dict[str, tuple[str, ...]]:
    """The sentences of a COCO annotation file, {"annotations": [{"image_id", "caption"}]}, by image id.

    Raises CorpusError if it is not of this form.
    """
    document = parse_json(read_text(path), where=str(path))
    sentences: dict[str, list[str]] = {}
    for number, record in enumerate(json_field(document, "annotations", list, where=str(path))):
        where = f"{path}, annotation {number}"
        whole = isinstance(record, dict) and isinstance(record.get("image_id"), int)
        image = str(json_field(record, "image_id", int if whole else str, where=where))
        sentences.setdefault(image, []).append(json_field(record, "caption", str, where=where))
    return {image: tuple(each) for image, each in sentences.items()}


def references_of(corpus: Corpus, split: str) -> dict[str, tuple[str, ...]]:
    """The sentences of a split's images that have any, by image id. split : one of SPLITS, or 'all'.

    Raises EvaluationError if there are none.
    """
    assert split in (*SPLITS, ALL)
    found = {image.id: image.sentences for image in corpus.images if image.sentences and split in (image.split, ALL)}
    if not found:
        counts = ", ".join(f"{name} {corpus.count(name)}" for name in SPLITS)
        raise EvaluationError(
            f"{corpus.name} has no image with sentences in the split {split!r} (images: {counts}); give another --split"
        )
    return found


def check_images(captions: Collection[str], known: Collection[str], *, source: str, allow_subset: bool) -> None:
    """Raise EvaluationError unless every captioned image is known and, without allow_subset, every known one captioned.

    source : where the references come from, for the message.
    """
    strangers = [image for image in captions if image not in known]
    if strangers:
        raise EvaluationError(
            f"{len(strangers)} of {len(captions)} captions are of images that {source} does not have: "
            f"{_some(strangers)}; its ids look like {_some(list(known)[:1])}; is it the right data set and split?"
        )
    missing = [image for image in known if image not in captions]
    if missing and not allow_subset:
        raise EvaluationError(
            f"{len(missing)} of {len(known)} images of {source} have no caption: {_some(missing)}; "
            "--allow-subset scores the others"
        )


def _some(images: list[str]) -> str:
    return ", ".join(images[:3]) + (", ..." if len(images) > 3 else "")

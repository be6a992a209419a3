"""Flickr30k Entities in both of its forms: boxes counted from 1, joined to captions word by word."""

import gzip
import json
import tarfile
from pathlib import Path

import pytest
from PIL import Image as Picture

from mrnn.data.captions import NO_WORDS, Box, Corpus, Image
from mrnn.data.datasets import read_dataset
from mrnn.data.entities import add_boxes, read_entities
from mrnn.data.errors import CorpusError

SENTENCES = """\
[/EN#41/people A girl] in [/EN#42/clothing a blue coat] walks by [/EN#0/notvisual the way] .
[/EN#41/people/other The child] rests near [/EN#43/scene the trees] with [/EN#44/other nothing]
"""
ANNOTATION = """\
<annotation><filename>1234.jpg</filename><size><width>200</width><height>100</height><depth>3</depth></size>
<object><name>41</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>200</xmax><ymax>50</ymax></bndbox></object>
<object><name>42</name><name>41</name><bndbox><xmin>11</xmin><ymin>21</ymin><xmax>30</xmax><ymax>60</ymax></bndbox></object>
<object><name>43</name><scene>1</scene><nobndbox>0</nobndbox></object>
<object><name>44</name><scene>0</scene><nobndbox>1</nobndbox></object></annotation>
"""
RECORD = {
    "image": "1234_abc.jpg",
    "width": 200,
    "height": 100,
    "boxes": [[1, 1, 200, 50, [41]], [11, 21, 30, 60, [42, 41]]],
    "sentences": [
        {
            "tokens": "A girl in a blue coat walks by the way .",
            "phrases": [[0, 2, 41, "people"], [3, 6, 42, "clothing"], [8, 10, 0, "notvisual"]],
        },
        {
            "tokens": "The child rests near the trees with nothing",
            "phrases": [[0, 2, 41, "people/other"], [4, 6, 43, "scene"], [7, 8, 44, "other"]],
        },
    ],
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for folder in ("Sentences", "Annotations", "flickr30k-images"):
        (tmp_path / folder).mkdir()
    (tmp_path / "Sentences" / "1234.txt").write_text(SENTENCES)
    (tmp_path / "Annotations" / "1234.xml").write_text(ANNOTATION)
    Picture.new("RGB", (200, 100)).save(tmp_path / "flickr30k-images" / "1234.jpg")
    (tmp_path / "train.txt").write_text("1234\n")
    (tmp_path / "test.txt").write_text("99\n")
    return tmp_path


def corpus_of(root: Path, *captions: str, size: tuple[int, int] = (200, 100)) -> Corpus:
    Picture.new("RGB", size).save(root / "1234_abc.jpg")
    return Corpus("flickr8k", root, (Image("1234_abc.jpg", "1234_abc.jpg", "train", captions),))


def write_lines(path: Path, *records: object) -> Path:
    with gzip.open(path, "wt") as stream:
        stream.writelines(json.dumps(record) + "\n" for record in records)
    return path


def test_the_authors_layout(root: Path) -> None:
    corpus = read_entities(root)
    image = corpus.images[0]
    assert (image.id, image.path, image.split) == ("1234.jpg", "flickr30k-images/1234.jpg", "train")
    assert image.sentences[0] == "A girl in a blue coat walks by the way ."
    wide, narrow = (0, 0, 200, 50), (10, 20, 20, 40)
    assert image.boxes == (
        Box(*wide, "A girl", 0, (0, 2), "people"),
        Box(*narrow, "A girl", 0, (0, 2), "people"),
        Box(*narrow, "a blue coat", 0, (3, 6), "clothing"),
        Box(*wide, "The child", 1, (0, 2), "people/other"),
        Box(*narrow, "The child", 1, (0, 2), "people/other"),
    )
    assert any("boxes from Annotations: 5 boxes for 3 phrases" in note for note in corpus.notes)


def test_both_forms_say_the_same(root: Path) -> None:
    captions = ("A girl in a blue coat walks by the way .", "The child rests near the trees with nothing")
    corpus = corpus_of(root, *captions)
    of_lines = add_boxes(corpus, write_lines(root / "e.jsonl.gz", RECORD))
    assert of_lines.images == add_boxes(corpus, root).images
    assert of_lines.images[0].boxes == read_entities(root).images[0].boxes


def test_boxes_are_pixels_of_the_file_that_is_there(root: Path) -> None:
    corpus = corpus_of(root, "a girl in a blue coat walks by the way", size=(50, 50))
    first, _, third, *_ = add_boxes(corpus, root).images[0].boxes
    assert (first.left, first.top, first.width, first.height) == (0, 0, 50, 25)
    assert (third.left, third.top, third.width, third.height) == (2.5, 10, 5, 20)


def test_captions_in_other_order_case_and_blanks_are_found(root: Path) -> None:
    captions = ("the child rests near the trees with nothing.", "a girl in a bluecoat walks by the way")
    image = add_boxes(corpus_of(root, *captions), root).images[0]
    assert [(box.phrase, box.sentence, box.words) for box in image.boxes[:3]] == [
        ("A girl", 1, (0, 2)),
        ("A girl", 1, (0, 2)),
        ("a blue coat", 1, (3, 5)),
    ]
    assert image.boxes[3].sentence == 0


def test_sentences_that_are_no_caption_are_listed_and_keep_their_boxes(root: Path) -> None:
    corpus = add_boxes(corpus_of(root, "the child rests near the trees with nothing", "another"), root)
    kinds = [(problem.kind, problem.detail) for problem in corpus.problems]
    assert kinds == [("annotated sentences that no caption equals", "A girl in a blue coat walks by the way .")]
    assert {(box.sentence, box.words) for box in corpus.images[0].boxes[:3]} == {(-1, NO_WORDS)}


def test_other_photographs_are_refused(root: Path) -> None:
    strange = Corpus("folder", root, (Image("x.jpg", "x.jpg", "train", ("a",)),))
    with pytest.raises(CorpusError, match="no photograph of folder has a box in it"):
        add_boxes(strange, root)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"boxes": [[1, 1, 201, 50, [41]]]}, "lies beyond the picture of 200 x 100"),
        ({"boxes": [[0, 1, 20, 50, [41]]]}, "counted from 1"),
        ({"boxes": [[1, 1, 20, 50]]}, r"must be \[xmin, ymin, xmax, ymax"),
        ({"boxes": [["a", 1, 20, 50, [1]]]}, "whole number of pixels"),
        ({"width": 0, "boxes": []}, "beyond the picture of 0 x 100"),
        ({"sentences": [{"tokens": "a b", "phrases": [[0, 3, 1, "x"]]}]}, "a phrase must be"),
        ({"sentences": 5}, "'sentences' must be a list"),
    ],
)
def test_damaged_lines_are_named(root: Path, change: dict[str, object], message: str) -> None:
    corpus = corpus_of(root, "a girl")
    with pytest.raises(CorpusError, match=rf"line 1.*{message}"):
        add_boxes(corpus, write_lines(root / "e.jsonl.gz", {**RECORD, **change}))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<annotation>", "not XML"),
        ('<!DOCTYPE a [<!ENTITY b "c">]>' + ANNOTATION, "declares entities"),
        (ANNOTATION.replace("<xmax>200", "<xmax>999"), "lies beyond"),
        (ANNOTATION.replace("<width>200", "<width>wide"), "whole number"),
    ],
)
def test_damaged_annotations_are_named(root: Path, text: str, message: str) -> None:
    (root / "Annotations" / "1234.xml").write_text(text)
    with pytest.raises(CorpusError, match=rf"1234.xml: .*{message}"):
        read_entities(root)


def test_flickr8k_on_the_real_files(real_data: Path) -> None:
    file = real_data / "flickr30k-entities" / "entities_flickr8k.jsonl.gz"
    corpus = read_dataset("flickr8k", real_data / "flickr8k", boxes=file)
    assert all(image.boxes for image in corpus.images)
    boxes = [(image, box) for image in corpus.images for box in image.boxes]
    joined = [(image, box) for image, box in boxes if box.sentence >= 0]
    assert len(joined) > 140_000
    for image, box in joined:
        said = "".join(image.sentences[box.sentence].split()[slice(*box.words)]).lower()
        assert "".join(box.phrase.lower().split()) in said
    for _, box in boxes:  # the photographs here are squashed to 224 x 224
        assert 0 <= box.left < box.left + box.width <= 224.001
        assert 0 <= box.top < box.top + box.height <= 224.001


def test_the_real_layout_and_the_real_lines_agree(real_data: Path, tmp_path: Path) -> None:
    folder = real_data / "flickr30k-entities"
    with tarfile.open(folder / "original_layout_500_images.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    photographs = sorted((real_data / "flickr8k" / "Flicker8k_original_aspect").iterdir())
    original = read_entities(tmp_path)
    numbers = {image.id.removesuffix(".jpg"): image for image in original.images}
    images = tuple(
        Image(photograph.name, photograph.name, "train", numbers[photograph.name.partition("_")[0]].sentences)
        for photograph in photographs
    )
    corpus = Corpus("flickr8k", photographs[0].parent, images)
    assert add_boxes(corpus, tmp_path).images == add_boxes(corpus, folder / "entities_flickr8k.jsonl.gz").images

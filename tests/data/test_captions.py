"""The corpus: its rules, its trial cut, paths from data files, seeded splits."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from mrnn.data.captions import Box, Corpus, Image, Problem, relative_path, seeded_order, seeded_split
from mrnn.data.errors import CorpusError


def corpus(**counts: int) -> Corpus:
    """counts : number of images of train, val, test and none, in this order."""
    images = tuple(
        Image(f"{split}{n}", f"{split}{n}.jpg", "" if split == "none" else split, ("A.",))
        for split, count in counts.items()
        for n in range(count)
    )
    return Corpus("made", Path("root"), images)


def test_doubled_id_and_unknown_split_are_errors() -> None:
    image = Image("a", "a.jpg", "train", ())
    with pytest.raises(CorpusError, match="'a' is used by more than one"):
        Corpus("made", Path(), (image, replace(image, path="b.jpg")))
    with pytest.raises(CorpusError, match="unknown split 'restval'"):
        Corpus("made", Path(), (replace(image, split="restval"),))


def test_text_that_no_file_can_hold_is_written_out_where_it_is_the_problem() -> None:
    problem = Problem("odd", "half \ud83d", "zero \0, whole 😀")
    assert (problem.subject, problem.detail) == ("half \\ud83d", "zero \\0, whole 😀")


def test_count() -> None:
    made = corpus(train=3, test=2, none=1)
    assert [made.count(split) for split in ("train", "val", "test", "")] == [3, 0, 2, 1]


def test_digest_depends_on_every_annotation_and_on_nothing_else() -> None:
    box = Box(1, 2, 3, 4, "a cat", 0)
    image = Image("a", "a.jpg", "train", ("A cat.",), (box,))
    made = Corpus("made", Path("here"), (image, Image("b", "b.jpg", "", ())))
    changes = [
        replace(image, id="c"),
        replace(image, path="c.jpg"),
        replace(image, split="val"),
        replace(image, sentences=("A cat", ".")),
        replace(image, boxes=(replace(box, left=1.5),)),
    ]
    digests = {replace(made, images=(changed, made.images[1])).sha256() for changed in changes}
    digests |= {replace(made, images=made.images[::-1]).sha256(), made.sha256()}
    assert len(digests) == len(changes) + 2
    assert replace(made, root=Path("there"), notes=("x",)).sha256() == made.sha256()


def test_trial_keeps_the_proportions_and_the_order() -> None:
    made = corpus(train=600, val=100, test=100, none=50)
    trial = made.limited(40)
    assert Counter(image.split for image in trial.images) == {"train": 30, "val": 5, "test": 5}
    order = {image.id: position for position, image in enumerate(made.images)}
    positions = [order[image.id] for image in trial.images]
    assert positions == sorted(positions)
    assert trial.images == made.limited(40).images


@pytest.mark.parametrize("n", range(1, 40))
def test_trial_has_n_images_and_every_split_if_it_can(n: int) -> None:
    trial = corpus(train=30, val=1, test=3, none=5).limited(n)
    counts = Counter(image.split for image in trial.images)
    assert sum(counts.values()) == min(n, 34)
    assert "" not in counts
    if n >= 3:
        assert set(counts) == {"train", "val", "test"}


def test_trial_of_nothing_is_an_error() -> None:
    with pytest.raises(CorpusError, match="at least 1"):
        corpus(train=3).limited(0)


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("a.jpg", "a.jpg"),
        ("./a/b.jpg", "a/b.jpg"),
        ("a\\b.jpg", "a/b.jpg"),
        ("a//b.jpg", "a/b.jpg"),
        ("..a.jpg", "..a.jpg"),
    ],
)
def test_relative_path(text: str, path: str) -> None:
    assert relative_path(text, where="here") == path


@pytest.mark.parametrize("text", ["", " ", ".", "/a", "\\a", "../a", "a/../b", "a\\..\\b", "C:/a", "c:a", "a\0b"])
def test_path_that_leaves_the_root_is_an_error(text: str) -> None:
    with pytest.raises(CorpusError, match="here: .*outside"):
        relative_path(text, where="here")


def test_seeded_order_and_split_do_not_depend_on_the_order_given() -> None:
    ids = [str(n) for n in range(100)]
    assert seeded_order(ids) == seeded_order(reversed(ids))
    assert seeded_order(ids) != seeded_order(ids, seed=1)
    assert seeded_order(ids[:50]) == [each for each in seeded_order(ids) if int(each) < 50]
    splits = seeded_split(ids, val=10, test=20)
    assert Counter(splits.values()) == {"train": 70, "val": 10, "test": 20}
    assert splits == seeded_split(ids[::-1], val=10, test=20)

"""Judgement files and the papers' protocol, against hand-made cases."""

from pathlib import Path

import numpy as np
import pytest

from mrnn.data.errors import CorpusError
from mrnn.evaluate.studies.judgements import read_judgements

CAPTIONS = {
    "a.jpg": ["A dog runs .", "A dog runs in snow .", "The dog"],
    "b.jpg": ["A cat sleeps .", "A dog runs .", "A cat"],
}
EXPERT = ["a.jpg\tb.jpg#0\t1\t1\t2", "a.jpg\ta.jpg#1\t4\t4\t3", "b.jpg\ta.jpg#0\t1\t2\t1", "b.jpg\ta.jpg#1\t2\t2\t3"]
CROWD = ["a.jpg\tb.jpg#1\t0.333333333333333\t1\t2", "a.jpg\tb.jpg#0\t0\t0\t3", "b.jpg\tb.jpg#2\t1\t4\t0"]


def write(root: Path, *, expert: list[str] | None = None, crowd: list[str] | None = None) -> Path:
    lines = [f"{image}#{k}\t{text}" for image, texts in CAPTIONS.items() for k, text in enumerate(texts)]
    for name, rows in (
        ("Flickr8k.token.txt", lines),
        ("ExpertAnnotations.txt", EXPERT if expert is None else expert),
        ("CrowdFlowerAnnotations.txt", CROWD if crowd is None else crowd),
    ):
        (root / name).write_text("".join(f"{row}\n" for row in rows))
    return root


def test_the_papers_protocol(tmp_path: Path) -> None:
    expert, crowd = read_judgements(write(tmp_path))
    # a.jpg with its own caption is left out; so is b.jpg with one of the same words as its own
    assert list(zip(expert.images, expert.captions, strict=True)) == [
        ("a.jpg", "A cat sleeps ."),
        ("b.jpg", "A dog runs in snow ."),
    ]
    assert expert.left_out == 2
    assert expert.ratings.tolist() == [[1, 1, 2], [2, 2, 3]]
    assert expert.references == (tuple(CAPTIONS["a.jpg"]), tuple(CAPTIONS["b.jpg"])), "Expert keeps all references"
    # CrowdFlower keeps all pairs, and takes captions judged for their own image out of its references everywhere
    assert crowd.images == ("a.jpg", "a.jpg", "b.jpg")
    assert crowd.left_out == 0
    np.testing.assert_allclose(crowd.ratings, [[1 / 3], [0], [1]])
    assert crowd.references == (("A dog runs in snow .", "The dog"),) * 2 + (("A cat sleeps .", "A dog runs ."),)
    assert (expert.coefficient, crowd.coefficient) == ("tau_c", "tau_b")
    one = expert.only(np.array([False, True]))
    assert (one.images, one.ratings.tolist(), one.left_out) == (("b.jpg",), [[2, 2, 3]], 2)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"expert": [*EXPERT, "a.jpg\tb.jpg#0\t1\t1"]}, r"ExpertAnnotations.txt, line 5: expected an image, a caption"),
        ({"expert": ["a.jpg\tb.jpg#0\t1\t5\t1"]}, r"line 1: .* three ratings from 1 to 4"),
        ({"expert": ["a.jpg b.jpg#0 1 1 1"]}, r"line 1: .* with tabs between, found 'a.jpg b.jpg#0 1 1 1'"),
        ({"expert": []}, r"holds no judgement"),
        ({"expert": ["a.jpg\tc.jpg#0\t1\t1\t1"]}, r"line 1: the captions of the data set have no 'c.jpg#0'"),
        ({"expert": ["c.jpg\ta.jpg#0\t1\t1\t1"]}, r"judged image 'c.jpg' has no captions"),
        ({"crowd": ["a.jpg\tb.jpg#0\t0.5\t1\t2"]}, r"CrowdFlowerAnnotations.txt, line 1: .* the yeses and the noes"),
        ({"crowd": ["a.jpg\tb.jpg#0\t0\t0\t0"]}, r"line 1"),
        ({"crowd": [f"a.jpg\ta.jpg#{k}\t0\t0\t3" for k in range(3)]}, r"'a.jpg' has no captions to compare with"),
    ],
)
def test_bad_files_are_named_with_their_line(tmp_path: Path, files: dict[str, list[str]], message: str) -> None:
    with pytest.raises(CorpusError, match=message):
        read_judgements(write(tmp_path, **files))


def test_missing_files_are_named(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "CrowdFlowerAnnotations.txt").unlink()
    with pytest.raises(CorpusError, match="looked for CrowdFlowerAnnotations.txt; found .*ExpertAnnotations.txt"):
        read_judgements(tmp_path)

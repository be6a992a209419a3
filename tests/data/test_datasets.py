"""Data sets by name, and: whatever the bytes, a reader answers with a corpus or a CorpusError."""

import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from mrnn.data.captions import Corpus
from mrnn.data.datasets import READERS, default_root, read_dataset
from mrnn.data.errors import CorpusError


def test_names() -> None:
    assert list(READERS) == ["flickr8k", "flickr30k", "iaprtc12", "coco", "karpathy", "folder", "scenes"]


def test_default_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MRNN_DATA", raising=False)
    assert default_root("flickr8k") == Path("datasets/flickr8k")
    monkeypatch.setenv("MRNN_DATA", "/somewhere")
    assert default_root("coco") == Path("/somewhere/coco")


def test_read_dataset_takes_the_root_or_the_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def reader(root: Path) -> Corpus:
        return Corpus("folder", root, ())

    monkeypatch.setitem(READERS, "folder", reader)
    monkeypatch.setenv("MRNN_DATA", str(tmp_path))
    assert read_dataset("folder", None).root == tmp_path / "folder"
    assert read_dataset("folder", tmp_path / "own").root == tmp_path / "own"


def test_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(CorpusError, match="flickr9k.*flickr8k, flickr30k"):
        read_dataset("flickr9k", None)


@pytest.mark.parametrize("name", [name for name in READERS if name != "scenes"])
def test_empty_root_says_that_nothing_was_found(name: str, tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=rf"{name}: no .* looked for .*; found nothing"):
        read_dataset(name, tmp_path)


def flickr(root: Path) -> Path:
    (root / "train.txt").write_text("a.jpg\nb.jpg\n")
    (root / "test.txt").write_text("c.jpg\n")
    return put(root, "Flickr8k.token.txt", "".join(f"{n}.jpg#{k}\tA {n} .\n" for n in "abc" for k in range(2)))


def flickr30k(root: Path) -> Path:
    rows = "a.jpg| 0| A boat .\nb.jpg| 4   The lake .\n"
    return put(root, "results.csv", "image_name| comment_number| comment\n" + rows)


def iaprtc12(root: Path) -> Path:
    return put(
        root, "annotations/00/1.eng", "<DOC><DESCRIPTION>a & b; c</DESCRIPTION><IMAGE>images/00/1.jpg</IMAGE></DOC>"
    )


def coco(root: Path) -> Path:
    images = [{"id": i, "file_name": f"{i}.jpg"} for i in range(3)]
    annotations = [{"id": i, "image_id": i % 3, "caption": "A caf\u00e9 \u2028."} for i in range(6)]
    return put(root, "captions_val2014.json", json.dumps({"images": images, "annotations": annotations}))


def karpathy(root: Path) -> Path:
    sentences = [{"tokens": ["a"], "raw": "A."}, {"tokens": ["b", "c"]}]
    images = [{"filename": f"{i}.jpg", "cocoid": i, "split": "val", "sentences": sentences} for i in range(2)]
    return put(root, "dataset_coco.json", json.dumps({"images": images}))


def folder(root: Path) -> Path:
    return put(root, "captions.csv", 'image,caption,split\na.jpg,"A, b",train\nb.jpg,B,test\n')


def put(root: Path, name: str, text: str) -> Path:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def damaged(content: bytes, rng: random.Random) -> bytes:
    """The content with a few bytes changed, doubled, cut out, or exchanged for awkward ones."""
    awkward = [
        b"\0",
        b"\xff",
        b'"',
        b"\n",
        b"\r",
        b"#",
        b"|",
        b"\\ud800",
        b"1e999",
        b"null",
        b"[",
        b"-1",
        b"../",
        b"{}",
        b"",
    ]
    for _ in range(rng.randint(1, 4)):
        begin = rng.randrange(len(content) + 1)
        end = min(len(content), begin + rng.choice((0, 1, 2, 8, 60)))
        content = content[:begin] + rng.choice([*awkward, content[begin:end] * 2]) + content[end:]
    return content


@pytest.mark.parametrize(
    ("name", "build"),
    [
        ("flickr8k", flickr),
        ("flickr30k", flickr30k),
        ("iaprtc12", iaprtc12),
        ("coco", coco),
        ("karpathy", karpathy),
        ("folder", folder),
    ],
)
def test_damaged_files_give_a_corpus_or_a_corpus_error(
    name: str, build: Callable[[Path], Path], tmp_path: Path
) -> None:
    (tmp_path / "images").mkdir()
    path = build(tmp_path)
    content = path.read_bytes()
    assert READERS[name](tmp_path).images
    outcomes = set()
    for seed in range(300):
        path.write_bytes(damaged(content, random.Random(seed)))
        try:
            corpus = READERS[name](tmp_path)
        except CorpusError:
            outcomes.add("error")
        else:
            outcomes.add("corpus")
            corpus.sha256()
            assert all(".." not in Path(image.path).parts and image.path[0] != "/" for image in corpus.images)
    assert "error" in outcomes

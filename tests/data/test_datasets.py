"""Data sets by name."""

from pathlib import Path

import pytest

from mrnn.data.captions import Corpus
from mrnn.data.datasets import READERS, default_root, read_dataset
from mrnn.data.errors import CorpusError


def test_names() -> None:
    names = "flickr8k flickr30k flickr30k-entities iaprtc12 coco karpathy folder scenes"
    assert list(READERS) == names.split()


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

"""Whatever stands in its files, a reader returns a corpus that a cache can hold, or raises a CorpusError.

Small files of the real forms are damaged in three ways: bytes anywhere, values of a JSON document, cells of a table.
"""

import csv
import gzip
import io
import json
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mrnn.data.cache import open_cache
from mrnn.data.cache_creation import create_cache
from mrnn.data.captions import Corpus
from mrnn.data.datasets import READERS
from mrnn.data.errors import CorpusError, MrnnError, WeightsError
from mrnn.data.foreign.formats import Given, read_sources
from mrnn.evaluate.studies.caption_files import read_results
from mrnn.extract.backbones.weights import CONTAINERS, read_weights

TOKENS = "".join(f"{name}.jpg#{number}\tA {name} .\n" for name in "abc" for number in range(2))
LISTS = {"train.txt": "a.jpg\nb.jpg\n", "test.txt": "c.jpg\n"}
DESCRIPTION = "<DOC><DOCNO>00/1.eng</DOCNO><DESCRIPTION>a & b; c</DESCRIPTION><IMAGE>images/00/1.jpg</IMAGE>"
COCO = {
    "images": [{"id": number, "file_name": f"{number}.jpg"} for number in range(3)],
    "annotations": [{"id": number, "image_id": number % 3, "caption": "A café \u2028."} for number in (*range(6), 0)],
}
OWN = {
    "images": [{"id": name, "file_name": f"zoo/{name}"} for name in ("a.jpg", "1", "")],
    "annotations": [{"id": "x", "image_id": "a.jpg", "caption": "A."}, {"id": 2, "image_id": 1, "caption": "B."}],
}
OWN["images"][2]["id"] = 3
SENTENCES = [{"tokens": ["a"], "raw": "A."}, {"tokens": ["b", "c"]}]
KARPATHY = {
    "images": [
        {"filename": f"{number}.jpg", "cocoid": number, "split": split, "sentences": SENTENCES}
        for number, split in ((0, "restval"), (1, "val"), (2, "test"), (0, "test"))
    ]
}
TABLE = 'image,caption,split\na.jpg,"A, b",train\nb.jpg,B,test\n'
LINES = '{"image": "a.jpg", "captions": ["A", "b"]}\n{"file": "b.jpg", "text": "B", "split": "test"}\n'

# Data set, and its files by path below the root.
STARTS: dict[str, tuple[str, dict[str, bytes]]] = {
    "flickr8k": ("flickr8k", {"Flickr8k.token.txt": TOKENS.encode(), **{k: v.encode() for k, v in LISTS.items()}}),
    "packed": ("flickr30k", {"results_20130124.token.gz": gzip.compress(TOKENS.encode(), mtime=0)}),
    "kaggle": ("flickr30k", {"results.csv": b"image_name| comment_number| comment\na.jpg| 0| A .\nb.jpg| 4   B .\n"}),
    "iaprtc12": (
        "iaprtc12",
        {"annotations/00/1.eng": DESCRIPTION.encode("iso-8859-1"), "iaprtc12_train_list.txt": b"00/1\n00/2\n",
         "iaprtc12_test_list.txt": b"00/3\n"},
    ),
    "coco": ("coco", {"captions_val2014.json": json.dumps(COCO).encode()}),
    "karpathy": ("karpathy", {"dataset_coco.json": json.dumps(KARPATHY).encode()}),
    "coco by karpathy": (
        "coco",
        {"captions_val2014.json": json.dumps(COCO).encode(), "dataset_coco.json": json.dumps(KARPATHY).encode()},
    ),
    "table": ("folder", {"captions.csv": TABLE.encode()}),
    "lines": ("folder", {"captions.jsonl": LINES.encode()}),
    "wide": ("folder", {"captions.csv": b'image,caption_1,caption,caption,set\na.jpg,A,"B\nb",,train\nb,C,D,E,test\n'}),
    "tabs": ("folder", {"captions.tsv": b'image\tcaption\tsplit\na.jpg\t"A\ttrain\nb.jpg\tB"\t\n0.jpg\t"C ""c"""\t\n'}),
    "doubled": ("folder", {"captions.jsonl": b'{"image": "a.jpg", "caption": "A", "caption": "B", "set": "val"}\n'}),
    "own coco": ("coco", {"captions_val2017.json": json.dumps(OWN).encode()}),
}  # fmt: skip
AWKWARD = (
    b"\0", b"\xff", b'"', b"\n", b"\r", b"#", b"|", b"\t", b"\\ud800", b"1e999", b"null", b"[", b"-1", b"../", b"{}",
    b"9" * 5000, b"[" * 5000, b"\xef\xbb\xbf", b"\xe2\x80\xa8", b"", b"\xff\xfe", b'""', b',"', b'"\n', b",caption",
    b"caption_2", b'"caption": "x",', "e\u0301 \u0915\u0941 \u0e41\u0e21\u0e27".encode(), b"\xe9", b"\r\n\r\n",
)  # fmt: skip
WORDS = st.text(max_size=8) | st.sampled_from(["a.jpg", "../a", "/a", "", "train", "\ud800", "\0", "a\n", "1e400"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=6,
)
FUZZ = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def write(root: Path, files: dict[str, bytes]) -> None:
    (root / "images").mkdir(exist_ok=True)
    for name in ("a.jpg", "0.jpg"):
        (root / "images" / name).touch()
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)


def read(name: str, root: Path) -> Corpus | None:
    """The corpus, if the reader accepts the files; it can then be stored, and comes back as it was."""
    try:
        corpus = READERS[name](root)
    except CorpusError as error:
        str(error).encode()  # it can be printed
        return None
    assert all(".." not in Path(image.path).parts and image.path[0] != "/" for image in corpus.images)
    cache = root.parent / "cache.h5"
    cache.unlink(missing_ok=True)
    create_cache(cache, corpus, {}, feature_size=1)
    stored = open_cache(cache, allow_partial=True).corpus()
    assert (stored.images, stored.problems, stored.sha256()) == (corpus.images, corpus.problems, corpus.sha256())
    return corpus


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "root").mkdir()
    return tmp_path / "root"


@pytest.mark.parametrize("start", STARTS)
def test_undamaged_files_are_read(start: str, root: Path) -> None:
    name, files = STARTS[start]
    write(root, files)
    corpus = read(name, root)
    assert corpus is not None
    assert sum(len(image.sentences) for image in corpus.images) >= 2


@pytest.mark.parametrize("start", STARTS)
@FUZZ
@given(data=st.data())
def test_damaged_bytes(start: str, root: Path, data: st.DataObject) -> None:
    """Some bytes of one of the files are changed, doubled, cut out, or exchanged for awkward ones."""
    name, files = STARTS[start]
    which = data.draw(st.sampled_from(sorted(files)))
    content = files[which]
    for _ in range(data.draw(st.integers(1, 4))):
        begin = data.draw(st.integers(0, len(content)))
        end = min(len(content), begin + data.draw(st.sampled_from((0, 1, 2, 8, 60))))
        new = data.draw(st.sampled_from([*AWKWARD, content[begin:end] * 2]) | st.binary(max_size=3))
        content = content[:begin] + new + content[end:]
    write(root, {**files, which: content})
    read(name, root)


def nodes(value: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """The ways to all values in a JSON document."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(way for key, below in inner for way in nodes(below, (*path, key)))]


@pytest.mark.parametrize("start", ["coco", "karpathy", "coco by karpathy", "own coco"])
@FUZZ
@given(data=st.data())
def test_damaged_json(start: str, root: Path, data: st.DataObject) -> None:
    """Some values of one of the documents are exchanged for any others, or for others of the same document."""
    name, files = STARTS[start]
    which = data.draw(st.sampled_from(sorted(files)))
    document = json.loads(files[which])
    for _ in range(data.draw(st.integers(1, 3))):
        ways = nodes(document)[1:]
        if not ways:
            break
        *way, last = data.draw(st.sampled_from(ways))
        place = document
        for key in way:
            place = place[key]
        if data.draw(st.booleans()):
            place[last] = data.draw(JSON)
        elif isinstance(place, dict):
            del place[last]
        else:
            place.insert(0, place[last])
    write(root, {**files, which: json.dumps(document).encode()})
    read(name, root)


@pytest.mark.parametrize(
    ("name", "file"), [("folder", "captions.csv"), ("folder", "captions.tsv"), ("flickr8k", "captions.txt")]
)
@FUZZ
@given(
    header=st.permutations(["image", "caption", "split"])
    | st.lists(WORDS | st.sampled_from(["image", "caption", "caption_1", "Captions", "set", "text"]), max_size=5),
    rows=st.lists(st.lists(WORDS | st.sampled_from(['"', 'a"', '"b', "c\nd,e"]), min_size=2, max_size=5), max_size=4),
    dialect=st.sampled_from(["excel", "excel-tab", "unix"]),
)
def test_any_table(name: str, file: str, root: Path, header: list[str], rows: list[list[str]], dialect: str) -> None:
    stream = io.StringIO(newline="")
    csv.writer(stream, dialect=dialect, escapechar="\\").writerows([header, *rows])
    write(root, {file: stream.getvalue().encode(errors="surrogatepass")})
    read(name, root)


FILE_NAMES = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=12)


@FUZZ
@given(names=st.lists(FILE_NAMES, min_size=1, max_size=4, unique=True), below=st.sampled_from(["", "images/", "a/b/"]))
def test_any_name_of_a_picture_that_exists(root: Path, names: list[str], below: str) -> None:
    """Whatever a file is called, a data set that names it does not miss it."""
    folder = root / uuid.uuid4().hex
    there = []
    for name in names:
        path = folder / below / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with suppress(OSError):  # ".", "..", or longer than the file system takes
            path.touch(exist_ok=False)
            there.append(name)
    lines = "\n".join(json.dumps({"image": below + name, "caption": "A."}) for name in there)
    (folder / "captions.jsonl").write_text(lines or json.dumps({"image": "x.jpg", "caption": "A."}))
    try:
        corpus = READERS["folder"](folder)
    except CorpusError:
        return
    missing = {problem.subject for problem in corpus.problems if problem.kind == "pictures missing"}
    assert not missing & {below + name for name in there}


@FUZZ
@given(
    text=st.text(max_size=60) | st.sampled_from(["a.jpg\nb.jpg\nc.jpg\n", "\ufeffa.jpg\r\nb.jpg\r\nc.jpg"]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "latin-1", "utf-32"]),
)
def test_any_list_of_ids(root: Path, text: str, encoding: str) -> None:
    np.save(root / "x.npy", np.ones((3, 2)))
    (root / "ids.txt").write_bytes(text.encode(encoding, errors="replace"))
    try:
        (source,) = read_sources([root / "x.npy"], Given(ids_file=root / "ids.txt"))
    except MrnnError as error:
        str(error).encode()
        return
    assert source.ids is not None
    assert len(set(source.ids)) == source.count
    assert not source.ids[0].startswith("\ufeff") or "\ufeff" in text.lstrip("\ufeff")
    assert all(image_id == image_id.strip() for image_id in source.ids)


RESULTS = [{"image_id": 1, "caption": "A."}, {"image_id": "b.jpg", "caption": "B."}]


@FUZZ
@given(data=st.data())
def test_any_results_file(root: Path, data: st.DataObject) -> None:
    lines = data.draw(st.booleans())
    text = "\n".join(map(json.dumps, RESULTS)) if lines else json.dumps(RESULTS)
    begin = data.draw(st.integers(0, len(text)))
    end = begin + data.draw(st.sampled_from((0, 1, 8)))
    new = data.draw(st.sampled_from(AWKWARD) | st.binary(max_size=3))
    (root / "results.json").write_bytes(text[:begin].encode() + new + text[end:].encode())
    try:
        captions = read_results(root / "results.json")
    except MrnnError as error:
        str(error).encode(errors="surrogatepass")
        return
    assert captions
    assert all(isinstance(caption, str) for caption in captions.values())


WEIGHTS = {"features.0.weight": torch.ones(2), "features.0.bias": torch.ones(1)}


@FUZZ
@given(data=st.data())
def test_any_weights_file(root: Path, data: st.DataObject) -> None:
    stream = io.BytesIO()
    prefix, key = (
        data.draw(st.sampled_from(["", "module.", "_orig_mod.module."])),
        data.draw(st.sampled_from(CONTAINERS)),
    )
    state = {prefix + name: value for name, value in WEIGHTS.items()}
    torch.save(data.draw(st.sampled_from([state, {key: state, "epoch": 3}, {"model": {key: state}}])), stream)
    content = stream.getvalue()
    path = root / f"w{data.draw(st.sampled_from(['.pt', '.pth', '.pth.tar', '.bin', '.safetensors']))}"
    if data.draw(st.booleans()):
        begin = data.draw(st.integers(0, len(content)))
        content = content[:begin] + data.draw(st.binary(max_size=4)) + content[begin + data.draw(st.integers(0, 99)) :]
    path.write_bytes(content)
    try:
        tensors, _ = read_weights(path)
    except WeightsError as error:
        assert "weights_only" not in str(error)  # noqa: PT017
        return
    assert tensors.keys() == WEIGHTS.keys() or content != stream.getvalue()

"""Flickr8k and Flickr30k in every form that users have, and the real files where they are."""

import gzip
import json
import re
from collections import Counter
from pathlib import Path

import pytest

from mrnn.data.captions import Corpus
from mrnn.data.errors import CorpusError
from mrnn.data.flickr import captions_by_id, read_flickr8k, read_flickr30k

GHOST = "2258277193_586949ec62.jpg.1"


def kinds(corpus: Corpus) -> Counter[str]:
    return Counter(problem.kind for problem in corpus.problems)


def sentences(corpus: Corpus) -> dict[str, tuple[str, ...]]:
    return {image.id: image.sentences for image in corpus.images}


def splits(corpus: Corpus) -> dict[str, str]:
    return {image.id: image.split for image in corpus.images}


@pytest.fixture
def flickr8k(tmp_path: Path) -> Path:
    """a in train, b in val, c in test, d in none, and the ghost without a file."""
    lines = [f"{name}.jpg#{k}\tA {name} , number {k} ." for name in "abcd" for k in range(5)]
    (tmp_path / "Flickr8k.token.txt").write_text("\n".join([*lines, f"{GHOST}#0\tA ghost ."]) + "\n")
    (tmp_path / "Flickr8k.lemma.token.txt").write_text("a.jpg#0\tlemma\n")
    for name, image in zip(("train", "dev", "test"), "abc", strict=True):
        (tmp_path / f"Flickr_8k.{name}Images.txt").write_text(f"{image}.jpg\n")
    pictures = tmp_path / "Flicker8k_Dataset"
    pictures.mkdir()
    for name in "abcd":
        (pictures / f"{name}.jpg").touch()
    return tmp_path


def test_token_file_with_official_lists(flickr8k: Path) -> None:
    corpus = read_flickr8k(flickr8k)
    assert splits(corpus) == {"a.jpg": "train", "b.jpg": "val", "c.jpg": "test", "d.jpg": ""}
    assert corpus.images[0].path == "Flicker8k_Dataset/a.jpg"
    assert corpus.images[0].sentences == tuple(f"A a , number {k} ." for k in range(5))
    assert not corpus.integer_ids


def test_ghost_is_listed_not_dropped_in_silence(flickr8k: Path) -> None:
    (problem,) = read_flickr8k(flickr8k).problems
    assert problem.subject == GHOST
    assert "without a picture" in problem.kind


def test_missing_unnamed_uncaptioned_and_doubled(flickr8k: Path) -> None:
    (flickr8k / "Flicker8k_Dataset/a.jpg").unlink()
    (flickr8k / "Flicker8k_Dataset/other.jpg").touch()
    (flickr8k / "Flickr_8k.testImages.txt").write_text("c.jpg\nc.jpg\nnever.jpg\n")
    with (flickr8k / "Flickr8k.token.txt").open("a") as file:
        file.write("b.jpg#0\tSaid twice .\nb.jpg#5\t  \n")
    corpus = read_flickr8k(flickr8k)
    assert kinds(corpus) == {
        "captions without a picture, in no split": 1,
        "pictures missing": 2,
        "pictures that no data file names": 1,
        "images without captions": 1,
        "images named twice in a split list": 1,
        "caption numbers that occur twice": 1,
        "images with empty captions": 1,
    }
    assert splits(corpus)["a.jpg"] == "train"
    assert splits(corpus)["never.jpg"] == "test"
    assert sentences(corpus)["never.jpg"] == ()
    assert len(sentences(corpus)["b.jpg"]) == 5
    assert sentences(corpus)["b.jpg"][0] == "A b , number 0 ."


def test_image_in_two_lists_is_an_error_that_names_both(flickr8k: Path) -> None:
    (flickr8k / "Flickr_8k.testImages.txt").write_text("c.jpg\na.jpg\n")
    with pytest.raises(CorpusError, match=r"testImages\.txt, line 2.*'a\.jpg'.*trainImages\.txt"):
        read_flickr8k(flickr8k)


def test_train_list_alone_is_an_error_and_without_val_a_part_of_train_is_held_out(flickr8k: Path) -> None:
    (flickr8k / "Flickr_8k.devImages.txt").unlink()
    (flickr8k / "Flickr_8k.trainImages.txt").write_text("a.jpg\nb.jpg\nd.jpg\n")
    corpus = read_flickr8k(flickr8k)
    assert (corpus.count("train"), corpus.count("val"), corpus.count("test")) == (2, 1, 1)
    assert any("no validation" in note for note in corpus.notes)
    (flickr8k / "Flickr_8k.testImages.txt").unlink()
    with pytest.raises(CorpusError, match="no list of the test images"):
        read_flickr8k(flickr8k)


def test_without_lists_the_split_is_seeded_and_ignores_the_disk(flickr8k: Path) -> None:
    for path in flickr8k.glob("Flickr_8k.*"):
        path.unlink()
    corpus = read_flickr8k(flickr8k)
    assert GHOST in splits(corpus)
    assert Counter(splits(corpus).values()) == {"train": 3, "val": 1, "test": 1}
    assert any("seed 0" in note for note in corpus.notes)
    (flickr8k / "Flicker8k_Dataset/b.jpg").unlink()
    assert splits(read_flickr8k(flickr8k)) == splits(corpus)


def test_karpathy_file_gives_the_splits_where_there_are_no_lists(flickr8k: Path) -> None:
    for path in flickr8k.glob("Flickr_8k.*"):
        path.unlink()
    images = [
        {"filename": f"{n}.jpg", "split": s, "sentences": []}
        for n, s in zip("abc", ("val", "test", "restval"), strict=True)
    ]
    (flickr8k / "dataset_flickr8k.json").write_text(json.dumps({"images": images}))
    assert splits(read_flickr8k(flickr8k)) == {"a.jpg": "val", "b.jpg": "test", "c.jpg": "train", "d.jpg": ""}


def test_blank_for_a_tab_is_read_and_listed(flickr8k: Path) -> None:
    with (flickr8k / "Flickr8k.token.txt").open("a") as file:
        file.write("a.jpg#5 A tab became a blank .\n")
    corpus = read_flickr8k(flickr8k)
    assert sentences(corpus)["a.jpg"][5] == "A tab became a blank ."
    assert kinds(corpus)["damaged caption lines"] == 1


def test_only_line_feeds_part_lines_and_blanks_collapse(flickr8k: Path) -> None:
    text = "a.jpg#0\tA  caf\u00e9\u2028with \x85 odd #1 blanks \r\nb.jpg#0\tB .\r\n"
    (flickr8k / "Flickr8k.token.txt").write_bytes(text.encode("utf-8-sig"))
    assert sentences(read_flickr8k(flickr8k))["a.jpg"] == ("A café with odd #1 blanks",)


def test_captions_by_the_ids_of_the_judgement_files(flickr8k: Path) -> None:
    """Also where blank captions and doubled numbers would shift the places, and from Kaggle's file without numbers."""
    tokens = ["a.jpg#1\tSecond .", "a.jpg#0\t ", "a.jpg#2\tThird  one .", "a.jpg#2\tDoubled .", f"{GHOST}#0\tGhost"]
    (flickr8k / "Flickr8k.token.txt").write_text("\n".join(tokens))
    expected = {"a.jpg#1": "Second .", "a.jpg#0": "", "a.jpg#2": "Third one .", f"{GHOST}#0": "Ghost"}
    assert captions_by_id(flickr8k) == expected
    (flickr8k / "Flickr8k.token.txt").unlink()
    (flickr8k / "captions.txt").write_text("image,caption\na.jpg,First\nb.jpg,Other\na.jpg,Second\n")
    assert captions_by_id(flickr8k) == {"a.jpg#0": "First", "b.jpg#0": "Other", "a.jpg#1": "Second"}


def test_kaggle_captions_txt(flickr8k: Path) -> None:
    (flickr8k / "Flickr8k.token.txt").unlink()
    (flickr8k / "Flicker8k_Dataset").rename(flickr8k / "Images")
    (flickr8k / "captions.txt").write_text(
        'image,caption\na.jpg,"A boat , a lake and a ""hill"" ."\na.jpg,A boat .\nb.jpg,B .\nc.jpg,C .\nc.jpg,\n'
    )
    corpus = read_flickr8k(flickr8k)
    assert sentences(corpus)["a.jpg"] == ('A boat , a lake and a "hill" .', "A boat .")
    assert sentences(corpus)["c.jpg"] == ("C .",)
    assert corpus.images[0].path == "Images/a.jpg"
    assert kinds(corpus)["images with empty captions"] == 1


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("image,caption\na.jpg,A boat , a lake\n", "line 2: 3 columns where the header has 2"),
        ('image,caption\na.jpg,"A boat\nb.jpg,"B"\n', "not a row of a CSV file"),
        ("picture,words\na.jpg,b\n", "found the columns 'picture', 'words'"),
        ("a.jpg#0\tgood\nbad line\n", "line 2: expected name.jpg#0, a tab"),
        ("a.jpg#0\tgood\n../../a.jpg#0\tbad\n", "leads outside"),
        ("/etc/passwd#0\tbad\n", "leads outside"),
        ("", "found the columns none"),
        ("a.jpg#0\t\n", "no caption of any image"),
        ("a.jpg#0\ta\0b\n", "line 1: holds a NUL"),
    ],
)
def test_bad_caption_file_is_an_error_with_its_place(flickr8k: Path, text: str, complaint: str) -> None:
    (flickr8k / "Flickr8k.token.txt").write_text(text)
    with pytest.raises(CorpusError, match=complaint):
        read_flickr8k(flickr8k)


def test_bytes_that_are_no_utf8_are_an_error_with_the_line(flickr8k: Path) -> None:
    (flickr8k / "Flickr8k.token.txt").write_bytes(b"a.jpg#0\tgood\nb.jpg#0\tcaf\xe9\n")
    with pytest.raises(CorpusError, match="line 2: not UTF-8"):
        read_flickr8k(flickr8k)


def test_wrong_root_says_what_was_sought_and_what_is_there(flickr8k: Path, tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"nowhere does not exist.*--root"):
        read_flickr8k(tmp_path / "nowhere")
    with pytest.raises(CorpusError, match=r"Flickr8k\.token\.txt.*found a\.jpg, b\.jpg"):
        read_flickr8k(flickr8k / "Flicker8k_Dataset")
    (flickr8k / "Flicker8k_Dataset").rename(flickr8k / "photographs")
    corpus = read_flickr8k(flickr8k)  # the captions are of use all the same
    assert re.search(r"Flicker8k_Dataset/.*found .*photographs/", corpus.pictures_lacking)
    assert corpus.images[0].sentences


def test_pictures_beside_the_captions(flickr8k: Path) -> None:
    for path in (flickr8k / "Flicker8k_Dataset").iterdir():
        path.rename(flickr8k / path.name)
    (flickr8k / "Flicker8k_Dataset").rmdir()
    assert read_flickr8k(flickr8k).images[0].path == "a.jpg"


TOKENS = "".join(f"{name}.jpg#{k}\tA {name} , {k} .\n" for name in (111, 222, 333) for k in range(5))


@pytest.fixture
def flickr30k(tmp_path: Path) -> Path:
    pictures = tmp_path / "flickr30k-images"
    pictures.mkdir()
    for name in (111, 222, 333):
        (pictures / f"{name}.jpg").touch()
    for split, name in (("train", 111), ("val", 222), ("test", 333)):
        (tmp_path / f"{split}.txt").write_text(f"{name}\n")
    return tmp_path


EXPECTED_SPLITS = {"111.jpg": "train", "222.jpg": "val", "333.jpg": "test"}


@pytest.mark.parametrize("packed", [False, True])
def test_results_token_plain_and_packed(flickr30k: Path, packed: bool) -> None:
    if packed:
        (flickr30k / "results_20130124.token.gz").write_bytes(gzip.compress(TOKENS.encode()))
    else:
        (flickr30k / "results_20130124.token").write_text(TOKENS)
    corpus = read_flickr30k(flickr30k)
    assert splits(corpus) == EXPECTED_SPLITS
    assert sentences(corpus)["222.jpg"] == tuple(f"A 222 , {k} ." for k in range(5))
    assert not corpus.problems


@pytest.mark.parametrize("header", ["image_name| comment_number| comment", "age_name| comment_number| comment"])
def test_kaggle_results_csv_with_its_damaged_row_and_header(flickr30k: Path, header: str) -> None:
    rows = ["111.jpg| 0| A boat | on a lake .", "222.jpg| 0| B .", "333.jpg| 4   The lake is calm ."]
    (flickr30k / "results.csv").write_text("\n".join([header, *rows]) + "\n")
    corpus = read_flickr30k(flickr30k)
    assert sentences(corpus) == {
        "111.jpg": ("A boat | on a lake .",),
        "222.jpg": ("B .",),
        "333.jpg": ("The lake is calm .",),
    }
    assert [(problem.kind, problem.subject) for problem in corpus.problems] == [("damaged caption lines", "333.jpg")]


@pytest.mark.parametrize("pattern", ["{}_images.txt", "flickr30k_{}.txt"])
def test_other_names_of_split_lists(flickr30k: Path, pattern: str) -> None:
    (flickr30k / "results_20130124.token").write_text(TOKENS)
    for split, name in (("train", 111), ("val", 222), ("test", 333)):
        (flickr30k / f"{split}.txt").unlink()
        (flickr30k / pattern.format(split)).write_text(f"{name}.jpg\n")
    assert splits(read_flickr30k(flickr30k)) == EXPECTED_SPLITS


def test_broken_gzip_and_two_token_files_are_errors(flickr30k: Path) -> None:
    (flickr30k / "one.token").write_text(TOKENS)
    (flickr30k / "two.token.gz").write_bytes(gzip.compress(TOKENS.encode())[:-20])
    with pytest.raises(CorpusError, match=r"one\.token, two\.token\.gz"):
        read_flickr30k(flickr30k)
    (flickr30k / "one.token").unlink()
    with pytest.raises(CorpusError, match="not a whole gzip file"):
        read_flickr30k(flickr30k)


def test_real_flickr8k(real_data: Path) -> None:
    corpus = read_flickr8k(real_data / "flickr8k")
    assert len(corpus.images) == 8091
    assert sum(len(image.sentences) for image in corpus.images) == 40455
    assert {len(image.sentences) for image in corpus.images} == {5}
    assert [corpus.count(split) for split in ("train", "val", "test", "")] == [6000, 1000, 1000, 91]
    assert [problem.subject for problem in corpus.problems] == [GHOST]
    assert all((corpus.root / image.path).is_file() for image in corpus.images[::500])


def test_real_flickr30k_captions(real_data: Path, tmp_path: Path) -> None:
    for path in (real_data / "flickr30k-captions").iterdir():
        (tmp_path / path.name).symlink_to(path)
    (tmp_path / "flickr30k-images").mkdir()
    corpus = read_flickr30k(tmp_path)
    assert sum(len(image.sentences) for image in corpus.images) == 155070
    assert [corpus.count(split) for split in ("train", "val", "test", "")] == [29000, 1014, 1000, 0]
    assert kinds(corpus) == {"pictures missing": 31014}

"""The drawn data set: the same every time, well described, safe to draw from several processes."""

import hashlib
import random
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mrnn.data.captions import Corpus
from mrnn.data.errors import CorpusError
from mrnn.data.scenes.drawing import draw
from mrnn.data.scenes.layout import BACKGROUNDS, COLOURS, Group, Scene, arrange
from mrnn.data.scenes.reader import read_scenes
from mrnn.data.scenes.sentences import describe
from mrnn.data.scenes.shapes import OUTLINES
from mrnn.data.tokenize import tokenize

ROOT = Path(__file__).resolve().parents[3]
COUNT = 120


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return read_scenes(tmp_path_factory.mktemp("scenes"), count=COUNT)


@pytest.fixture(scope="module")
def full() -> list[tuple[Scene, list[str]]]:
    """The scenes and sentences of a set of the usual size, not drawn."""
    scenes = [arrange(random.Random(number)) for number in range(1200)]
    return [(scene, [each.text for each in describe(scene, random.Random(i))]) for i, scene in enumerate(scenes)]


def digests(root: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in (root / "images").iterdir()}


def test_same_corpus_and_same_bytes_every_time(corpus: Corpus, tmp_path: Path) -> None:
    again = read_scenes(tmp_path, count=COUNT)
    assert again.images == corpus.images
    assert digests(tmp_path) == digests(corpus.root)


def test_every_picture_is_there_and_in_a_split(corpus: Corpus) -> None:
    assert {path.name for path in (corpus.root / "images").iterdir()} == {image.id for image in corpus.images}
    assert (corpus.count("train"), corpus.count("val"), corpus.count("test")) == (100, 10, 10)
    for image in corpus.images:
        with Image.open(corpus.root / image.path) as picture:
            picture.load()
            assert min(picture.size) >= 64
            assert max(picture.size) <= 96


def test_a_smaller_set_is_the_beginning_and_another_seed_is_another_set(corpus: Corpus, tmp_path: Path) -> None:
    smaller = read_scenes(tmp_path, count=5)
    assert [image.sentences for image in smaller.images] == [image.sentences for image in corpus.images[:5]]
    other = read_scenes(tmp_path, count=5, seed=1)
    assert [image.sentences for image in other.images] != [image.sentences for image in smaller.images]
    assert not {image.id for image in other.images} & {image.id for image in smaller.images}


def test_a_half_drawn_folder_is_completed_without_touching_the_rest(corpus: Corpus, tmp_path: Path) -> None:
    read_scenes(tmp_path, count=COUNT)
    kept, lost = tmp_path / corpus.images[0].path, tmp_path / corpus.images[1].path
    lost.unlink()
    before = kept.stat().st_mtime_ns
    read_scenes(tmp_path, count=COUNT)
    assert kept.stat().st_mtime_ns == before
    assert digests(tmp_path) == digests(corpus.root)


def test_complete_folder_is_only_read(corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mrnn.data.scenes.reader.draw", lambda *_: pytest.fail("drew a picture that was there"))
    read_scenes(corpus.root, count=COUNT)


def start_drawing(root: Path, count: int) -> subprocess.Popen[bytes]:
    program = (
        "import pathlib; from mrnn.data.scenes.reader import read_scenes; "
        f"read_scenes(pathlib.Path({str(root)!r}), count={count})"
    )
    return subprocess.Popen([sys.executable, "-c", program])


def test_processes_may_draw_at_the_same_time(corpus: Corpus, tmp_path: Path) -> None:
    processes = [start_drawing(tmp_path, COUNT) for _ in range(3)]
    assert [process.wait() for process in processes] == [0, 0, 0]
    assert digests(tmp_path) == digests(corpus.root)


# argv: a root, and the number of the function call before which drawing dies, counted from the 6th picture on.
DIE_DRAWING = """
import itertools, pathlib, sys
from mrnn.data.scenes import reader
from tests.kills import count_calls
draw, drawn = reader.draw, itertools.count(1)
reader.draw = lambda *a: (next(drawn) == 6 and count_calls(die_at=int(sys.argv[2])), draw(*a))[1]
reader.read_scenes(pathlib.Path(sys.argv[1]), count=30)
"""


@pytest.mark.parametrize("call", random.Random(0).sample(range(1, 5000), 4))  # a picture takes some 1,500
def test_a_killed_process_leaves_only_whole_pictures(tmp_path: Path, call: int) -> None:
    command = [sys.executable, "-c", DIE_DRAWING, tmp_path, str(call)]
    assert subprocess.run(command, check=False, cwd=ROOT).returncode == -signal.SIGKILL
    drawn = list(tmp_path.glob("images/*.png"))
    assert 5 <= len(drawn) < 30
    for path in drawn:
        with Image.open(path) as picture:
            picture.load()


def test_sentences_are_five_different_ones(corpus: Corpus) -> None:
    for image in corpus.images:
        assert len({tuple(tokenize(sentence)) for sentence in image.sentences}) == 5
        assert all(sentence == " ".join(sentence.split()) and len(sentence) > 4 for sentence in image.sentences)


def test_boxes_carry_phrases_of_their_sentence_and_lie_within_the_picture(corpus: Corpus) -> None:
    for image in corpus.images:
        assert image.boxes
        with Image.open(corpus.root / image.path) as picture:
            width, height = picture.size
        for box in image.boxes:
            begin, end = box.words
            assert " ".join(image.sentences[box.sentence].split()[begin:end]).rstrip(",.") == box.phrase
            assert box.kind in OUTLINES
            assert box.left >= 0
            assert box.top >= 0
            assert box.left + box.width <= width
            assert box.top + box.height <= height
            assert min(box.width, box.height) > 4


def test_the_kind_of_a_box_is_what_its_phrase_says(corpus: Corpus) -> None:
    """Where a phrase names a shape. 'box' is another word for a square, and so on."""
    shapes = {"disc": "circle", "hoop": "ring", "box": "square"} | {shape: shape for shape in OUTLINES}
    named = 0
    for box in (box for image in corpus.images for box in image.boxes):
        for word in box.phrase.lower().replace("crosses", "cross").replace("boxes", "box").split():
            if shape := shapes.get(word) or shapes.get(word.removesuffix("s")):
                assert box.kind == shape, box
                named += 1
    assert named > 500


@pytest.mark.parametrize("shape", OUTLINES)
def test_box_is_exactly_where_the_thing_is_painted(shape: str) -> None:
    group = Group(shape, "red", "large", "plain", 0.15, 20.0, ((40.0, 44.0),))
    plain = BACKGROUNDS[2]
    picture = np.asarray(draw(Scene(96, 96, plain, (group,), "middle"), random.Random(3)), dtype=int)
    rows, columns = np.nonzero(picture[:, :, 0] > 120)  # red on black
    left, top, width, height = group.box(0)
    assert columns.min() == pytest.approx(left, abs=1.6)
    assert rows.min() == pytest.approx(top, abs=1.6)
    assert columns.max() + 1 == pytest.approx(left + width, abs=1.6)
    assert rows.max() + 1 == pytest.approx(top + height, abs=1.6)


def _overlap_across(first: Group, second: Group) -> float:
    (left, _, width, _), (other_left, _, other_width, _) = first.box(0), second.box(0)
    return min(left + width, other_left + other_width) - max(left, other_left)


def test_relations_are_true(full: list[tuple[Scene, list[str]]]) -> None:
    """The groups stand to each other as the sentences will say; checked on the numbers."""
    seen: Counter[str] = Counter()
    for scene, _ in full:
        if len(scene.groups) != 2:
            continue
        (x1, y1), (x2, y2) = (np.mean(group.centres, axis=0) for group in scene.groups)
        outer, inner = scene.groups
        true = {
            "left": x2 < x1,
            "right": x2 > x1,
            "above": y2 < y1,
            "below": y2 > y1,
            "inside": inner.radius < outer.radius and abs(x1 - x2) + abs(y1 - y2) < 1,
            "front": _overlap_across(outer, inner) > 0,
        }
        assert true[scene.relation], scene
        seen[scene.relation] += 1
    assert len(seen) == 6


def test_counts_in_words_are_true() -> None:
    numbers = {"one": 1, "two": 2, "three": 3, "four": 4, "pair": 2, "couple": 2}
    checked = 0
    for number in range(300):
        scene = arrange(random.Random(number))
        for sentence in describe(scene, random.Random(number)):
            for phrase in sentence.phrases:
                for word in set(phrase.text.lower().split()) & set(numbers):
                    assert numbers[word] == len(phrase.group.centres), sentence.text
                    checked += 1
    assert checked > 200


def test_vocabulary_and_variety(full: list[tuple[Scene, list[str]]]) -> None:
    sentences = [" ".join(tokenize(sentence)) for _, five in full for sentence in five]
    words = Counter(word for sentence in sentences for word in sentence.split())
    assert 80 <= len([word for word, count in words.items() if count >= 5]) <= 170
    assert len(set(sentences)) > 0.8 * len(sentences)
    assert Counter(sentences).most_common(1)[0][1] < len(full) / 100
    openings = Counter(tuple(sentence.split()[:2]) for sentence in sentences)
    assert openings.most_common(1)[0][1] < 0.2 * len(sentences)
    assert len({scene.relation for scene, _ in full}) >= 15
    assert {group.colour for scene, _ in full for group in scene.groups} == set(COLOURS)
    assert {group.shape for scene, _ in full for group in scene.groups} == set(OUTLINES)
    assert {sum(len(group.centres) for group in scene.groups) for scene, _ in full} == {1, 2, 3, 4}


def test_the_picture_tells_which_words_fit(corpus: Corpus) -> None:
    """The nearest other picture by coarse pixels shares far more words than one at random: the task can be learnt."""
    words = [set(tokenize(" ".join(image.sentences))) for image in corpus.images]
    pixels = []
    for image in corpus.images:
        with Image.open(corpus.root / image.path) as picture:
            pixels.append(np.asarray(picture.resize((4, 4)), dtype=float).ravel())
    distances = np.linalg.norm(np.stack(pixels)[:, None] - np.stack(pixels)[None], axis=2)
    np.fill_diagonal(distances, np.inf)

    def overlap(i: int, j: int) -> float:
        return len(words[i] & words[j]) / len(words[i] | words[j])

    nearest = np.mean([overlap(i, int(distances[i].argmin())) for i in range(COUNT)])
    at_random = np.mean([overlap(i, j) for i in range(COUNT) for j in range(COUNT) if i != j])
    assert nearest > 1.25 * at_random


def test_root_that_is_a_file_or_an_empty_set_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CorpusError, match="file"):
        read_scenes(tmp_path / "file", count=1)
    with pytest.raises(CorpusError, match="at least 1"):
        read_scenes(tmp_path, count=0)


def test_numbers_of_a_generation_do_not_change() -> None:
    """When this fails, raise GENERATION in scenes.py: folders drawn before hold other pictures under these names."""
    digest = hashlib.sha256()
    for number in range(200):
        scene = arrange(random.Random(number))
        digest.update(repr([[round(x, 3) for x in group.box(0)] for group in scene.groups]).encode())
        digest.update(repr([sentence.text for sentence in describe(scene, random.Random(number))]).encode())
    assert digest.hexdigest()[:16] == "dfe17183c4a03a7e"

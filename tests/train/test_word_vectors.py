from pathlib import Path

import numpy as np
import pytest

from mrnn.data.errors import TrainingError
from mrnn.data.vocabulary import Vocabulary
from mrnn.train.word_vectors import read_word_vectors

VOCABULARY = Vocabulary(("<s>", "<unk>", "dog", "cat", "café"))
VECTORS = {"dog": [1.0, 2.5], "zebra": [0.0, 9.0], "café": [-1.0, 0.25]}
LINES = "".join(f"{word} {' '.join(map(str, vector))}\n" for word, vector in VECTORS.items())


def write(path: Path) -> Path:
    if path.suffix == ".npz":
        words = np.array([word.encode() for word in VECTORS]) if "bytes" in path.stem else np.array(list(VECTORS))
        np.savez(path, words=words, vectors=np.array(list(VECTORS.values()), dtype=np.float16))
    else:
        path.write_text(("3 2\n" if path.stem == "word2vec" else "") + LINES)
    return path


@pytest.mark.parametrize("name", ["glove.txt", "word2vec.txt", "bytes.npz", "text.npz"])
def test_every_format_gives_the_words_of_the_vocabulary(name: str, tmp_path: Path) -> None:
    numbers, vectors = read_word_vectors(write(tmp_path / name), VOCABULARY, size=2)
    assert numbers.tolist() == [2, 4]
    assert vectors.tolist() == [VECTORS["dog"], VECTORS["café"]]
    assert vectors.dtype == np.float32


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("dog 1 2 3\n", "have 3 numbers, not 2; set --embedding"),
        ("dog 1 2\ncat 1 2 3\n", "have 2, 3 numbers"),
        ("zebra 1 2\n", "none of the 5 words"),
        ("dog 1 nought\n", "not a file of word vectors"),
        ("dog 1 nan\n", "not finite"),
        ("", "none of the 5 words"),
    ],
)
def test_another_file_is_refused_in_a_sentence(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "vectors.txt").write_text(content)
    with pytest.raises(TrainingError, match=message):
        read_word_vectors(tmp_path / "vectors.txt", VOCABULARY, size=2)


def test_damaged_or_missing_npz(tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_bytes(b"PK\3\4 and no more")
    np.savez(tmp_path / "b.npz", words=np.array(["dog"]))
    np.savez(tmp_path / "c.npz", words=np.array(["dog"], dtype=object), vectors=np.ones((1, 2)))
    for name in ("a", "b", "c"):
        with pytest.raises(TrainingError, match="not a file of word vectors"):
            read_word_vectors(tmp_path / f"{name}.npz", VOCABULARY, size=2)
    with pytest.raises(TrainingError, match="No such file"):
        read_word_vectors(tmp_path / "d.txt", VOCABULARY, size=2)

"""Word vectors that somebody else trained: word2vec or GloVe text, or .npz."""

import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from mrnn.data.errors import TrainingError
from mrnn.data.vocabulary import Vocabulary

LONGEST_LINE = 2**20  # bytes; a vector of 10,000 numbers takes a tenth of it


def read_word_vectors(file: str | Path, vocabulary: Vocabulary, *, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Vectors for the words of a vocabulary: their numbers (n,) int64, and vectors (n, size) float32.

    file : a .npz with `words` (text or bytes) and `vectors`, or text with a word and its numbers on each line, which
        may begin with a line of the two sizes (word2vec).
    size : numbers per word.

    Raises TrainingError if it cannot be read, its vectors have another size, or it has none of the words.
    """
    file = Path(file)
    try:
        pairs = read_npz(file, vocabulary) if file.suffix == ".npz" else read_text(file, vocabulary)
        found = dict(pairs)
    except OSError as error:
        raise TrainingError(f"{file}: the word vectors cannot be read ({error.strerror or error})") from error
    except (ValueError, KeyError, zipfile.BadZipFile) as error:
        raise TrainingError(
            f"{file}: not a file of word vectors ({error}); expected are lines of a word and its numbers, or a .npz "
            "with the arrays words and vectors"
        ) from error
    if not found:
        raise TrainingError(f"{file}: it has a vector for none of the {len(vocabulary)} words of the vocabulary")
    sizes = {len(vector) for vector in found.values()}
    if sizes != {size}:
        given = ", ".join(map(str, sorted(sizes)))
        raise TrainingError(f"{file}: its vectors have {given} numbers, not {size}; set --embedding to that number")
    numbers = np.array(sorted(found), dtype=np.int64)
    vectors = np.stack([found[int(number)] for number in numbers])
    if not np.isfinite(vectors).all():
        raise TrainingError(f"{file}: some of its numbers are not finite")
    return numbers, vectors


def read_npz(file: Path, vocabulary: Vocabulary) -> Iterator[tuple[int, np.ndarray]]:
    """Number and vector of the words that the vocabulary knows."""
    with file.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
        words, vectors = arrays["words"], arrays["vectors"]
    if vectors.ndim != 2 or words.shape != vectors.shape[:1]:
        raise ValueError(f"words has shape {words.shape}, vectors {vectors.shape}")
    for word, vector in zip(words.tolist(), vectors, strict=True):
        number = vocabulary.numbers.get(word.decode() if isinstance(word, bytes) else word)
        if number is not None:
            yield number, vector.astype(np.float32)


def read_text(file: Path, vocabulary: Vocabulary) -> Iterator[tuple[int, np.ndarray]]:
    """Number and vector of the words that the vocabulary knows; of a word that comes twice, the last."""
    with file.open("rb") as stream:
        while line := stream.readline(LONGEST_LINE):
            word, *values = line.split()
            number = vocabulary.numbers.get(word.decode(errors="replace"))
            if number is not None and len(values) > 1:  # word2vec's first line has one number
                yield number, np.array(values, dtype=np.float32)

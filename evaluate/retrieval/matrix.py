"""Ranks of a matrix of scores that any program may have written, images x sentences, read block by block."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mrnn.data.errors import EvaluationError
from mrnn.data.progress import Progress
from mrnn.evaluate.retrieval.answers import PoolRanks

BLOCK = 2**23  # scores read at a time, which bounds the memory


@dataclass(frozen=True)
class MatrixRanks:
    """What the queries of a matrix found.

    ranks : of each image's best own sentence, and of each sentence's image
    precision : (N,) R-precision averaged over ranks of each image (mAP@R), a fraction: with ties against and for the
        matrix
    """

    ranks: PoolRanks
    precision: tuple[np.ndarray, np.ndarray]


def open_matrix(path: str | Path) -> np.ndarray:
    """The matrix of a .npy file, mapped, not read. Raises EvaluationError unless it is a matrix of floats."""
    try:
        matrix = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise EvaluationError(
            f"{path} is not a .npy file of numbers; write the matrix with numpy.save(file, scores)"
        ) from error
    if not isinstance(matrix, np.ndarray):
        matrix.close()
        raise EvaluationError(f"{path} is an .npz archive; write the matrix alone with numpy.save(file, scores)")
    if matrix.ndim != 2 or matrix.dtype.kind != "f":
        raise EvaluationError(
            f"{path} has the shape {matrix.shape} and the type {matrix.dtype}; expected a matrix of floats, images x "
            "sentences"
        )
    return matrix


def check_shape(path: str | Path, matrix: np.ndarray, expected: tuple[int, int], *, source: str) -> None:
    """Raise EvaluationError unless the matrix has a row for each image and a column for each sentence.

    expected : number of images and of sentences
    source : where these are from, for the message
    """
    if matrix.shape != expected:
        turned = matrix.shape == expected[::-1]
        remedy = "transpose it" if turned else "are these the captions that it was computed from?"
        raise EvaluationError(
            f"{path} has {matrix.shape[0]:,} rows and {matrix.shape[1]:,} columns, but {source} has {expected[0]:,} "
            f"images with sentences, one for each row, and {expected[1]:,} sentences, one for each column; {remedy}"
        )


def matrix_ranks(matrix: np.ndarray, owners: np.ndarray) -> MatrixRanks:
    """Ranks in both directions; a higher score is better.

    matrix : (N, S) float, which may be mapped from a file; compared in its own type
    owners : (S,) int, the row of each sentence's image; every image has a sentence

    Raises EvaluationError for a score that is not a number.
    """
    order = np.argsort(owners, kind="stable")
    columns = np.split(order, np.searchsorted(owners[order], np.arange(1, len(matrix))))
    own = np.empty(len(owners), dtype=matrix.dtype)
    for start, block in _blocks(matrix, "check of the scores"):
        bad = np.isnan(block)
        if bad.any():
            row, column = np.argwhere(bad)[0]
            raise EvaluationError(
                f"the score of row {start + row} and column {column} is not a number (both count from 0); give every "
                "pair a score, -inf if it has none"
            )
        for row, scores in enumerate(block, start):
            own[columns[row]] = scores[columns[row]]
    by_image = (np.empty(len(matrix), dtype=np.int64), np.empty(len(matrix), dtype=np.int64))
    by_sentence = (np.zeros(len(owners), dtype=np.int64), np.ones(len(owners), dtype=np.int64))
    precision = np.empty((2, len(matrix)))
    for start, block in _blocks(matrix, "ranks"):
        np.add(by_sentence[0], (block >= own).sum(axis=0), out=by_sentence[0])  # the right image is among them
        np.add(by_sentence[1], (block > own).sum(axis=0), out=by_sentence[1])
        for row, scores in enumerate(block, start):
            right = np.sort(own[columns[row]])[::-1]
            places = np.arange(1, len(right) + 1)
            for ties, compare in enumerate((np.greater_equal, np.greater)):
                ahead = [int(compare(scores, each).sum() - compare(right, each).sum()) for each in right]
                found = places + ahead
                by_image[ties][row] = found[0]
                precision[ties, row] = np.where(found <= len(right), places / found, 0).mean()
    ranks = PoolRanks({"image_to_sentence": by_image}, {"sentence_to_image": by_sentence})
    return MatrixRanks(ranks, (precision[0], precision[1]))


def _blocks(matrix: np.ndarray, name: str) -> Iterator[tuple[int, np.ndarray]]:
    """Consecutive rows, read into memory, and the number of the first. name : of the pass, for its progress."""
    size = max(1, BLOCK // max(1, matrix.shape[1]))
    with Progress(name, len(matrix), unit="images") as progress:
        for start in range(0, len(matrix), size):
            block = np.array(matrix[start : start + size])
            yield start, block
            progress.add(len(block))

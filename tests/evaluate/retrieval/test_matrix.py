"""Ranks of a score matrix: those of their definition, on any matrix, and without reading it whole."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mrnn.data.errors import EvaluationError
from mrnn.evaluate.retrieval import matrix as module
from mrnn.evaluate.retrieval.matrix import matrix_ranks, open_matrix
from tests.evaluate.retrieval.plain_ranks import Ties, image_to_sentence_ranks, sentence_to_image_ranks


def plain_precision(scores: np.ndarray, right: np.ndarray, ties: Ties) -> float:
    """mAP@R of one query: sort all answers, and add up precisions at the right ones among the first R."""
    order = sorted(range(len(scores)), key=lambda j: (-scores[j], right[j] if ties == "worst" else not right[j]))
    hits = [bool(right[j]) for j in order]
    count = sum(hits)
    return sum(sum(hits[: k + 1]) / (k + 1) for k in range(count) if hits[k]) / count


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 6), st.integers(0, 8), st.integers(0, 2**32 - 1), st.sampled_from(["f2", "f4", "f8"]))
def test_ranks_are_those_of_their_definition(images: int, more: int, seed: int, dtype: str) -> None:
    """Few different scores, so that there are ties; owners in any order; some blocks of one row."""
    draw = np.random.default_rng(seed)
    owners = draw.permutation(np.concatenate([np.arange(images), draw.integers(images, size=more)]))
    scores = draw.integers(4, size=(images, len(owners))).astype(dtype)
    scores[draw.random(scores.shape) < 0.1] = -np.inf
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "BLOCK", int(draw.integers(1, 3 * len(owners))))
        found = matrix_ranks(scores, owners)
    for place, ties in enumerate(("worst", "best")):
        by_image, by_sentence = (
            found.ranks.by_image["image_to_sentence"][place],
            found.ranks.by_sentence["sentence_to_image"][place],
        )
        assert by_image.tolist() == image_to_sentence_ranks(scores, owners, ties=ties).tolist()
        assert by_sentence.tolist() == sentence_to_image_ranks(scores, owners, ties=ties).tolist()
        expected = [plain_precision(row, owners == n, ties) for n, row in enumerate(scores)]
        np.testing.assert_allclose(found.precision[place], expected, rtol=1e-12)


def test_a_mapped_matrix_is_read_block_by_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scores = np.random.default_rng(0).normal(size=(40, 80)).astype(np.float32)
    np.save(tmp_path / "m.npy", scores)
    mapped = open_matrix(tmp_path / "m.npy")
    assert isinstance(mapped, np.memmap)
    sizes: list[int] = []
    read = np.array

    def counting(part: np.ndarray) -> np.ndarray:
        sizes.append(part.size)
        return read(part)

    monkeypatch.setattr(module, "BLOCK", 800)
    monkeypatch.setattr(module.np, "array", counting)
    matrix_ranks(mapped, np.repeat(np.arange(40), 2))
    assert sizes == [800] * 8  # twice the four blocks of ten rows


def test_a_score_that_is_not_a_number_is_named() -> None:
    scores = np.zeros((3, 4))
    scores[2, 1] = np.nan
    with pytest.raises(EvaluationError, match="row 2 and column 1 is not a number"):
        matrix_ranks(scores, np.array([0, 1, 2, 2]))

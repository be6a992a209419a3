"""Finished work on disk: what is used again and what is not, and the lock of a folder."""

from pathlib import Path

import numpy as np
import pytest

from mrnn.data.errors import EvaluationError
from mrnn.evaluate.parts import Parts, ScoreFile, only_one


def test_damaged_parts_are_done_again(tmp_path: Path) -> None:
    parts = Parts(tmp_path, {"checkpoint": "a"})
    parts.save("x", {"beam": 2}, [1, 2])
    assert parts.load("x", {"beam": 2}) == [1, 2]
    assert parts.load("x", {"beam": 3}) is None
    assert Parts(tmp_path, {"checkpoint": "b"}).load("x", {"beam": 2}) is None
    (parts.folder / "x.json").write_text('{"settings": ')
    assert parts.load("x", {"beam": 2}) is None

    scores = ScoreFile(parts, "scores", {"seed": 0}, (3, 2))
    assert np.isnan(scores.values).all()
    scores.values[1] = [1, 2]
    scores.mark(now=True)
    again = ScoreFile(parts, "scores", {"seed": 0}, (3, 2))
    assert np.isnan(again.values[[0, 2]]).all()
    assert again.values[1].tolist() == [1, 2]
    assert np.isnan(ScoreFile(parts, "scores", {"seed": 1}, (3, 2)).values).all(), "other settings, other scores"
    assert np.isnan(ScoreFile(parts, "scores", {"seed": 1}, (3, 3)).values).all()
    (parts.folder / "scores.npy").write_bytes(b"not an array")
    assert np.isnan(ScoreFile(parts, "scores", {"seed": 1}, (3, 3)).values).all()


def test_two_evaluations_do_not_share_a_folder(tmp_path: Path) -> None:
    with only_one(tmp_path), pytest.raises(EvaluationError, match="another evaluation"), only_one(tmp_path):
        pass

"""Stages keep what they have finished, and stopped ones end with the same results as undisturbed ones."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mrnn.data.errors import EvaluationError, Stopped
from mrnn.data.stopping import StopRequest
from mrnn.evaluate import stages
from mrnn.evaluate.parts import Parts, ScoreFile, only_one
from mrnn.evaluate.settings import DecodingConfig
from mrnn.evaluate.stages import Evaluation, generation_stage

World = Callable[..., tuple[Path, Path]]
Evaluate = Callable[..., Evaluation]
StopAfter = Callable[[int], StopRequest]


def test_stopped_captions_go_on_where_they_were(
    make_world: World, evaluation: Evaluate, stop_after: StopAfter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, config = make_world(), DecodingConfig(beam=2)
    whole = generation_stage(evaluation(world, tmp_path / "whole"), config)
    monkeypatch.setattr(stages, "DECODE_IMAGES", 3)
    with pytest.raises(Stopped):
        generation_stage(evaluation(world, tmp_path / "parts", stop=stop_after(0)), config)
    assert generation_stage(evaluation(world, tmp_path / "parts"), config, run=False) is None
    done = evaluation(world, tmp_path / "parts").parts.load(
        "captions", {**stages.decoding_settings(config, ()), "kept": 2}
    )
    assert len(done) == 3
    resumed = generation_stage(evaluation(world, tmp_path / "parts"), config)
    assert whole is not None
    assert resumed is not None
    assert [[caption.words for caption in beam] for beam in resumed] == [
        [caption.words for caption in beam] for beam in whole
    ]
    assert {len(beam) for beam in resumed} == {2}
    assert resumed[0] == whole[0]


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

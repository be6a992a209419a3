"""Stages keep what they have finished, and stopped ones end with the same results as undisturbed ones."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mrnn.data.errors import EvaluationError, Stopped
from mrnn.data.stopping import StopRequest
from mrnn.evaluate import stages
from mrnn.evaluate.parts import Parts, ScoreFile, only_one
from mrnn.evaluate.settings import ConsensusConfig, DecodingConfig
from mrnn.evaluate.stages import Evaluation, consensus_stage, generation_stage

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


def test_a_stopped_consensus_goes_on_where_it_was(
    make_world: World, evaluation: Evaluate, stop_after: StopAfter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, config, beam = make_world(), ConsensusConfig(consensus_images=3), DecodingConfig(beam=4)

    def rank(folder: str, *, config: ConsensusConfig = config, looks: int = 99, run: bool = True) -> Any:
        here = evaluation(world, tmp_path / folder, stop=stop_after(looks))
        return consensus_stage(here, generation_stage(here, beam), config, decoding=beam, run=run)

    whole = rank("whole")
    keys = [[(caption.complete, caption.consensus) for caption in each] for each in whole]
    assert keys == [sorted(each, reverse=True) for each in keys]
    monkeypatch.setattr(stages, "DECODE_IMAGES", 3)
    with pytest.raises(Stopped):
        rank("parts", looks=4 * 2)  # two looks at each of the four batches of the beam
    settings = stages.decoding_settings(beam, (), config)
    assert len(evaluation(world, tmp_path / "parts").parts.load("consensus", settings)) == 3
    assert rank("parts", run=False) is None
    assert [[caption.words for caption in each] for each in rank("parts")] == [
        [caption.words for caption in each] for each in whole
    ]
    with monkeypatch.context() as patch:
        patch.setattr(stages, "Consensus", None)
        assert rank("parts", run=False) == rank("parts"), "what is finished is used again"
    assert rank("parts", config=replace(config, consensus_images=4), run=False) is None
    assert consensus_stage(evaluation(world, tmp_path / "x"), None, config, decoding=beam) is None


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

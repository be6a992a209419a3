"""Stages keep what they have finished, and stopped ones end with the same results as undisturbed ones."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mrnn.data.errors import Stopped
from mrnn.data.stopping import StopRequest
from mrnn.evaluate.generation import stage
from mrnn.evaluate.generation.stage import consensus_stage, generation_stage
from mrnn.evaluate.settings import ConsensusConfig, DecodingConfig
from mrnn.evaluate.stages import Evaluation

World = Callable[..., tuple[Path, Path]]
Evaluate = Callable[..., Evaluation]
StopAfter = Callable[[int], StopRequest]


def test_stopped_captions_go_on_where_they_were(
    make_world: World, evaluation: Evaluate, stop_after: StopAfter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, config = make_world(), DecodingConfig(beam=2)
    whole = generation_stage(evaluation(world, tmp_path / "whole"), config)
    monkeypatch.setattr(stage, "DECODE_IMAGES", 3)
    with pytest.raises(Stopped):
        generation_stage(evaluation(world, tmp_path / "parts", stop=stop_after(0)), config)
    assert generation_stage(evaluation(world, tmp_path / "parts"), config, run=False) is None
    done = evaluation(world, tmp_path / "parts").parts.load(
        "captions", {**stage.decoding_settings(config, ()), "kept": 2}
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
    monkeypatch.setattr(stage, "DECODE_IMAGES", 3)
    with pytest.raises(Stopped):
        rank("parts", looks=4 * 2)  # two looks at each of the four batches of the beam
    settings = stage.decoding_settings(beam, (), config)
    assert len(evaluation(world, tmp_path / "parts").parts.load("consensus", settings)) == 3
    assert rank("parts", run=False) is None
    assert [[caption.words for caption in each] for each in rank("parts")] == [
        [caption.words for caption in each] for each in whole
    ]
    with monkeypatch.context() as patch:
        patch.setattr(stage, "Consensus", None)
        assert rank("parts", run=False) == rank("parts"), "what is finished is used again"
    assert rank("parts", config=replace(config, consensus_images=4), run=False) is None
    assert consensus_stage(evaluation(world, tmp_path / "x"), None, config, decoding=beam) is None

"""Baselines measured from Python, in a thread."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mrnn.data.cache import open_cache
from mrnn.data.errors import EvaluationError
from mrnn.evaluate.studies.baselines import BASELINES, beside_baselines, measure_baselines


def test_a_call_in_a_thread_writes_what_it_returns(
    make_world: Callable[..., tuple[Path, Path]], tmp_path: Path, quietly: Callable[..., Any]
) -> None:
    cache, output = open_cache(make_world()[1]), tmp_path / "out"
    found = quietly(measure_baselines, cache, str(output), split="val", cutoff=1, seed=3)
    assert json.loads((output / "baselines.json").read_text()) == json.loads(json.dumps(found))
    assert list(found["baselines"]) == list(BASELINES)
    assert (found["split"], found["cutoff"], found["seed"], found["counts"]["images"]) == ("val", 1, 3, 4)
    listed = {path.name for path in output.iterdir()} - {"baselines.json"}
    assert listed == {f"captions-{name}.json" for name in BASELINES if name != "chance"}


def test_a_model_of_other_images_is_not_listed(tmp_path: Path) -> None:
    metrics = {"dataset": "coco", "split": "test", "checkpoint": {"model": "mrnn"}, "vocabulary_size": 7}
    (tmp_path / "metrics.json").write_text(json.dumps(metrics))
    assert beside_baselines(tmp_path, "coco", "test") == {**metrics, "name": "mrnn, V 7"}
    for images in (("coco", "val"), ("flickr8k", "test")):
        with pytest.raises(EvaluationError, match="is of coco test, the baselines are of"):
            beside_baselines(tmp_path, *images)

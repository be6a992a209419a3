"""Two evaluation folders compared from Python, in a thread."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mrnn.data.errors import EvaluationError
from mrnn.evaluate.evaluation import evaluate
from mrnn.evaluate.settings import DecodingConfig, RetrievalConfig
from mrnn.evaluate.studies.evaluation_folders import caveats, compare_folders, incomparable, name_of, read_metrics

World = Callable[..., tuple[Path, Path]]


@pytest.fixture
def folders(make_world: World, tmp_path: Path) -> tuple[Path, Path]:
    world = make_world()
    a, b = tmp_path / "a", tmp_path / "b"
    evaluate(*world, output=a, decoding=DecodingConfig(beam=1), retrieval=RetrievalConfig(normaliser_images=5))
    evaluate(*world, output=b, decoding=DecodingConfig(beam=3), retrieval=RetrievalConfig(normaliser_images=4))
    return a, b


def test_two_folders_in_a_thread(folders: tuple[Path, Path], quietly: Callable[..., Any]) -> None:
    found = quietly(compare_folders, *map(str, folders), resamples=100, seed=1, examples=2)
    metrics = [read_metrics(folder) for folder in folders]
    rows = {row.name: row for row in found.differences}
    assert (rows["CIDEr"].a, rows["CIDEr"].b) == pytest.approx([each["CIDEr"] for each in metrics])
    assert rows["perplexity"].difference == 0
    assert found.notes == caveats(*metrics)
    assert found.notes == [
        "P(w) of the retrieval is over 5 training images for A, 4 for B",
        "captions were decoded differently: beam 1 for A, 3 for B",
    ]
    assert incomparable(*metrics) == {}
    assert compare_folders(*folders, resamples=100, seed=1, examples=2) == found


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "there is no"), ("{", "is damaged"), ("[]", "is not a metrics file"), ('{"split": "test"}', "is not a")],
)
def test_other_folders_are_refused(tmp_path: Path, content: str | None, message: str) -> None:
    if content is not None:
        (tmp_path / "metrics.json").write_text(content)
    with pytest.raises(EvaluationError, match=message):
        read_metrics(tmp_path)


def test_other_images_are_refused(folders: tuple[Path, Path]) -> None:
    file = folders[1] / "metrics.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "dataset": "coco"}))
    with pytest.raises(EvaluationError, match="the data sets differ"):
        compare_folders(*folders)


def test_names(tmp_path: Path) -> None:
    assert name_of(tmp_path / "feats-mrnn" / "evaluation-test") == "feats-mrnn"
    assert name_of(str(tmp_path / "mine")) == "mine"

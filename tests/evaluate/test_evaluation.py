"""An evaluation called from Python: the files that the command writes, in a thread, without a word."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from mrnn.data.errors import CacheError, CheckpointError, EvaluationError, SettingError, Stopped
from mrnn.data.stopping import StopRequest
from mrnn.evaluate.commands.evaluate import main
from mrnn.evaluate.evaluation import evaluate
from mrnn.evaluate.settings import DecodingConfig, RetrievalConfig

World = Callable[..., tuple[Path, Path]]
DECODING, RETRIEVAL = DecodingConfig(beam=2), RetrievalConfig(normaliser_images=5)


def command(world: tuple[Path, Path], output: Path) -> None:
    given = ["--checkpoint", world[0], "--features", world[1], "--output", output, "--beam", 2, "--n-best", 2]
    done = CliRunner().invoke(main, [*map(str, given), "--normaliser-images", "5"])
    assert done.exit_code == 0, done.output


def test_a_call_in_a_thread_writes_what_the_command_writes(
    make_world: World, tmp_path: Path, quietly: Callable[..., Any]
) -> None:
    world = make_world()
    said: list[str] = []
    run, features = map(str, world)
    metrics = quietly(
        evaluate, run, features, decoding=DECODING, retrieval=RETRIEVAL, n_best=2, device="cpu", report=said.append
    )
    own, other = world[0] / "evaluation-test", tmp_path / "by-command"
    assert said[0] == f"{world[0] / 'checkpoint_best.pt'} on {features}, test: 10 images"
    assert said[1].startswith("scoring every pair: about ")
    assert json.loads((own / "metrics.json").read_text()) == json.loads(json.dumps(metrics))
    command(world, other)
    names = {path.name for path in own.iterdir() if path.is_file()}
    assert names == {path.name for path in other.iterdir() if path.is_file()}
    assert {"metrics.json", "captions.json", "nbest.json", "per_image.jsonl", "report.html"} < names
    for name in names - {"report.html"}:
        assert (own / name).read_bytes() == (other / name).read_bytes(), name


def test_what_is_finished_is_used_again(make_world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = make_world()
    first = evaluate(*world, output=tmp_path / "out", decoding=DECODING, retrieval=RETRIEVAL)

    def forbidden(*arguments: object, **options: object) -> None:
        raise AssertionError("measured again")

    monkeypatch.setattr("mrnn.evaluate.stages.sentence_bits", forbidden)
    monkeypatch.setattr("mrnn.evaluate.generation.stage.Decoder", forbidden)
    again = evaluate(*world, output=str(tmp_path / "out"), decoding=DECODING, retrieval=RETRIEVAL)
    assert again == first
    with pytest.raises(AssertionError, match="measured again"):
        evaluate(*world, output=tmp_path / "out", decoding=DECODING, overwrite=True)


def test_a_stop_request_ends_it_and_the_next_call_resumes(
    make_world: World, tmp_path: Path, stop_after: Callable[[int], StopRequest]
) -> None:
    world = make_world()
    with pytest.raises(Stopped, match="what is finished is in"):
        evaluate(*world, output=tmp_path / "parts", decoding=DECODING, retrieval=RETRIEVAL, stop=stop_after(6))
    assert not (tmp_path / "parts" / "metrics.json").exists()
    resumed = evaluate(*world, output=tmp_path / "parts", decoding=DECODING, retrieval=RETRIEVAL)
    whole = evaluate(*world, output=tmp_path / "whole", decoding=DECODING, retrieval=RETRIEVAL)
    for metrics in (resumed, whole):
        metrics["retrieval"].pop("course", None)  # how the ranks were found may differ
        metrics["retrieval"].pop("scored_exactly", None)
    assert resumed == whole


def test_refusals_come_before_work(make_world: World, tmp_path: Path) -> None:
    run, features = make_world(val=0)
    refusals: list[tuple[type[Exception], dict[str, Any]]] = [
        (CheckpointError, {"checkpoint": tmp_path / "nowhere"}),
        (CacheError, {"features": tmp_path / "nowhere.h5"}),
        (EvaluationError, {"split": "val"}),
        (EvaluationError, {"prefix": "a zebra"}),
        (SettingError, {"n_best": 6}),
    ]
    for error, given in refusals:
        with pytest.raises(error):
            evaluate(**{"checkpoint": run, "features": features, "output": tmp_path / "out", **given})
        assert not (tmp_path / "out").exists()


def test_the_report_of_an_alignment_shows_regions_and_words(make_pictured: World, make_world: World) -> None:
    world = make_pictured(source="grid")
    evaluate(*world, retrieval=RETRIEVAL)
    page = (world[0] / "evaluation-test" / "report.html").read_text()
    assert '<a href="#alignments">Regions and words</a>' in page
    assert page.count("<figure>") == page.count('<image href="data:image/webp') == 4
    assert page.count("<rect class=") >= 1
    assert "rect.segment0 { stroke:" in page
    assert "Shown are 4 of 4 images" in page
    for kind, regions in (("devise", 3), ("alignment", 1)):  # the whole picture alone has nothing to show
        other = make_world(kind=kind, regions=regions, name=f"{kind}.h5")
        evaluate(*other, output=other[0].parent / f"of-{kind}", retrieval=RETRIEVAL)
        assert "Regions and words" not in (other[0].parent / f"of-{kind}" / "report.html").read_text()

"""Grounding as a stage of evaluate-mrnn: its numbers against enumeration, what it depends on, resuming and refusals."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from mrnn.data.cache import open_cache
from mrnn.data.errors import Stopped
from mrnn.data.stopping import StopRequest
from mrnn.evaluate.commands.compare_results import main as compare
from mrnn.evaluate.commands.evaluate import main
from mrnn.evaluate.evaluation import evaluate
from mrnn.evaluate.grounding import stage
from mrnn.evaluate.grounding.boxes import overlap
from mrnn.evaluate.grounding.correction import PLAIN
from mrnn.evaluate.grounding.phrases import mean_word, phrases_of, score_phrases
from mrnn.evaluate.stages import Evaluation
from mrnn.train.features import Features, valid_rows

World = Callable[..., tuple[Path, Path]]
BOXES = {"val": 0, "test": 1}


def call(world: tuple[Path, Path], *arguments: str) -> Result:
    command = ["--checkpoint", str(world[0]), "--features", str(world[1]), *arguments]
    return CliRunner().invoke(main, command, catch_exceptions=False)


def measure(world: tuple[Path, Path], output: Path, **options: Any) -> dict[str, Any]:
    return evaluate(*world, output=output, stages=["grounding"], **options)


def test_random_whole_best_and_ceiling_are_those_of_enumeration(make_world: World, tmp_path: Path) -> None:
    world = make_world(kind="alignment", regions=5, boxes=BOXES)
    found = measure(world, tmp_path / "out")["grounding"]
    cache = open_cache(world[1])
    rectangles = cache.regions.rectangles.reshape(-1, 5, 4)
    scores, valid = cache.regions.scores.reshape(-1, 5), valid_rows(cache)
    hits: dict[str, list[float]] = {"random": [], "whole": [], "best_scored": [], "ceiling": []}
    pointed: dict[str, list[float]] = {name: [] for name in hits}
    for i in cache.done("test"):
        for phrase in phrases_of(cache.images[i]):
            left, top, width, height = phrase.truth
            rows = [row for row in range(5) if valid[i, row]]
            right, inside = {}, {}
            for row in rows:
                x, y, w, h = rectangles[i, row].astype(float)
                right[row] = bool(overlap(np.array([x, y, w, h]), np.array(phrase.truth)) >= 0.5)
                inside[row] = left <= x + w / 2 <= left + width and top <= y + h / 2 <= top + height
            best = max(rows[1:], key=lambda row: scores[i, row])
            for into, by_row in ((hits, right), (pointed, inside)):
                into["random"].append(sum(by_row.values()) / len(rows))
                into["whole"].append(by_row[0])
                into["best_scored"].append(by_row[best])
                into["ceiling"].append(any(by_row.values()))
    assert found["phrases"]["all"] == len(hits["whole"])
    for name in hits:
        assert found["choices"][name]["iou"]["all"] == pytest.approx(100 * np.mean(hits[name])), name
        assert found["choices"][name]["pointing"]["all"] == pytest.approx(100 * np.mean(pointed[name])), name
    assert found["choices"]["ceiling"]["iou"]["all"] > found["choices"]["random"]["iou"]["all"] > 0


def test_scores_that_are_the_true_overlap_reach_the_ceiling(
    make_world: World, evaluation: Callable[..., Evaluation], tmp_path: Path
) -> None:
    begun = evaluation(make_world(kind="alignment", regions=5, boxes=BOXES), tmp_path)
    model, cache, images = begun.trained.model, begun.cache, begun.images
    mean = mean_word(model, cache, images, begun.trained.vocabulary)
    found = score_phrases(model, cache, Features(cache, rows=5), images, begun.trained.vocabulary, mean=mean)
    truth = np.array([phrase.truth for i in images for phrase in phrases_of(cache.images[i])])
    for name, answers in (
        ("iou", overlap(found.candidates.rectangles[found.image], truth[:, None])),
        ("pointing", found.right["pointing"].astype(float)),
    ):
        known = stage.choices(replace(found, scores=answers), {name: PLAIN}, {})
        np.testing.assert_array_equal(known["plain"][name], known["ceiling"][name])
        np.testing.assert_array_equal(known[f"corrected_{name}"][name], known["ceiling"][name])


def test_shares_of_kinds_add_up_and_records_to_the_headline(make_world: World, tmp_path: Path) -> None:
    world = make_world(kind="alignment", regions=5, boxes=BOXES)
    metrics = measure(world, tmp_path / "out")
    found = metrics["grounding"]
    counts = found["phrases"]
    assert counts["all"] == counts["animals"] + counts["people"]
    for shares in (by for choice in found["choices"].values() for by in choice.values()):
        total = sum(counts[kind] * shares[kind] for kind in ("animals", "people"))
        assert shares["all"] == pytest.approx(total / counts["all"])
    records = [json.loads(line) for line in (tmp_path / "out" / "per_image.jsonl").read_text().splitlines()]
    measured = [record["grounding"] for record in records if "grounding" in record]
    assert sum(record["phrases"] for record in measured) == counts["all"]
    for key, choice, name in (
        ("grounding_iou", "corrected_iou", "iou"),
        ("grounding_pointing_plain", "plain", "pointing"),
    ):
        value = 100 * sum(record[choice][name] for record in measured) / counts["all"]
        assert metrics[key] == pytest.approx(value) == found["choices"][choice][name]["all"]
        low, high = metrics["intervals"][key]
        assert low <= value <= high
    assert "hull" in metrics["definitions"]["grounding"]


def test_coefficients_depend_on_the_dev_split_alone(make_world: World, tmp_path: Path) -> None:
    def searched(name: str, **boxes: int) -> tuple[dict[str, Any], dict[str, Any]]:
        world = make_world(kind="alignment", regions=5, boxes=boxes, name=f"{name}.h5", val=20)
        found = measure(world, tmp_path / name)["grounding"]
        return found["search"], found["choices"]

    search, choices = searched("first", val=0, test=1)
    other_test, other_choices = searched("second", val=0, test=2)
    other_dev, _ = searched("third", val=3, test=1)
    assert search == other_test
    assert choices != other_choices
    assert search != other_dev
    assert choices["wordless_iou"] != choices["corrected_iou"]
    for each in search.values():
        assert each["corrected"] >= each["plain"]


def test_an_interrupted_evaluation_keeps_the_coefficients_and_ends_with_the_same_numbers(
    make_world: World, tmp_path: Path, stop_after: Callable[[int], StopRequest], monkeypatch: pytest.MonkeyPatch
) -> None:
    world = make_world(kind="alignment", regions=5, boxes=BOXES)
    whole = measure(world, tmp_path / "whole")["grounding"]
    output = tmp_path / "stopped"
    coefficients = output / "parts" / "grounding-coefficients.json"
    with pytest.raises(Stopped):
        measure(world, output, stop=stop_after(20))
    assert not coefficients.exists(), "stopped during the search"

    class StopWhenSearched(StopRequest):
        @property
        def reason(self) -> str:
            return "SIGTERM" if coefficients.exists() else ""

    with pytest.raises(Stopped):
        measure(world, output, stop=StopWhenSearched())
    assert not (output / "parts" / "grounding.json").exists()
    monkeypatch.setattr(stage, "search", None)
    assert measure(world, output)["grounding"] == whole
    monkeypatch.setattr(stage, "score_phrases", None)
    assert measure(world, output)["grounding"] == whole
    assert evaluate(*world, output=output, stages=[])["grounding"] == whole


def test_the_command_prints_and_reports_and_two_systems_compare(make_world: World, tmp_path: Path) -> None:
    folders = []
    for kind in ("alignment", "defrag"):
        folders.append(str(tmp_path / f"results-{kind}"))
        run, _ = make_world(kind=kind, regions=5, boxes=BOXES, name=f"{kind}.h5")
        done = call((run, tmp_path / "alignment.h5"), "--only", "grounding", "--output", folders[-1])
        assert done.exit_code == 0, done.output
    for label in ("plain (Eq. 8)", "corrected for IoU", "whole picture", "detector’s best", "ceiling"):
        assert label in done.output
    assert "grounding_iou_plain" in done.output
    report = (Path(folders[0]) / "report.html").read_text()
    assert '<section id="grounding">' in report
    assert '<a href="#grounding">' in report
    for name in ("people", "animals", "temperature", "mean_word"):
        assert f"<th scope=row>{name}</th>" in report
    compared = CliRunner().invoke(compare, [*folders, "--json"], catch_exceptions=False)
    assert compared.exit_code == 0, compared.output
    names = {row["name"] for row in json.loads(compared.stdout)["differences"]}
    assert {"grounding_iou", "grounding_pointing"} <= names


@pytest.mark.parametrize(
    ("world", "reason"),
    [
        ({"kind": "mrnn", "regions": 3, "boxes": BOXES}, "mrnn does not align words with regions"),
        ({"kind": "devise", "boxes": BOXES}, "devise does not align words with regions"),
        (
            {"kind": "alignment", "regions": 3, "boxes": BOXES, "settings": {"regions": 1}},
            "alignment looks at whole pictures alone",
        ),
        ({"kind": "alignment", "regions": 3}, "does not say where its regions are"),
        ({"kind": "alignment", "regions": 3, "boxes": {"val": 0}}, "no sentence of the split 'test'"),
        ({"kind": "alignment", "regions": 3, "boxes": {"test": 0}}, "no sentence of the split 'val'"),
    ],
)
def test_what_cannot_be_grounded_is_left_out_with_a_line(
    world: dict[str, Any], reason: str, make_world: World, tmp_path: Path
) -> None:
    made = make_world(**world)
    done = call(made, "--only", "retrieval,grounding", "--normaliser-images", "6", "--output", str(tmp_path / "out"))
    assert done.exit_code == 0, done.output
    (line,) = [line for line in done.output.splitlines() if line.endswith("; left out: grounding")]
    assert reason in line
    assert "grounding" not in json.loads((tmp_path / "out" / "metrics.json").read_text())
    refused = call(made, "--only", "grounding", "--output", str(tmp_path / "refused"))
    assert refused.exit_code == 1
    assert f"grounding cannot be measured: {refused.output.partition('measured: ')[2]}" in refused.output
    assert reason in refused.output
    assert not (tmp_path / "refused").exists()

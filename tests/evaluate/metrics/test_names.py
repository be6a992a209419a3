"""A metric is one function and one row: a new row appears wherever numbers are shown, stored or compared."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from mrnn.evaluate.commands.compare_results import main as compare
from mrnn.evaluate.commands.evaluate import main as evaluate
from mrnn.evaluate.metrics import names, over_images
from mrnn.evaluate.metrics.names import Metric
from mrnn.evaluate.metrics.scorers import Candidates, References, Scored

World = Callable[..., tuple[Path, Path]]


def share_of_cats(references: References, candidates: Candidates) -> Scored:
    """A new metric: the share of captions that name a cat."""
    each = [float("cat" in said) for said in candidates.values()]
    return {"Cats": (sum(each) / len(each), each)}


def longest(references: References, candidates: Candidates) -> Scored:
    """Another one, which no single image has."""
    return {"Longest": (float(max(len(said) for said in candidates.values())), None)}


ROWS = [
    Metric("Cats", "cats shown", 2, "scores", over_images.mean_score("Cats"), definition="cats", score=share_of_cats),
    Metric("Longest", "longest caption", 0, "scores", None, lower_is_better=True, definition="long", score=longest),
]


def test_a_new_row_is_everywhere(make_world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, cache = make_world()
    folders = {name: tmp_path / name for name in ("old", "a", "b")}
    options = ["--checkpoint", str(run), "--features", str(cache), "--only", "generation"]
    assert CliRunner().invoke(evaluate, [*options, "--output", str(folders["old"])]).exit_code == 0
    monkeypatch.setattr(names, "CAPTION_SCORES", [*names.CAPTION_SCORES, *ROWS])
    for name, beam in (("a", "1"), ("b", "3")):
        done = CliRunner().invoke(evaluate, [*options, "--output", str(folders[name]), "--beam", beam])
        assert done.exit_code == 0, done.output
    metrics = json.loads((folders["b"] / "metrics.json").read_text())
    records = [json.loads(line) for line in (folders["b"] / "per_image.jsonl").read_text().splitlines()]
    assert metrics["Cats"] == pytest.approx(sum("cat" in record["caption"].split() for record in records) / 10)
    assert {"Cats", "Longest"} <= metrics["greedy"].keys() & metrics["generation"]["ptb"].keys()
    assert metrics["definitions"]["Cats"] == "cats"
    assert {record["scores"]["Cats"] for record in records} <= {0.0, 1.0}
    assert "Longest" not in records[0]["scores"]
    low, high = metrics["intervals"]["Cats"]
    assert low <= metrics["Cats"] <= high
    assert "Longest" not in metrics["intervals"]
    assert f"{low:.2f} to {high:.2f}" in done.output
    assert "cats shown" in done.output
    assert "longest caption" in done.output
    report = (folders["b"] / "report.html").read_text()
    assert "<dt>cats shown</dt>" in report
    assert "<dt>longest caption</dt>" in report
    assert '{"key":"Cats","label":"cats shown"' in report, "the gallery can be sorted by it"

    page = tmp_path / "page.html"
    found = CliRunner().invoke(compare, [str(folders["a"]), str(folders["b"]), "--html", str(page)])
    assert found.exit_code == 0, found.output
    assert "\nCats " in found.output
    assert "<th scope=row>cats shown</th>" in page.read_text()
    older = CliRunner().invoke(compare, [str(folders["old"]), str(folders["b"])])
    assert older.exit_code == 0, older.output
    assert "\nCats " not in older.output, "what an older evaluation did not measure is not compared"
    assert "\nCIDEr " in older.output


def test_rows_are_well_formed() -> None:
    rows = names.headline_metrics()
    assert len({row.key for row in rows}) == len(rows)
    assert all(row.group in names.GROUPS for row in rows)
    assert all(row.definition for row in (*names.PERPLEXITIES, *names.CAPTION_SCORES))
    assert names.MAIN_SCORE in {row.key for row in names.CAPTION_SCORES}
    lower = {row.key for row in rows if row.lower_is_better}
    assert lower == {
        "perplexity",
        "perplexity_known",
        "image_to_sentence median_rank",
        "image_to_sentence mean_rank",
        "sentence_to_image median_rank",
        "sentence_to_image mean_rank",
    }
    assert names.metric_of("perplexity").format(2.345, sign=True) == "+2.35"


def test_scores_to_cite_are_those_on_ptb_tokens() -> None:
    assert names.to_cite({"CIDEr": 1.0}, {"ptb": {"CIDEr": 2.0}}) == {"CIDEr": 2.0}
    assert names.to_cite({"CIDEr": 1.0}, {"ptb": None}) == names.to_cite({"CIDEr": 1.0}, {}) == {"CIDEr": 1.0}


def test_a_number_that_the_records_lack_has_no_statistic() -> None:
    record = {"scores": {"ROUGE_L": 0.5}, "ranks": {"sentence_to_image": [1, 2]}}
    assert over_images.mean_score("CIDEr")([record]) is None
    assert over_images.recall("image_to_sentence", 5)([record]) is None
    assert over_images.median_rank("image_to_sentence")([record]) is None
    statistic = over_images.median_rank("sentence_to_image")([record])
    assert statistic is not None
    assert statistic(np.ones((1, 1))).tolist() == [1.5]
    assert over_images.mean_rank("image_to_sentence")([record]) is None
    assert over_images.total([over_images.recall(key, 1) for key in record["ranks"]])([record]) is not None
    assert names.metric_of("rsum").statistic is not None
    assert names.metric_of("rsum").statistic([record]) is None, "one direction was not ranked"


def test_mean_rank_and_rsum_by_hand() -> None:
    records = [
        {"ranks": {"image_to_sentence": 1, "sentence_to_image": [1, 7]}},
        {"ranks": {"image_to_sentence": 12, "sentence_to_image": [4]}},
    ]
    weights = np.array([[1, 1], [2, 0], [0, 1]])
    mean = names.metric_of("sentence_to_image mean_rank").statistic
    total = names.metric_of("rsum").statistic
    assert mean is not None
    assert total is not None
    statistic, rsum = mean(records), total(records)
    assert statistic is not None
    assert rsum is not None
    assert statistic(weights).tolist() == [4, 4, 4]
    assert rsum(weights) == pytest.approx([150 + 100 / 3 + 200 / 3 + 100, 300 + 50 + 50 + 100, 0 + 0 + 100 + 100])
    recalls = {
        "image_to_sentence": {"R@1": 50, "R@5": 50, "R@10": 50},
        "sentence_to_image": {"R@1": 100 / 3, "R@5": 200 / 3, "R@10": 100},
    }
    assert names.rsum(recalls) == pytest.approx(350)
    assert names.value_of({"retrieval": {"rsum": 350}}, "rsum") == 350

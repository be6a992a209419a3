"""Results image by image: the headline numbers are sums over them, old results and damaged files are met with words."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from mrnn.data.captions import Image
from mrnn.data.errors import EvaluationError
from mrnn.evaluate.commands.evaluate import main
from mrnn.evaluate.metrics.names import GROUPS, value_of
from mrnn.evaluate.per_image import FILE, build_records, headline_statistics, read_records, write_records
from mrnn.evaluate.retrieval.result import ImageAnswer, RetrievalResult, SentenceAnswer

World = Callable[..., tuple[Path, Path]]
NAMES = ["perplexity", "perplexity_known", "Bleu_1", "Bleu_2", "Bleu_3", "Bleu_4", "ROUGE_L", "CIDEr"]
NAMES += [
    f"{direction} {name}"
    for direction in ("image_to_sentence", "sentence_to_image")
    for name in ("R@1", "R@5", "R@10", "median_rank", "mean_rank")
]
NAMES += ["rsum"]


def test_headline_numbers_are_sums_over_the_images(make_world: World) -> None:
    run, cache = make_world()
    given = ["--checkpoint", str(run), "--features", str(cache), "--pool", "7", "--normaliser-images", "5"]
    done = CliRunner().invoke(main, given)
    assert done.exit_code == 0, done.output
    output = run / "evaluation-test"
    metrics = json.loads((output / "metrics.json").read_text())
    records = read_records(output / FILE)
    captions = json.loads((output / "captions.json").read_text())
    assert [(r["image_id"], r["caption"]) for r in records] == [(c["image_id"], c["caption"]) for c in captions]
    for record in records:
        said = [word["word"] for word in record["words"]]
        assert " ".join(word for word in said if word != "<end>") == record["caption"]
        assert ("<end>" in said) == record["complete"]
        total = sum(sum(word["parts"].values()) for word in record["words"])
        assert total == pytest.approx(record["log_prob"], abs=1e-3)
    assert sum("ranks" in record for record in records) == 7, "the pool"

    found: dict[str, float] = {}
    for group in GROUPS:
        measured = [record for record in records if group in record]
        for name, statistic in headline_statistics(measured, group).items() if measured else ():
            found[name] = statistic(np.ones((1, len(measured))))[0]
    assert list(found) == list(metrics["intervals"]) == NAMES
    for name, value in found.items():
        assert value == pytest.approx(value_of(metrics, name), rel=1e-9), name
        low, high = metrics["intervals"][name]
        assert low <= high
        assert name in done.output
    inside = [low <= value_of(metrics, name) <= high for name, (low, high) in metrics["intervals"].items()]
    assert sum(inside) >= len(NAMES) - 2, "of ten images the corpus value may lie outside by chance, but seldom"
    assert metrics["bootstrap"]["resamples"] == 1000
    low, high = metrics["intervals"]["perplexity"]
    assert f"{low:.2f} to {high:.2f}" in done.output


def test_ranks_of_an_images_own_sentences() -> None:
    images = [
        Image("a", "a", "test", ("A dog.", "!", "Dogs")),
        Image("b", "b", "test", ()),
        Image("c", "c", "test", ("Sea",)),
    ]
    asked = [("c", 0, 3), ("a", 0, 1), ("a", 2, 2)]  # in no order: ids say what belongs together
    retrieval = RetrievalResult(
        recalls={},
        best_of_ties={},
        images=tuple(
            ImageAnswer(image, {"image_to_sentence": (rank, 1), "image_to_sentence_raw": (rank + 2, 1)}, ())
            for image, rank in (("c", 5), ("a", 4))
        ),
        sentences=tuple(
            SentenceAnswer(image, number, "", {"sentence_to_image": (rank, 1)}, ()) for image, number, rank in asked
        ),
        pool_images=(2,),
        pool_sentences=(3,),
        normaliser_images=0,
        seed=0,
        local_scaling=False,
        prefix_states=1,
        words_and_ends=1,
        scored_exactly=1.0,
        course=(),
    )
    first, without, last = build_records(images, retrieval=retrieval)
    assert first["ranks"] == {"image_to_sentence": 4, "image_to_sentence_raw": 6, "sentence_to_image": [1, 2]}
    assert last["ranks"] == {"image_to_sentence": 5, "image_to_sentence_raw": 7, "sentence_to_image": [3]}
    assert "ranks" not in without


def test_the_file(tmp_path: Path) -> None:
    records = build_records([Image("1", "1", "test", ("line\u2028 separator",)), Image("2", "2", "test", ("é",))])
    write_records(tmp_path / FILE, records)
    assert read_records(tmp_path / FILE) == records
    assert build_records([Image("17", "1", "test", ())], integer_ids=True)[0]["image_id"] == 17
    for content in ("{", "[1]\n", '{"caption": "a"}\n'):
        (tmp_path / FILE).write_text(content)
        with pytest.raises(EvaluationError, match="is damaged .* run evaluate-mrnn into"):
            read_records(tmp_path / FILE)
    with pytest.raises(EvaluationError, match="there is no .* it writes one"):
        read_records(tmp_path / "elsewhere" / FILE)

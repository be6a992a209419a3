"""Paired comparison of invented systems of which the truth is known."""

from typing import Any

import numpy as np
import pytest

from mrnn.evaluate.per_image import Record
from mrnn.evaluate.studies.comparison import Comparison, compare

IMAGES = 200


def system(seed: int = 0, *, bits: float = 0.0, worse: float = 0.0) -> list[Record]:
    """Records of IMAGES images that are hard or easy for every system; `bits` more a word, CIDEr lower by worse."""
    hardness = np.random.default_rng(1).gamma(3.0, size=IMAGES)
    own = np.random.default_rng(seed).normal(scale=0.02, size=IMAGES)
    records: list[Record] = []
    for number, hard in enumerate(hardness):
        sentences = ("one sentence", "and another one")
        cost = float(hard + bits + own[number])
        record: dict[str, Any] = {"image_id": f"{number}.jpg", "references": list(sentences), "caption": f"by {seed}"}
        record["perplexity"] = {"bits": 10 * cost, "known_bits": 9 * cost, "targets": 10, "unknown": 1}
        record["scores"] = {"ROUGE_L": 0.5, "CIDEr": float(5 - hard / 3 - worse + own[number])}
        record["bleu"] = {"hits": [3, 2, 1, 0], "ngrams": [5, 4, 3, 2], "words": 5, "reference_words": 5}
        record["ranks"] = {"image_to_sentence": 1 + int(hard), "image_to_sentence_raw": 9, "sentence_to_image": [1, 2]}
        records.append(record)
    return records


def run(a: list[Record], b: list[Record], **options: Any) -> Comparison:
    return compare(a, b, generator=np.random.default_rng(0), resamples=500, **options)


def test_a_small_but_constant_difference_is_found_and_none_is_not() -> None:
    found = {row.name: row for row in run(system(1), system(2, bits=0.05, worse=0.02)).differences}
    bits = found["perplexity"]
    assert bits.b / bits.a == pytest.approx(2**0.05, rel=0.01)
    assert 0 < bits.low < bits.difference < bits.high
    assert bits.p == pytest.approx(2 / 501)
    assert (bits.better, found["CIDEr"].better, found["ROUGE_L"].better) == ("a", "a", "")
    # The two alone are known far less well than their difference: that is what pairing is for.
    spread = np.std([record["scores"]["CIDEr"] for record in system(1)]) / np.sqrt(IMAGES)
    assert found["CIDEr"].high - found["CIDEr"].low < spread / 5
    same = [row for row in run(system(3), system(4)).differences if row.name in ("perplexity", "CIDEr")]
    assert all(row.p > 0.05 and row.low <= 0 <= row.high and not row.better for row in same)


def test_equal_systems_and_swapped_ones() -> None:
    equal = run(system(1), system(1))
    assert all(row.difference == row.low == row.high == 0 and row.p == 1 for row in equal.differences)
    assert len(equal.differences) == 19
    assert not any(equal.examples.values()), "no image differs"
    one, other = run(system(1), system(2, bits=0.1)), run(system(2, bits=0.1), system(1))
    for row, swapped in zip(one.differences, other.differences, strict=True):
        assert (swapped.a, swapped.b, swapped.difference) == (row.b, row.a, -row.difference)
        assert (swapped.low, swapped.high) == pytest.approx((-row.high, -row.low))
        assert swapped.better == {"a": "b", "b": "a", "": ""}[row.better]


def test_images_that_differ_most() -> None:
    a, b = system(1), system(1)
    b[7]["scores"]["CIDEr"] += 3
    b[8]["scores"]["CIDEr"] -= 2
    a[5]["ranks"]["image_to_sentence"], b[5]["ranks"]["image_to_sentence"] = 1, 10
    a[6]["ranks"]["image_to_sentence"], b[6]["ranks"]["image_to_sentence"] = 500, 600
    b[9]["caption"], b[9]["perplexity"]["bits"] = "other", 1000.0
    found = run(a, b, examples=2).examples
    assert [example.image_id for example in found["CIDEr"]] == ["7.jpg", "8.jpg"]
    assert [example.image_id for example in found["rank"]] == ["5.jpg", "6.jpg"], "ranks by ratio"
    (example,) = found["bits"]
    assert (example.image_id, example.b, example.caption_a, example.caption_b) == ("9.jpg", 100, "by 1", "other")


def test_only_shared_images_and_measured_groups_count() -> None:
    a, b = system(1)[:150], system(2)[50:]
    for record in b[:60]:
        del record["ranks"]
    del a[-1]["perplexity"]
    found = run(a, b, without={"scores": "for a reason"})
    assert (found.shared, found.only_a, found.only_b) == (100, 50, 50)
    assert {row.name.split()[0]: row.images for row in found.differences} == {
        "perplexity": 99,
        "perplexity_known": 99,
        "image_to_sentence": 40,
        "sentence_to_image": 40,
        "rsum": 40,
    }
    assert found.notes == ["caption scores left out: for a reason"]
    assert "CIDEr" not in found.examples
    for record in b:
        record.pop("ranks", None)
    assert "retrieval left out: not measured in both" in run(a, b).notes
    assert not any("grounding" in note for note in run(a, b).notes), "neither measured it"


def test_refusals() -> None:
    with pytest.raises(ValueError, match="no image in common"):
        run(system(1)[:5], system(2)[5:])
    other = system(2)
    other[3]["references"] = ["something else"]
    with pytest.raises(ValueError, match=r"different sentences for the image '3.jpg'"):
        run(system(1), other)

"""The printed summary: the scores to cite come first, each table says what its words are."""

from typing import Any

from mrnn.evaluate.metrics.names import CAPTION_SCORES
from mrnn.evaluate.report.console import bleu_table, details, summary

KEYS = [row.key for row in CAPTION_SCORES]


def scores(value: float) -> dict[str, float]:
    return dict.fromkeys(KEYS, value)


def metrics(*, ptb: bool = True) -> dict[str, Any]:
    facts = {"captions": 9, "cut_at_max_steps": 1, "empty": 0, "ptb": scores(0.25) if ptb else None}
    return {
        **scores(0.5),
        "generation": facts,
        "greedy": {**facts, **scores(0.125), "ptb": scores(0.0625) if ptb else None},
        "decoding": {"sample": False, "beam": 5, "length_norm": False},
    }


def test_scores_on_ptb_tokens_come_first_and_say_so() -> None:
    lines = summary(metrics()).splitlines()
    assert lines[0] == "caption scores on PTB tokens, as coco-caption computes them (to cite)"
    assert lines[1].split() == [row.label for row in CAPTION_SCORES]
    assert lines[2].split() == ["beam", "5", *["0.250"] * len(KEYS)]
    assert lines[3].split() == ["greedy", *["0.062"] * len(KEYS)]
    assert lines[4] == "caption scores on plain words"
    assert lines[6].split() == ["beam", "5", *["0.500"] * len(KEYS)]
    assert lines[7].split() == ["greedy", *["0.125"] * len(KEYS)]


def test_without_scores_on_ptb_tokens_the_others_are_printed() -> None:
    lines = summary(metrics(ptb=False)).splitlines()
    assert lines[0] == "caption scores on plain words"
    assert len(lines) == 4


def test_nothing_measured_prints_nothing() -> None:
    assert summary({}) == details({}) == ""


def test_columns_stand_below_their_names_however_long_a_row_is_called() -> None:
    recalls = {"R@1": 1.0, "R@5": 2.0, "R@10": 3.0, "median_rank": 4.0, "mean_rank": 5.0}
    retrieval = {
        "image_to_sentence": recalls,
        "sentence_to_image": recalls,
        "best_of_ties": {"image_to_sentence_per_word": recalls},
    }
    lines = summary({"retrieval": retrieval}).splitlines()
    assert len(lines) == 4
    assert len({len(line) for line in lines}) == 1
    assert lines[-1].startswith("image_to_sentence_per_word, ties won")


def test_bleu_by_its_definitions() -> None:
    lines = bleu_table(
        [0.1, 0.2, 0.3, 0.4],
        ngram_precision=[0.5] * 4,
        ngram_precision_with_penalty=[0.4] * 4,
        brevity_penalty=0.8,
    )
    assert [len(line) for line in lines] == [82] * 4
    assert lines[1].endswith("   0.100   0.200   0.300   0.400")
    assert "x brevity penalty 0.800" in lines[3]

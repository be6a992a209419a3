"""The papers' rows: some checked by hand, all of the right form; our row beside them."""

from pathlib import Path
from typing import Any

import pytest

from mrnn.evaluate.report.papers import (
    GENERATION,
    GENERATION_COLUMNS,
    PAPERS,
    RETRIEVAL,
    RETRIEVAL_COLUMNS,
    Row,
    _table,
    papers_data_set,
    papers_table,
)

# Copied by hand from the published tables, apart from the module: (data set, method, features) -> the line's numbers.
GENERATION_BY_HAND = {
    ("flickr8k", "m-RNN v1", "AlexNet fc7"): "24.39* 0.5778* 0.2751* 0.2307*",
    ("flickr8k", "DVSA", "VGG-16 fc7"): "- 0.579 0.383 0.245 0.160",
    ("flickr30k", "m-RNN ICLR", "VGG-16 fc7"): "20.72* 0.60* 0.41* 0.28* 0.19*",
    ("iaprtc12", "m-RNN v1", "AlexNet fc7"): "6.92 0.3951 0.1828* 0.1311*",
    ("coco", "DVSA", "VGG-16 fc7"): "- 0.625 0.450 0.321 0.230 0.195 0.660",
    ("coco", "m-RNN ICLR", "VGG-16 fc7"): "13.60* 0.67* 0.49* 0.35* 0.25*",
}
RETRIEVAL_BY_HAND = {
    ("flickr8k", "m-RNN v1", "AlexNet fc7"): "14.5 37.2 48.5 11 11.5 31.0 42.4 15",
    ("flickr30k", "m-RNN v1", "AlexNet fc7"): "18.4 40.2 50.9 10 12.6 31.2 41.5 16",
    ("flickr30k", "m-RNN ICLR", "VGG-16 fc7"): "35.4 63.8 73.7 3 22.8 50.7 63.1 5",
    ("iaprtc12", "m-RNN v1", "AlexNet fc7"): "20.9 43.8 54.4 8 13.2 31.2 40.8 21",
    ("coco", "DVSA, 5K", "R-CNN"): "16.5 39.2 52.0 9.0 10.7 29.6 42.2 14.0",
    ("flickr8k", "DVSA, BRNN", "R-CNN"): "16.5 40.6 54.2 7.6 11.8 32.1 44.7 12.4",
}


@pytest.mark.parametrize(("tables", "by_hand"), [(GENERATION, GENERATION_BY_HAND), (RETRIEVAL, RETRIEVAL_BY_HAND)])
def test_rows_by_hand(tables: Any, by_hand: dict[tuple[str, str, str], str]) -> None:
    for (dataset, method, features), values in by_hand.items():
        (row,) = (row for row in tables[dataset] if (row.method, row.features) == (method, features))
        assert row.values.startswith(values), (dataset, method)


def test_every_row_has_its_numbers() -> None:
    for tables, columns in ((GENERATION, GENERATION_COLUMNS), (RETRIEVAL, RETRIEVAL_COLUMNS)):
        for rows in tables.values():
            for row in rows:
                values = row.values.split()
                assert len(values) == len(columns), row
                assert row.table in PAPERS
                numbers = [None if value == "-" else float(value.rstrip("*?")) for value in values]
                if columns is GENERATION_COLUMNS:
                    assert all(value is None or value < 1 for value in numbers[1:]), row
                    scores = [value for value in numbers[1:5] if value is not None]
                    assert scores == sorted(scores, reverse=True), "BLEU falls with n"
                    assert row.bleu
                else:
                    for recalls in (numbers[:3], numbers[4:7]):
                        known = [value for value in recalls if value is not None]
                        assert known == sorted(known), "recall rises with k"


def test_our_row_stands_among_them_with_what_differs() -> None:
    metrics: dict[str, Any] = {
        "perplexity": 15.57, "CIDEr": 0.52, "Bleu_1": 0.615, "Bleu_2": 0.433, "Bleu_3": 0.292, "Bleu_4": 0.194,
        "generation": {"ngram_precision": [0.65, 0.31, 0.14, 0.06], "brevity_penalty": 0.94},
        "retrieval": {
            "image_to_sentence": {"R@1": 23.9, "R@5": 52.1, "R@10": 66.6, "median_rank": 5.0, "mean_rank": 77.7},
            "sentence_to_image": {"R@1": 21.9, "R@5": 49.1, "R@10": 62.4, "median_rank": 6.0, "mean_rank": 88.8},
            "images": 1000, "sentences": 5000,
        },
        "split": "test", "counts": {"images": 1000}, "vocabulary_size": 2539, "checkpoint": {"model": "mrnn"},
        "features": {"backbone": "vgg16", "layer": "fc7", "weights": "pretrained"},
    }  # fmt: skip
    lines = papers_table([metrics], "flickr8k").splitlines()
    ours = [line.split() for line in lines if line.startswith(">")]
    assert [line[:5] for line in ours[:2]] == [[">", "this", "run,", "mrnn", "vgg16"]] * 2
    assert ours[0][6:] == ["15.57", "0.615", "0.433", "0.292", "0.194", "-", "0.520", "cumulative"]
    assert ours[1][6:] == ["15.57", "0.6500", "0.3100", "0.1400", "0.0600", "-", "-", "individual"]
    assert " ".join(ours[2]).endswith("1,000 x 5,000 vgg16 fc7 23.9 52.1 66.6 5.0 21.9 49.1 62.4 6.0")
    theirs = [" ".join(line.split()) for line in lines]
    assert "m-RNN v1 v1 AlexNet fc7 14.5 37.2 48.5 11 11.5 31.0 42.4 15" in theirs
    assert "m-RNN v1 v1 AlexNet fc7 24.39* 0.5778* 0.2751* 0.2307* - - - individual" in theirs
    text = "\n".join(lines)
    for part in ("vgg16 fc7, weights pretrained", "test, 1,000 images", "2,539", "2,538", "(0.940)", "* not verified"):
        assert part in text
    only_retrieval = {name: metrics[name] for name in metrics if name not in ("perplexity", "Bleu_1", "generation")}
    assert "cumulative" not in papers_table([only_retrieval], "coco")
    nothing = {name: metrics[name] for name in only_retrieval if name != "retrieval"}
    assert papers_table([nothing], "coco") == ""


def test_several_runs_stand_in_one_table() -> None:
    features = {"backbone": "alexnet", "layer": "fc7", "weights": "alexnet.pt"}
    shared = {"split": "test", "counts": {"images": 1962}, "vocabulary_size": 800, "features": features}
    captioned = {
        **shared, "checkpoint": {"model": "mrnn"}, "perplexity": 7.5, **{f"Bleu_{n}": 0.1 * n for n in range(1, 5)},
        "generation": {"ngram_precision": [0.4, 0.2, 0.1, 0.05], "brevity_penalty": 0.9},
    }  # fmt: skip
    recalls = {"R@1": 10.0, "R@5": 20.0, "R@10": 30.0, "median_rank": 9.0}
    retrieval = {"image_to_sentence": recalls, "sentence_to_image": recalls, "images": 1962, "sentences": 3300}
    ranked = {**shared, "checkpoint": {"model": "alignment"}, "retrieval": retrieval}
    baselines = {"random": {"Bleu_1": 0.2}, "2-gram": {"perplexity": 20.0, "Bleu_1": 0.2}, "chance": {}}
    text = papers_table([captioned, ranked], "iaprtc12", baselines=baselines)
    ours = [" ".join(line.split()) for line in text.splitlines() if line.startswith(">")]
    assert ours == [
        "> 2-gram none 20.00 0.200 - - - - - cumulative",
        "> mrnn alexnet fc7 7.50 0.100 0.200 0.300 0.400 - - cumulative",
        "> mrnn alexnet fc7 7.50 0.4000 0.2000 0.1000 0.0500 - - individual",
        "> alignment, 1,962 x 3,300 alexnet fc7 10.0 20.0 30.0 9.0 10.0 20.0 30.0 9.0",
    ]
    assert "these runs" in text
    assert "this run" not in text
    assert text.count("weights alexnet.pt") == 1


def test_which_data_set() -> None:
    assert papers_data_set("flickr8k", Path("/anywhere")) == "flickr8k"
    assert papers_data_set("karpathy", Path("/data/coco2014")) == "coco"
    assert papers_data_set("karpathy", Path("/data/mine")) is None
    assert papers_data_set("scenes", Path("/data/coco")) is None


def test_long_names_of_features_are_shown_in_full_and_columns_stay_aligned() -> None:
    rows = [
        Row("m-RNN v1", "T4", "AlexNet fc7", "1.0 2.0"),
        Row("> this run", "", "timm:" + "x" * 60 + " penultimate", "3.0 4.0"),
    ]
    header, first, second = _table(rows, ("a", "b"), bleu=True)
    assert "x" * 60 + " penultimate  " in second
    assert first.index("1.0") == second.index("3.0")
    assert header.index("features") == first.index("AlexNet")

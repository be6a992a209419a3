"""What a run minimises and what its best checkpoint is chosen by, as files and people call them. Free of torch.

config.json holds both, so that runs of any task can be read and compared.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Criterion:
    """The result of a validation by which the best checkpoint is chosen.

    key : its name in the results of `Task.validate` and in metrics.jsonl.
    label : its name in messages.
    lower_is_better : whether the smallest value is the best.
    """

    key: str
    label: str
    lower_is_better: bool

    def worst(self) -> float:
        """A value that every validation improves on."""
        return float("inf") if self.lower_is_better else float("-inf")

    def better(self, value: float, than: float) -> bool:
        """Whether a value is better than another; an equal value or NaN is not."""
        return value < than if self.lower_is_better else value > than

    def order(self, value: float | None) -> float:
        """A key that sorts values, the best first; None and not-a-number come last."""
        if value is None or not isfinite(value):
            return float("inf")
        return value if self.lower_is_better else -value


@dataclass(frozen=True)
class Cost:
    """How the cost of one unit is named in metrics.jsonl and in messages.

    key : key of the cost per unit ('bits', 'train_bits').
    label : cost per unit in messages ('bits per word').
    unit : what is counted, in keys ('tokens_per_s').
    units : what is counted, in messages ('words').
    """

    key: str
    label: str
    unit: str
    units: str


PERPLEXITY = Criterion("val_perplexity", "dev perplexity", lower_is_better=True)
# What the best checkpoint of a captioner can be chosen by: the values of --select.
SELECTIONS = {
    "perplexity": PERPLEXITY,
    "cider": Criterion("val_sample_cider", "CIDEr of the dev sample", lower_is_better=False),
    "recall": Criterion("val_sample_recall_sum", "sum of recalls of the dev sample", lower_is_better=False),
}
SAMPLE_SECONDS = "val_sample_seconds"  # key of the time that the dev sample took
BITS = Cost("bits", "bits per word", "tokens", "words")


def recalls(to_sentence: np.ndarray, to_image: np.ndarray, *, prefix: str) -> dict[str, float]:
    """R@1, 5 and 10 in percent and the median rank of both directions, and the sum of the six recalls.

    to_sentence : (n,) int, rank of the best own sentence of each image, from 1.
    to_image : (n,) int, rank of the image of each sentence, from 1.
    prefix : of every key.
    """
    found = {}
    for direction, ranks in (("image_to_sentence", to_sentence), ("sentence_to_image", to_image)):
        for k in (1, 5, 10):
            found[f"{prefix}{direction}_r{k}"] = 100 * float((ranks <= k).mean())
        found[f"{prefix}{direction}_median"] = float(np.median(ranks))
    found[f"{prefix}recall_sum"] = sum(value for name, value in found.items() if not name.endswith("median"))
    return found


def measures_of(config: Mapping[str, Any]) -> tuple[Criterion, Cost]:
    """Criterion and cost of a run by the content of its config.json; runs before version 2 were captioners.

    Raises KeyError or TypeError if it does not describe them.
    """
    if "task" not in config:
        return PERPLEXITY, BITS
    return Criterion(**config["task"]["criterion"]), Cost(**config["task"]["cost"])

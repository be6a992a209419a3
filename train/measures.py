"""What a run minimises and what its best checkpoint is chosen by, as files and people call them. Free of torch.

config.json holds both, so that runs of any task can be read and compared.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any


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
BITS = Cost("bits", "bits per word", "tokens", "words")


def measures_of(config: Mapping[str, Any]) -> tuple[Criterion, Cost]:
    """Criterion and cost of a run by the content of its config.json; runs before version 2 were captioners.

    Raises KeyError or TypeError if it does not describe them.
    """
    if "task" not in config:
        return PERPLEXITY, BITS
    return Criterion(**config["task"]["criterion"]), Cost(**config["task"]["cost"])

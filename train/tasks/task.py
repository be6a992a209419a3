"""What the training loop, CUDA graphs, several processes and preparation see of an objective."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from mrnn.data.vocabulary import Vocabulary
from mrnn.train.batches import Batch
from mrnn.train.features import Features
from mrnn.train.sentences import Sentences
from mrnn.train.settings import TrainSettings


@dataclass(frozen=True)
class TrainingData:
    """What a run is trained and validated on.

    train, val : tokenised sentences of the two splits, of which `image` is the number of an image of `features`.
    device : where batches are needed.
    """

    train: Sentences
    val: Sentences
    features: Features
    vocabulary: Vocabulary
    device: torch.device


@dataclass(frozen=True)
class Criterion:
    """The number of a validation by which the best checkpoint is chosen.

    key : its name among the results of `Task.validate` and in metrics.jsonl. label : its name for people.
    """

    key: str
    label: str
    lower_is_better: bool

    def worst(self) -> float:
        """What any validation is better than."""
        return float("inf") if self.lower_is_better else float("-inf")

    def better(self, value: float, than: float) -> bool:
        """Whether a value is better than another one; equal ones, and not-a-number, are not."""
        return value < than if self.lower_is_better else value > than


@dataclass(frozen=True)
class Cost:
    """The cost of one unit, as metrics.jsonl and people call it.

    key : of the cost per unit ('bits', 'train_bits'). label : for people ('bits per word'). unit : what is counted, as
    in 'tokens_per_s'. units : the same for people ('words').
    """

    key: str
    label: str
    unit: str
    units: str


class Task(Protocol):
    """An objective. The cost of a batch must be a sum over its units, whatever part of the units a process has."""

    name: str
    criterion: Criterion
    measure: Cost

    def batches(
        self,
        data: TrainingData,
        settings: TrainSettings,
        *,
        epoch: int,
        skip: int,
        part: tuple[int, int],
        rectangular: bool,
    ) -> Iterator[Batch]:
        """The batches of an epoch from number `skip` on; of each, part I of N. rectangular : in few shapes."""

    def batch_count(self, data: TrainingData, settings: TrainSettings) -> int:
        """Batches of an epoch."""

    def cost(self, model: Any, batch: Any) -> Tensor:
        """Cost of a batch, a scalar summed over its units, differentiable."""

    def validate(self, model: Any, data: TrainingData) -> dict[str, float]:
        """What metrics.jsonl says of the dev split after an epoch, the criterion among it."""

    def begin(self, model: Any, data: TrainingData, settings: TrainSettings) -> None:
        """Set what a new, initialised model takes from the data."""

    def limit(self, data: TrainingData) -> float:
        """The cost per unit from which on training has diverged."""

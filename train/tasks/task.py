"""What the training loop, CUDA graphs, several processes and preparation see of an objective."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from mrnn.data.vocabulary import Vocabulary
from mrnn.train.batches import Batch
from mrnn.train.features import Features
from mrnn.train.measures import Cost, Criterion
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

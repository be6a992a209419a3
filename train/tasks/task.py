"""The interface of an objective that the training loop, CUDA graphs, processes and preparation use."""

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
    """The data that a run is trained and validated on.

    train, val : tokenised sentences of the two splits; their `image` is an image number of `features`.
    features : features by image number.
    vocabulary : words by number.
    device : device of the batches.
    """

    train: Sentences
    val: Sentences
    features: Features
    vocabulary: Vocabulary
    device: torch.device


class Task(Protocol):
    """An objective. If it is divisible, the cost of a batch is a sum over its units: processes add their parts."""

    name: str
    criterion: Criterion
    measure: Cost
    divisible: bool  # whether several processes can each compute the cost of a part of a batch

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
        """The batches of an epoch.

        data : what the run is trained on.
        settings : settings of the run.
        epoch : number of the epoch, from 0.
        skip : number of batches to leave out at the start.
        part : (I, N), to yield only part I of N of each batch.
        rectangular : whether batches must have few different shapes, for CUDA graphs.
        """

    def batch_count(self, data: TrainingData, settings: TrainSettings) -> int:
        """Number of batches of an epoch."""

    def cost(self, model: Any, batch: Any) -> Tensor:
        """Cost of a batch: a differentiable scalar, summed over its units."""

    def validate(self, model: Any, data: TrainingData) -> dict[str, float]:
        """Results on the dev split for metrics.jsonl, including the criterion."""

    def begin(self, model: Any, data: TrainingData, settings: TrainSettings) -> None:
        """Set the parts of a newly initialised model that depend on the data."""

    def limit(self, data: TrainingData) -> float:
        """The cost per unit from which training counts as diverged."""

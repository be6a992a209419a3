"""Training steps as CUDA graphs, for a GPU by itself.

The kernels of this network are so short that a GPU waits for Python to launch them, some hundreds a step. A graph is
launched at once. It repeats the very same work on the same addresses, and so serves batches of one shape only: they are
made rectangular (mrnn.train.batches.pack), which leaves a shape for every length of sentence, two dozen on Flickr8k.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from mrnn.train.batches import Batch
from mrnn.train.models import MRNN

Cost = Callable[[MRNN, Batch], Tensor]


class Graphs:
    """A cost of a model and a rectangular batch, the same as the one it is made from, and as differentiable.

    A graph of its forward and backward pass is recorded when a shape comes for the second time, and replayed from then
    on. All graphs share their working memory, since one runs at a time. Where a graph cannot be recorded, that is
    reported, and every batch is computed step by step from then on.
    """

    def __init__(self, cost: Cost, *, report: Callable[[str], None], record: Callable[..., Any] | None = None) -> None:
        """record : stands in for torch.cuda.make_graphed_callables."""
        self._cost, self._report = cost, report
        self._record: Callable[..., Any] = record or torch.cuda.make_graphed_callables
        self._pool = torch.cuda.graph_pool_handle()
        self._seen: set[tuple[int, int]] = set()
        self._recorded: dict[tuple[int, int], Callable[..., Tensor]] = {}
        self._failed = False

    def __call__(self, model: MRNN, batch: Batch) -> Tensor:
        shape = len(batch.sizes), len(batch.sentences)
        if shape in self._seen and shape not in self._recorded and not self._failed:
            self._try(shape, model, batch)
        self._seen.add(shape)
        if shape in self._recorded:
            return self._recorded[shape](*_tensors(batch))
        return self._cost(model, batch)

    def _try(self, shape: tuple[int, int], model: MRNN, batch: Batch) -> None:
        try:
            step = _Step(self._cost, model, batch)
            self._recorded[shape] = self._record(step, _tensors(batch), pool=self._pool)
        except RuntimeError as error:
            self._failed = True
            self._report(f"going on without CUDA graphs ({str(error).splitlines()[0]})")


class _Step(nn.Module):
    """A cost as a function of tensors alone, which is what can be recorded; its parameters are the model's."""

    def __init__(self, cost: Cost, model: MRNN, batch: Batch) -> None:
        super().__init__()
        self.model = model
        self._cost, self._batch = cost, batch

    def forward(self, *tensors: Tensor) -> Tensor:
        inputs, targets, image_of_token, features = tensors
        batch = replace(self._batch, inputs=inputs, targets=targets, image_of_token=image_of_token, features=features)
        return self._cost(self.model, batch)


def _tensors(batch: Batch) -> tuple[Tensor, ...]:
    """All of a batch that is not in its shape."""
    return batch.inputs, batch.targets, batch.image_of_token, batch.features

"""Training steps as CUDA graphs, for a GPU by itself.

The kernels of this network are so short that a GPU waits for Python to launch them, some hundreds a step. A graph is
launched at once. It repeats the very same work on the same addresses, and so serves batches of one shape only: they are
made rectangular (mrnn.train.batches.pack), which leaves a shape for every length of sentence, two dozen on Flickr8k.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from mrnn.train.batches import Batch
from mrnn.train.models import MRNN

Cost = Callable[[MRNN, Batch], Tensor]
Work = Callable[[], tuple[Tensor, ...]]
Capture = Callable[[Work], tuple[Callable[[], None], tuple[Tensor, ...]]]
WARM_UPS = 3  # runs before a capture, in which libraries set themselves up


class Graphs:
    """A cost of a model and a rectangular batch, the same as the one it is made from, and differentiable once.

    A graph of its forward and backward pass is recorded when a shape comes for the second time, and replayed from then
    on. Where a graph cannot be recorded, that is reported, and from then on every batch is computed step by step.
    """

    def __init__(self, cost: Cost, capture: Capture, *, report: Callable[[str], None]) -> None:
        self._cost, self._capture, self._report = cost, capture, report
        self._seen: set[tuple[int, int]] = set()
        self._recorded: dict[tuple[int, int], _Recorded] = {}
        self._failed = False

    def __call__(self, model: MRNN, batch: Batch) -> Tensor:
        shape = len(batch.sizes), len(batch.sentences)
        if shape in self._seen and shape not in self._recorded and not self._failed:
            try:
                self._recorded[shape] = _Recorded(self._cost, model, batch, self._capture)
            except RuntimeError as error:
                self._failed = True
                self._recorded.clear()
                self._report(f"going on without CUDA graphs ({str(error).splitlines()[0]})")
        self._seen.add(shape)
        if shape not in self._recorded:
            return self._cost(model, batch)
        bits: Tensor = _Replay.apply(self._recorded[shape], batch, *model.parameters())
        return bits


class _Recorded:
    """The cost and the gradients of what lies in memory of its own."""

    def __init__(self, cost: Cost, model: MRNN, batch: Batch, capture: Capture) -> None:
        self._memory = inputs, targets, image_of_token, features = tuple(tensor.clone() for tensor in _tensors(batch))
        own = replace(batch, inputs=inputs, targets=targets, image_of_token=image_of_token, features=features)
        parameters = tuple(model.parameters())

        def work() -> tuple[Tensor, ...]:
            bits = cost(model, own)
            return bits.detach(), *torch.autograd.grad(bits, parameters)

        self._replay, self._results = capture(work)

    def __call__(self, batch: Batch) -> tuple[Tensor, ...]:
        """Bits, and gradients of all parameters, of another batch; they hold until the next call."""
        for own, given in zip(self._memory, _tensors(batch), strict=True):
            own.copy_(given)
        self._replay()
        return self._results


class _Replay(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, recorded: _Recorded, batch: Batch, *parameters: Tensor) -> Tensor:
        bits, *ctx.gradients = recorded(batch)
        return bits.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *scale: Tensor) -> tuple[Tensor | None, ...]:
        return None, None, *(gradient * scale[0] for gradient in ctx.gradients)


def _tensors(batch: Batch) -> tuple[Tensor, ...]:
    """All of a batch that is not in its shape."""
    return batch.inputs, batch.targets, batch.image_of_token, batch.features


def cuda_capture() -> Capture:
    """Record work as CUDA graphs, which share their working memory: one runs at a time."""
    pool, stream = torch.cuda.graph_pool_handle(), torch.cuda.Stream()

    def capture(work: Work) -> tuple[Callable[[], None], tuple[Tensor, ...]]:
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UPS):
                work()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=pool, stream=stream):
            results = work()
        return graph.replay, results

    return capture

"""Forward and backward passes as CUDA graphs, for training on a single GPU.

The kernels of these networks are so short that a GPU waits for Python to launch them, some hundreds per step. A graph
is launched at once. It repeats the very same work on the same addresses, so it serves batches of one shape only: they
are made rectangular (mrnn.train.batches.pack), which leaves one shape per length of sentence, two dozen on Flickr8k.
"""

from collections.abc import Callable, Hashable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from mrnn.data.errors import TrainingError
from mrnn.train.batches import Batch

CostFunction = Callable[[Any, Any], Tensor]
Work = Callable[[], tuple[Tensor, ...]]
Capture = Callable[[Work], tuple[Callable[[], None], tuple[Tensor, ...]]]
Shape = tuple[nn.Module, Hashable]  # the model and Batch.shape
NO_MORE = "no more CUDA graphs are recorded"
WARM_UPS = 3  # runs before a capture, in which libraries set themselves up


class Graphs:
    """A cost of a model and a rectangular batch, with the value and the gradients of the cost it is made from.

    A graph of its forward and backward pass is recorded when a shape comes for the second time, and replayed from then
    on. Once the memory of the device is full no more are recorded, and other shapes are computed kernel by kernel.
    Each cost is to be differentiated before the next is asked for, and none may be alive then: what is recorded keeps
    the streams of an earlier backward pass, which a graph cannot. Precision and training mode are to stay as they are.
    Raises TrainingError if a graph cannot be recorded: what that leaves behind in CUDA is past mending.
    """

    def __init__(self, cost: CostFunction, capture: Capture, *, report: Callable[[str], None]) -> None:
        self._cost, self._capture, self._report = cost, capture, report
        self._seen: set[Shape] = set()
        self._recorded: dict[Shape, _Recorded] = {}
        self._full = False

    def __call__(self, model: nn.Module, batch: Batch) -> Tensor:
        shape = model, batch.shape()
        if shape in self._seen and shape not in self._recorded and not self._full:
            self._record(shape, batch)
        self._seen.add(shape)
        if shape not in self._recorded:
            return self._cost(model, batch)
        total: Tensor = _Replay.apply(self._recorded[shape], batch, *model.parameters())
        return total

    def _record(self, shape: Shape, batch: Batch) -> None:
        try:
            self._recorded[shape] = _Recorded(self._cost, shape[0], batch, self._capture)
        except torch.OutOfMemoryError:
            self._full = True
            self._report(f"{NO_MORE} after {len(self._recorded)}: the device's memory is full")
        except RuntimeError as error:
            raise TrainingError(
                f"a pass cannot be recorded as a CUDA graph ({str(error).partition(chr(10))[0]}); run the same command "
                "with --no-graphs"
            ) from error


class _Recorded:
    """The cost and the gradients of what lies in memory of its own."""

    def __init__(self, cost: CostFunction, model: nn.Module, batch: Batch, capture: Capture) -> None:
        self._memory = {name: tensor.clone() for name, tensor in batch.tensors().items()}
        own = replace(batch, **self._memory)  # type: ignore[arg-type]
        parameters = tuple(model.parameters())

        def work() -> tuple[Tensor, ...]:
            total = cost(model, own)
            return total.detach(), *torch.autograd.grad(total, parameters)

        self._replay, self._results = capture(work)
        self.replays = 0

    def __call__(self, batch: Batch) -> tuple[Tensor, ...]:
        """The cost, and gradients of all parameters, of another batch; they hold until the next call."""
        for name, tensor in batch.tensors().items():
            self._memory[name].copy_(tensor)
        self._replay()
        self.replays += 1
        return self._results


class _Replay(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, recorded: _Recorded, batch: Batch, *parameters: Tensor) -> Tensor:
        total, *ctx.gradients = recorded(batch)
        ctx.recorded, ctx.replay = recorded, recorded.replays
        return total.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *of_total: Tensor) -> tuple[Tensor | None, ...]:
        if ctx.replay != ctx.recorded.replays:
            raise RuntimeError("a later batch has taken the place of the gradients of this one")
        return None, None, *(gradient * of_total[0] for gradient in ctx.gradients)


def cuda_capture(device: torch.device) -> Capture:
    """Record work on a GPU as CUDA graphs, which share their working memory: one runs at a time."""
    pool, stream = torch.cuda.graph_pool_handle(), torch.cuda.Stream(device)

    def capture(work: Work) -> tuple[Callable[[], None], tuple[Tensor, ...]]:
        with torch.cuda.device(device):  # whose generator and streams are meant; another may be the current one
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

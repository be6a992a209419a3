"""Forward and backward passes as CUDA graphs, for a GPU by itself.

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

from mrnn.data.errors import TrainingError
from mrnn.train.batches import Batch
from mrnn.train.models import MRNN

Cost = Callable[[MRNN, Batch], Tensor]
Work = Callable[[], tuple[Tensor, ...]]
Capture = Callable[[Work], tuple[Callable[[], None], tuple[Tensor, ...]]]
Shape = tuple[MRNN, int, int]  # model, steps, sentences
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

    def __init__(self, cost: Cost, capture: Capture, *, report: Callable[[str], None]) -> None:
        self._cost, self._capture, self._report = cost, capture, report
        self._seen: set[Shape] = set()
        self._recorded: dict[Shape, _Recorded] = {}
        self._full = False

    def __call__(self, model: MRNN, batch: Batch) -> Tensor:
        shape = model, len(batch.sizes), len(batch.sentences)
        if shape in self._seen and shape not in self._recorded and not self._full:
            self._record(shape, batch)
        self._seen.add(shape)
        if shape not in self._recorded:
            return self._cost(model, batch)
        bits: Tensor = _Replay.apply(self._recorded[shape], batch, *model.parameters())
        return bits

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

    def __init__(self, cost: Cost, model: MRNN, batch: Batch, capture: Capture) -> None:
        inputs, targets, image_of_token, features = self._memory = tuple(tensor.clone() for tensor in _tensors(batch))
        own = replace(batch, inputs=inputs, targets=targets, image_of_token=image_of_token, features=features)
        parameters = tuple(model.parameters())

        def work() -> tuple[Tensor, ...]:
            bits = cost(model, own)
            return bits.detach(), *torch.autograd.grad(bits, parameters)

        self._replay, self._results = capture(work)
        self.replays = 0

    def __call__(self, batch: Batch) -> tuple[Tensor, ...]:
        """Bits, and gradients of all parameters, of another batch; they hold until the next call."""
        for own, given in zip(self._memory, _tensors(batch), strict=True):
            own.copy_(given)
        self._replay()
        self.replays += 1
        return self._results


class _Replay(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, recorded: _Recorded, batch: Batch, *parameters: Tensor) -> Tensor:
        bits, *ctx.gradients = recorded(batch)
        ctx.recorded, ctx.replay = recorded, recorded.replays
        return bits.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *of_bits: Tensor) -> tuple[Tensor | None, ...]:
        if ctx.replay != ctx.recorded.replays:
            raise RuntimeError("a later batch has taken the place of the gradients of this one")
        return None, None, *(gradient * of_bits[0] for gradient in ctx.gradients)


def _tensors(batch: Batch) -> tuple[Tensor, ...]:
    """All of a batch that is not in its shape."""
    return batch.inputs, batch.targets, batch.image_of_token, batch.features


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

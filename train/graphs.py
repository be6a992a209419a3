"""Forward and backward passes as CUDA graphs, for training on a single GPU.

The kernels of these networks are so short that a GPU waits for Python to launch them, some hundreds per step. A graph
is launched as a whole. It repeats the same work on the same addresses, so it serves batches of one shape only. Batches
are therefore made rectangular (mrnn.train.batches.pack), which leaves one shape per sentence length: two dozen on
Flickr8k.
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
WARM_UPS = 3  # runs before a capture, in which libraries initialise and allocate their workspaces


class Graphs:
    """A cost function of a model and a rectangular batch that replays CUDA graphs; value and gradients stay the same.

    The forward and backward pass of a shape is recorded when the shape occurs for the second time, and replayed from
    then on. When the memory of the device is full, no more graphs are recorded, and other shapes are computed kernel by
    kernel. Each cost must be differentiated and released before the next call. Precision and training mode must not
    change between calls.

    cost : the function to record, (model, batch) -> scalar.
    capture : records work as a graph; see `cuda_capture`.
    report : called with each line of text for users.

    Raises TrainingError if a graph cannot be recorded.
    """

    def __init__(self, cost: CostFunction, capture: Capture, *, report: Callable[[str], None]) -> None:
        self._cost, self._capture, self._report = cost, capture, report
        self._seen: set[Shape] = set()
        self._recorded: dict[Shape, _Recorded] = {}
        self._full = False

    def __call__(self, model: nn.Module, batch: Batch) -> Tensor:
        shape = model, batch.shape()
        # Recording costs WARM_UPS + 1 passes and memory, which a shape that occurs only once never repays.
        if shape in self._seen and shape not in self._recorded and not self._full:
            self._record(shape, batch)
        self._seen.add(shape)
        if shape not in self._recorded:
            return self._cost(model, batch)
        total: Tensor = _Replay.apply(self._recorded[shape], batch, *trained(model))
        return total

    def _record(self, shape: Shape, batch: Batch) -> None:
        # No earlier cost may be alive here: its autograd graph keeps the streams of an earlier backward pass, which a
        # capture must not touch.
        try:
            self._recorded[shape] = _Recorded(self._cost, shape[0], batch, self._capture)
        except torch.OutOfMemoryError:
            self._full = True
            self._report(f"{NO_MORE} after {len(self._recorded)}: the device's memory is full")
        except RuntimeError as error:
            # A failed capture leaves the CUDA context in a state that cannot be repaired, so training must end here.
            raise TrainingError(
                f"a pass cannot be recorded as a CUDA graph ({str(error).partition(chr(10))[0]}); run the same command "
                "with --no-graphs"
            ) from error


class _Recorded:
    """A recorded pass: the cost and its gradients for a batch that is copied to fixed addresses."""

    def __init__(self, cost: CostFunction, model: nn.Module, batch: Batch, capture: Capture) -> None:
        self._memory = {name: tensor.clone() for name, tensor in batch.tensors().items()}
        own = replace(batch, **self._memory)  # type: ignore[arg-type]
        parameters = trained(model)

        def work() -> tuple[Tensor, ...]:
            total = cost(model, own)
            # autograd.grad returns the gradients instead of adding them to .grad, whose memory the graph does not own.
            # The cost is detached so that its autograd graph is freed.
            return total.detach(), *torch.autograd.grad(total, parameters)

        self._replay, self._results = capture(work)
        self.replays = 0

    def __call__(self, batch: Batch) -> tuple[Tensor, ...]:
        """The cost and the gradients of all parameters for another batch; both are overwritten by the next call."""
        for name, tensor in batch.tensors().items():
            self._memory[name].copy_(tensor)
        self._replay()
        self.replays += 1
        return self._results


class _Replay(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, recorded: _Recorded, batch: Batch, *parameters: Tensor) -> Tensor:
        total, *ctx.gradients = recorded(batch)
        ctx.recorded, ctx.replay = recorded, recorded.replays  # lets `backward` detect that a later replay overwrote it
        return total.clone()  # `total` itself is overwritten by the next replay

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *of_total: Tensor) -> tuple[Tensor | None, ...]:
        if ctx.replay != ctx.recorded.replays:
            raise RuntimeError("a later batch has taken the place of the gradients of this one")
        return None, None, *(gradient * of_total[0] for gradient in ctx.gradients)


def trained(model: nn.Module) -> tuple[nn.Parameter, ...]:
    """The parameters that are not fixed."""
    return tuple(parameter for parameter in model.parameters() if parameter.requires_grad)


def cuda_capture(device: torch.device) -> Capture:
    """A function that records work on a GPU as a CUDA graph and returns the replay function and the results.

    All graphs share one memory pool. That is safe because only one of them runs at a time.
    """
    pool, stream = torch.cuda.graph_pool_handle(), torch.cuda.Stream(device)

    def capture(work: Work) -> tuple[Callable[[], None], tuple[Tensor, ...]]:
        with torch.cuda.device(device):  # another device may be the current one, with its own generator and streams
            # PyTorch requires warm-up runs on a side stream before a capture: the first calls of libraries allocate
            # memory and choose algorithms, which a graph cannot record.
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

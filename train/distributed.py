"""Training by several processes: each takes its part of every batch, and all hold the same weights.

torchrun, or srun as in jobs/train.sbatch, starts them and tells each who it is: RANK of WORLD_SIZE, LOCAL_RANK on its
machine, and where the first one listens, MASTER_ADDR and MASTER_PORT. Without these there is one process, and nothing
here does anything. Gradients are averaged by DistributedDataParallel, over NCCL between GPUs, else over gloo; the few
numbers beside them travel by gloo. The first process alone validates, writes and reports.
"""

import atexit
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from mrnn.data.command import EXIT_FAILED
from mrnn.data.errors import Stopped, TrainingError
from mrnn.data.stopping import StopRequest

TIMEOUT = timedelta(minutes=30)  # the others wait for the first, which validates; that is the longest they may
Result = TypeVar("Result")


class Ranks:
    """The processes of a training, as one of them sees them.

    rank : its number, from 0. count : of processes. local : its number on its machine. Every method is to be called by
    all of them, in the same order.
    """

    def __init__(self, rank: int = 0, count: int = 1, local: int = 0) -> None:
        self.rank, self.count, self.local = rank, count, local
        self._cost: nn.Module | None = None

    @property
    def first(self) -> bool:
        """Whether this is the process that validates, writes and reports."""
        return self.rank == 0

    def cost(self, function: Callable[[Any, Any], Tensor], model: nn.Module, batch: Any, *, seed: list[int]) -> Tensor:
        """function(model, batch). Its backward pass leaves, in all processes, the mean of their gradients.

        seed : of this step's dropout, which each process draws for itself. It depends on nothing before, so that a
        checkpoint need not hold the state of every process. (One process alone draws on where it stopped, as ever.)
        """
        if self.count == 1:
            return function(model, batch)
        if self._cost is None:
            self._cost = DistributedDataParallel(_Cost(function, model))
            # A rehearsal: after its first pass it lays out the gradients anew, for good. The order in which three or
            # more are summed depends on the layout, so without this a resumed run would differ in its last bits.
            self._cost(batch).backward()
            model.zero_grad()
        torch.manual_seed(int(np.random.SeedSequence([*seed, self.rank]).generate_state(1, np.uint64)[0]))
        cost: Tensor = self._cost(batch)
        return cost

    def sums(self, *values: float) -> list[float]:
        """The sum over the processes of each value."""
        if self.count == 1:
            return list(values)
        total = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(total)
        return total.tolist()

    def meet(self) -> None:
        """Wait until all processes are here."""
        self.sums(0.0)

    def asked_to_stop(self, stop: StopRequest) -> bool:
        """Whether any process was asked to stop; then all of them are, with the same reason."""
        if self.count == 1:
            return bool(stop.reason)
        code = torch.tensor(stop.code)
        dist.all_reduce(code, dist.ReduceOp.MAX)
        stop.adopt(int(code))
        return bool(code)

    def by_first(self, function: Callable[[], Result]) -> Result:
        """The result of function(), which the first process calls while the others wait for it."""
        if self.count == 1:
            return function()
        results = [function() if self.first else None]
        dist.broadcast_object_list(results)
        result: Any = results[0]
        return result

    def check_same(self, facts: dict[str, Any]) -> None:
        """Raise TrainingError in all processes unless these facts are the same in all."""
        if self.count == 1:
            return
        everyone: list[Any] = [None] * self.count
        dist.all_gather_object(everyone, facts)
        for rank, others in enumerate(everyone):
            for name, value in others.items():
                if value != everyone[0][name]:
                    raise TrainingError(
                        f"process {rank} of {self.count} has {name} {value}, process 0 has {everyone[0][name]}; start "
                        "all with the same command, and keep cache and run folder where all machines see them"
                    )


class _Cost(nn.Module):
    """A function of a model and a batch, as a module for DistributedDataParallel.

    It shows the model's parameters only: buffers, which are constant here, would be sent before every step.
    """

    def __init__(self, function: Callable[[Any, Any], Tensor], model: nn.Module) -> None:
        super().__init__()
        self._function, self._hidden = function, (model,)
        self.shown = nn.ParameterList(model.parameters())

    def forward(self, batch: Any) -> Tensor:
        return self._function(self._hidden[0], batch)


@contextmanager
def joined() -> Iterator[Ranks]:
    """Join the other processes of this training, if the environment names any, for the duration of a with block.

    Raises TrainingError if they cannot be reached, or if one of them is gone. Stopped is raised in the first process;
    the others leave quietly with its exit code. Where there are several, the process then ends with the exit code of
    this training, whatever it still does, but for an exception that nobody catches (see _leave).
    """
    if os.environ.get("WORLD_SIZE", "1") == "1":
        yield Ranks()
        return
    try:
        rank, count, local = (int(os.environ[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"))
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        dist.init_process_group(backend, rank=rank, world_size=count, timeout=TIMEOUT)
    except (KeyError, ValueError, RuntimeError) as error:
        raise TrainingError(
            f"WORLD_SIZE says that this is one of several processes, but they cannot meet ({_line(error)}); start them "
            "with torchrun or as jobs/train.sbatch does, or unset WORLD_SIZE"
        ) from error
    ranks, stopped = Ranks(rank, count, local), None
    try:
        try:
            yield ranks
        except Stopped as stop:
            stopped = stop
        # Nobody leaves before the first has saved: to a launcher, a process that ends is a reason to end the others.
        ranks.meet()
        dist.destroy_process_group()
        atexit.register(_leave, stopped.exit_code if stopped else 0)
    except Exception as error:
        atexit.register(_leave, EXIT_FAILED)  # with the group as it is: to leave a broken one can wait for ever
        gone = isinstance(error, RuntimeError) and (isinstance(error, dist.DistError) or "gloo" in str(error))
        if not gone:
            raise
        raise TrainingError(
            f"process {rank} of {count}: another process of this training is gone or does not answer ({_line(error)}); "
            "its own last lines say why. The same command goes on from the last checkpoint"
        ) from error
    if stopped and rank == 0:
        raise stopped
    if stopped:
        sys.exit(stopped.exit_code)


def _leave(code: int) -> None:
    """End the process at its exit without C++'s farewells.

    gloo's threads outlive even a group that was left in good order, since DistributedDataParallel holds it (torch
    2.15). At the end of a busy process they now and then abort it, and after an error they wait for one that is gone.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(EXIT_FAILED if getattr(sys, "last_value", None) else code)


def _line(error: Exception) -> str:
    return str(error).splitlines()[0][:160]

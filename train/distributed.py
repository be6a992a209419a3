"""Training by several processes: each works on its part of every batch, and all hold the same weights.

torchrun, or srun as in jobs/train.sbatch, starts the processes and sets their environment: RANK and WORLD_SIZE,
LOCAL_RANK on the machine, and MASTER_ADDR and MASTER_PORT, where the first one listens. Without these variables there
is a single process, and nothing here has an effect. DistributedDataParallel averages the gradients, over NCCL between
GPUs and over gloo otherwise; all other numbers are exchanged over gloo. Only the first process validates, writes and
reports.
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

TIMEOUT = timedelta(minutes=30)  # the longest that the others wait for the first process, which validates
Result = TypeVar("Result")


class Ranks:
    """The processes of a training, as one of them sees them.

    All processes must call the same methods in the same order.

    rank : number of this process, from 0.
    count : number of processes.
    local : number of this process on its machine.
    """

    def __init__(self, rank: int = 0, count: int = 1, local: int = 0) -> None:
        self.rank, self.count, self.local = rank, count, local
        self._cost: nn.Module | None = None

    @property
    def first(self) -> bool:
        """Whether this is the process that validates, writes and reports."""
        return self.rank == 0

    def cost(self, function: Callable[[Any, Any], Tensor], model: nn.Module, batch: Any, *, seed: list[int]) -> Tensor:
        """function(model, batch); its backward pass leaves the mean of the processes' gradients in each of them.

        function : the cost of a model and a batch, a scalar.
        model : the same model object in every call.
        batch : this process's part of the batch.
        seed : seed of the dropout of this step, which each process draws on its own.
        """
        # With several processes, dropout is seeded again in every step, so that a checkpoint need not hold the
        # generator state of each process. A single process keeps one stream, whose state the checkpoint holds.
        if self.count == 1:
            return function(model, batch)
        if self._cost is None:
            self._cost = DistributedDataParallel(_Cost(function, model))
            # A rehearsal pass: after its first backward pass, DistributedDataParallel rebuilds its gradient buckets
            # once, in the order in which gradients arrived. The order in which three or more processes' gradients are
            # summed depends on that layout. Without the rehearsal the first step after a resume would use the initial
            # layout and differ from the uninterrupted run in its last bits.
            self._cost(batch).backward()
            model.zero_grad()
        torch.manual_seed(int(np.random.SeedSequence([*seed, self.rank]).generate_state(1, np.uint64)[0]))
        cost: Tensor = self._cost(batch)
        return cost

    def sums(self, *values: float) -> list[float]:
        """The sum of each value over the processes."""
        if self.count == 1:
            return list(values)
        total = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(total)
        return total.tolist()

    def meet(self) -> None:
        """Wait until all processes have called this."""
        self.sums(0.0)

    def asked_to_stop(self, stop: StopRequest) -> bool:
        """Whether any process was asked to stop; all of them then stop for the same reason."""
        if self.count == 1:
            return bool(stop.reason)
        # A signal reaches the processes at different moments. If each decided on its own, those that did not see it
        # yet would start a step and wait for the others for ever.
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
        """Raise TrainingError in every process unless these facts are equal in all of them."""
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

    Only the model's parameters are registered. Buffers are constant here, and DistributedDataParallel would broadcast
    them before every step.
    """

    def __init__(self, function: Callable[[Any, Any], Tensor], model: nn.Module) -> None:
        super().__init__()
        self._function, self._hidden = function, (model,)  # in a tuple, which nn.Module does not search for modules
        self.shown = nn.ParameterList(model.parameters())

    def forward(self, batch: Any) -> Tensor:
        return self._function(self._hidden[0], batch)


@contextmanager
def joined() -> Iterator[Ranks]:
    """Join the other processes of this training, if the environment names any, for the duration of a with block.

    Raises TrainingError if the others cannot be reached, or if one of them is gone. Stopped is raised in the first
    process only; the others exit silently with its exit code. With several processes, the interpreter later exits with
    the exit code of this training, unless an exception is left uncaught (see _leave).
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
        # No process leaves before the first has saved: launchers kill the other processes as soon as one ends.
        ranks.meet()
        dist.destroy_process_group()
        atexit.register(_leave, stopped.exit_code if stopped else 0)
    except Exception as error:
        atexit.register(_leave, EXIT_FAILED)  # without destroying the group, which for a broken one can hang for ever
        gone = isinstance(error, RuntimeError) and (isinstance(error, dist.DistError) or "gloo" in str(error))
        if not gone:
            raise
        raise TrainingError(
            f"process {rank} of {count}: another process of this training is gone or does not answer ({_line(error)}); "
            "its own last lines say why. The same command resumes from the last checkpoint"
        ) from error
    if stopped and rank == 0:
        raise stopped
    if stopped:
        sys.exit(stopped.exit_code)


def _leave(code: int) -> None:
    """End the process at interpreter exit without running C++ destructors."""
    # gloo's threads outlive even a group that was destroyed properly, since DistributedDataParallel keeps a reference
    # to it (torch 2.15). In C++'s own shutdown they sometimes abort a process on a busy machine, and after an error
    # they wait for a process that is gone. os._exit skips that shutdown, and with it the flushing of the streams.
    sys.stdout.flush()
    sys.stderr.flush()
    # sys.last_value is set when the interpreter reports an uncaught exception; its exit code would otherwise be lost.
    os._exit(EXIT_FAILED if getattr(sys, "last_value", None) else code)


def _line(error: Exception) -> str:
    return str(error).splitlines()[0][:160]

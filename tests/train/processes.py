"""Processes of a training, as tests start them. A call is a dict as JSON:

folder, settings : of the run. port : where the processes meet. at, rank, number : before step `at`, process `rank` is
sent the signal `number`. differs : the RANK whose learning rate is another.

    python processes.py CACHE CALLS    this process, in the environment of torchrun, does all calls one after another
    python -m tests.train.processes    a server: for each line {"count", "cache", "calls"} of standard input as many
                                       forked processes do the calls; answers [exit code, how each call ended] for each

The server pays once for the imports. It starts no thread, so that its forks are whole.
"""

import json
import os
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch._dynamo  # otherwise imported by an optimiser, in every fork

from mrnn.data.cache import open_cache
from mrnn.data.errors import MrnnError, Stopped
from mrnn.data.stopping import stop_on_signals
from mrnn.train import distributed, loop
from mrnn.train.settings import RunOptions, TrainSettings


def do(cache: str, call: dict[str, Any]) -> str:
    """Train; how it ended."""
    real_step = loop.train_step

    def step(training: Any, batch: Any) -> Any:
        if call.get("at") == training.progress.step and call["rank"] == training.ranks.rank:
            os.kill(os.getpid(), call["number"])
        return real_step(training, batch)

    settings = dict(call["settings"])
    if call.get("differs") == os.environ.get("RANK"):
        settings["lr"] *= 2
    if "port" in call:
        os.environ["MASTER_PORT"] = str(call["port"])
    options = RunOptions(device="cpu", tensorboard=False, log_every=1, save_every="5", threads=1)
    loop.train_step = step
    try:
        with stop_on_signals() as stop:
            folder, asked = Path(call["folder"]), TrainSettings(**settings)
            loop.train(open_cache(Path(cache)), folder, asked, options=options, stop=stop, report=print)
    except (Stopped, MrnnError) as end:
        return str(end)
    except SystemExit as leave:
        return f"left with {leave.code}"
    finally:
        loop.train_step = real_step
    return "finished"


def do_all(cache: str, calls: list[dict[str, Any]]) -> None:
    """Print how each call ended."""
    torch.set_num_threads(1)
    # That a process is gone must show at once, not after a time; a day, so that no wait of a busy machine counts.
    distributed.TIMEOUT = timedelta(days=1)
    for call in calls:
        ended = do(cache, call)
        sys.stdout.write(f"end: {ended}\n")  # in one piece: processes of torchrun share a pipe, unbuffered
        sys.stdout.flush()


def serve() -> None:
    """Answer the lines of standard input. A fork returns from here and ends as any process does."""
    for line in sys.stdin:
        request = json.loads(line)
        outputs = [os.memfd_create("output") for _ in range(request["count"])]
        processes = []
        for rank, output in enumerate(outputs):
            if not (process := os.fork()):
                os.dup2(output, 1)
                place = {"RANK": rank, "LOCAL_RANK": rank, "MASTER_ADDR": "127.0.0.1", "WORLD_SIZE": request["count"]}
                os.environ |= {name: str(value) for name, value in place.items()}
                do_all(request["cache"], request["calls"])
                return
            processes.append(process)
        answer = []
        for process, output in zip(processes, outputs, strict=True):
            code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
            os.lseek(output, 0, os.SEEK_SET)
            with os.fdopen(output) as printed:
                answer.append([code, [line.rstrip("\n") for line in printed if line.startswith("end:")]])
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        do_all(sys.argv[1], json.loads(sys.argv[2]))
    else:
        serve()

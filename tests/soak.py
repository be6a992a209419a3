"""Kill extraction, sharded extraction and merging with SIGKILL at random moments until enough have died.

    python tests/soak.py --kills 300

After every round the surviving cache must equal, byte for byte, that of a run that nobody disturbed. The commands run
as forked processes of this one, so that the imports are paid for once; nothing here may start a thread before a fork.
`make soak` runs it with 300 kills, the test suite with 10.
"""

import argparse
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import click
import torch  # noqa: F401  paid for once, before the forks

import mrnn.extract.backbones
import mrnn.extract.runner  # noqa: F401  likewise
from mrnn.data.cli import merge
from mrnn.extract.cli import main as extract

IMAGES, BATCH = 48, 8
NETWORK = ("--backbone", "torchvision:squeezenet1_1", "--weights", "random:0")


def run(command: click.Command, arguments: Sequence[str], log: Path, *, kill_after: float | None = None) -> int:
    """Run a command in a process of its own; return its exit code, negative if it was killed."""
    process = os.fork()
    if process == 0:
        code = 1
        try:
            with log.open("a") as stream:
                os.dup2(stream.fileno(), 1)
                os.dup2(stream.fileno(), 2)
            command.main(list(arguments))
        except SystemExit as ending:
            code = ending.code if isinstance(ending.code, int) else 1
        finally:
            os._exit(code)
    if kill_after is not None:
        time.sleep(kill_after)
        os.kill(process, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def run_killed(command: click.Command, arguments: Sequence[str], log: Path, draw: random.Random, longest: float) -> int:
    """Kill a command at random moments of its life until it ends by itself; return how often it was killed."""
    kills = 0
    while (code := run(command, arguments, log, kill_after=draw.uniform(0, longest))) == -signal.SIGKILL:
        kills += 1
    if code != 0:
        sys.exit(f"after {kills} kills, {command.name} {' '.join(arguments)} ended with {code}:\n{log.read_text()}")
    return kills


def main() -> None:
    """Kill and compare until --kills processes have died."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    draw = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        log = folder / "log"
        base = ["--dataset", "scenes", "--root", str(folder / "scenes"), "--limit", str(IMAGES)]
        base += [*NETWORK, "--batch-size", str(BATCH), "--threads", "1"]

        def extraction(output: str, *more: str) -> list[str]:
            return [*base, "--output", str(folder / output), *more]

        if run(extract, extraction("whole.h5"), log) != 0:  # draws the scenes too
            sys.exit(log.read_text())
        (folder / "whole.h5").unlink()
        begin = time.monotonic()
        run(extract, extraction("whole.h5"), log)
        longest = 1.1 * (time.monotonic() - begin)
        whole = (folder / "whole.h5").read_bytes()
        kills = rounds = 0
        while kills < options.kills:
            in_pieces = rounds % 2 == 1
            if in_pieces:
                shards = [f"shard{part}.h5" for part in range(3)]
                for part, shard in enumerate(shards):
                    kills += run_killed(extract, extraction(shard, "--shard", f"{part}/3"), log, draw, longest)
                paths = [str(folder / shard) for shard in ("feats.h5", *shards)]
                kills += run_killed(merge, paths, log, draw, 0.1)
            else:
                kills += run_killed(extract, extraction("feats.h5"), log, draw, longest)
            if (folder / "feats.h5").read_bytes() != whole:
                sys.exit(f"round {rounds}: the cache differs from that of an undisturbed run")
            for path in folder.glob("*.h5"):
                if path.name != "whole.h5":
                    path.unlink()
            left = [path.name for path in folder.iterdir() if path.name not in ("whole.h5", "scenes", "log")]
            left = [name for name in left if not name.endswith(".report.tsv")]
            if left:
                sys.exit(f"round {rounds}: left behind: {', '.join(left)}")
            rounds += 1
            print(f"round {rounds}: {kills} kills, every cache equal", flush=True)
    print(f"{kills} processes killed in {rounds} rounds; every cache equals the undisturbed one byte for byte")


if __name__ == "__main__":
    main()

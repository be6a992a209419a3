"""--help, --version and completion of every command answer without loading torch or h5py."""

import configparser
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
HEAVY = ("torch", "torchvision", "h5py")

# One process for all commands: each runs in a fork, so that none inherits what another has imported.
START = """
import contextlib, importlib, io, json, os, sys

def answers(command, name, arguments):
    out = io.TextIOWrapper(io.BytesIO(), write_through=True)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()):
            command.main(arguments, prog_name=name)
    except SystemExit as end:
        return not end.code and bool(out.buffer.getvalue())

heavy, scripts = json.loads(sys.argv[1])
assert not set(heavy) & set(sys.modules)
for words, module, function in scripts:
    if (child := os.fork()) == 0:
        program, *subcommand = words.split()
        command = getattr(importlib.import_module(module), function)
        failed = [flag for flag in ("-h", "--help", "--version") if not answers(command, program, [*subcommand, flag])]
        os.environ |= {"COMP_WORDS": f"{words} --", "COMP_CWORD": str(1 + len(subcommand))}
        os.environ[f"_{program.replace('-', '_').upper()}_COMPLETE"] = "bash_complete"
        failed += [] if answers(command, program, []) else ["completion"]
        print(json.dumps([words, failed, [module for module in heavy if module in sys.modules]]), flush=True)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0, words
"""


def console_scripts() -> list[tuple[str, str, str]]:
    """Name, module and function of each script of setup.cfg, and of each subcommand of mrnn."""
    from mrnn.data.commands import COMMANDS

    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    lines = config["options.entry_points"]["console_scripts"].strip().splitlines()
    scripts = [re.split(r"\s*[=:]\s*", line.strip()) for line in lines]
    program = ("mrnn.data.commands", "main")
    return [(name, module, function) for name, module, function in scripts] + [
        (f"mrnn {name}", *program) for name in COMMANDS
    ]


SCRIPTS = console_scripts()


@pytest.fixture(scope="module")
def started() -> dict[str, tuple[list[str], list[str]]]:
    """For each command: what did not answer, and what it has loaded."""
    arguments = json.dumps([HEAVY, SCRIPTS])
    child = [sys.executable, "-c", START, arguments]
    finished = subprocess.run(child, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    lines = [json.loads(line) for line in finished.stdout.splitlines()]
    return {name: (failed, loaded) for name, failed, loaded in lines}


@pytest.mark.parametrize("name", [name for name, _, _ in SCRIPTS])
def test_help_version_and_completion_answer_and_load_nothing_heavy(
    name: str, started: dict[str, tuple[list[str], list[str]]]
) -> None:
    assert started[name] == ([], [])

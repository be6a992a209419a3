"""The program `mrnn` has every command, says what each does, and imports only the one that is used."""

import configparser
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from mrnn.data.commands import COMMANDS, load, main

ROOT = Path(__file__).resolve().parents[2]


def test_every_console_script_is_a_subcommand() -> None:
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    lines = config["options.entry_points"]["console_scripts"].strip().splitlines()
    targets = {line.partition("=")[2].strip() for line in lines}
    assert targets == {target for target, _ in COMMANDS.values()} | {"mrnn.data.commands:main"}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_summary_is_the_first_sentence_of_the_command(name: str) -> None:
    assert COMMANDS[name][1] == load(name).get_short_help_str(limit=1000)


def test_help_lists_all_with_whole_summaries() -> None:
    result = CliRunner().invoke(main, ["--help"])
    listed = " ".join(result.output.split())
    assert result.exit_code == 0
    assert all(f" {name} {summary}" in listed for name, (_, summary) in COMMANDS.items())


def test_a_subcommand_runs_as_its_script_does(tmp_path: Path) -> None:
    through_mrnn = CliRunner().invoke(main, ["inspect", str(tmp_path / "none.h5")])
    alone = CliRunner().invoke(load("inspect"), [str(tmp_path / "none.h5")])
    assert through_mrnn.exit_code == alone.exit_code == 1
    assert through_mrnn.output == alone.output
    assert "mrnn inspect [OPTIONS] FILE" in CliRunner().invoke(main, ["inspect", "-h"], prog_name="mrnn").output


def test_an_unknown_subcommand_is_wrong_usage() -> None:
    result = CliRunner().invoke(main, ["no-such"])
    assert result.exit_code == 2
    assert "no-such" in result.output


def complete(words: str) -> list[str]:
    """What bash offers for the last word."""
    context = {"COMP_WORDS": words, "COMP_CWORD": str(len(words.split(" ")) - 1), "_MRNN_COMPLETE": "bash_complete"}
    result = CliRunner().invoke(main, env=context, prog_name="mrnn")
    return [line.partition(",")[2] for line in result.output.splitlines()]


def test_completion_knows_subcommands_options_and_choices() -> None:
    assert complete("mrnn compare-") == ["compare-results", "compare-runs"]
    assert complete("mrnn extract --over") == ["--overwrite"]
    assert complete("mrnn extract --dataset flickr") == ["flickr8k", "flickr30k", "flickr30k-entities"]


def test_python_runs_the_program_as_a_module() -> None:
    child = [sys.executable, "-m", "mrnn.data.commands", "merge", "--help"]
    finished = subprocess.run(child, capture_output=True, text=True, check=True)
    assert finished.stdout.startswith("Usage: mrnn merge ")


def test_every_subcommand_is_a_plain_command() -> None:
    assert all(isinstance(load(name), click.Command) and not isinstance(load(name), click.Group) for name in COMMANDS)

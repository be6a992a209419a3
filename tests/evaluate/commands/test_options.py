"""What the commands of evaluate/ have in common: a fast start, and options made from settings."""

import importlib
import subprocess
import sys
from dataclasses import fields

import click
import pytest
from click.testing import CliRunner

from mrnn.evaluate.commands.options import config_from, some_of
from mrnn.evaluate.settings import DecodingConfig, RetrievalConfig

MODULES = ("evaluate", "caption", "search", "baselines", "agreement", "compare_results", "score_captions")
HEAVY = ("torch", "torchvision", "h5py")


def main_of(module: str) -> click.Command:
    return importlib.import_module(f"mrnn.evaluate.commands.{module}").main


@pytest.mark.parametrize("module", MODULES)
def test_help_version_and_completion_load_neither_torch_nor_h5py(module: str) -> None:
    name = main_of(module).name
    assert name is not None
    variable = f"_{name.upper().replace('-', '_')}_COMPLETE"
    code = f"""
import contextlib, os, sys
from mrnn.evaluate.commands.{module} import main
def run(*words):
    with contextlib.suppress(SystemExit):
        main(list(words), prog_name={name!r})
run("--help"), run("-h"), run("--version")
os.environ |= {{"{variable}": "bash_complete", "COMP_WORDS": "{name} --", "COMP_CWORD": "1"}}
run()
sys.exit(f"loaded: {{[name for name in {HEAVY} if name in sys.modules]}}")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr == "loaded: []\n"
    assert done.stdout.count("Example:") == 2
    assert f"{name}, version " in done.stdout
    assert "plain,--debug" in done.stdout


@pytest.mark.parametrize("module", MODULES)
def test_every_option_says_what_it_does(module: str) -> None:
    for option in (each for each in main_of(module).params if isinstance(each, click.Option)):
        assert option.help, option.name
        assert not option.help.startswith("Of "), option.help
        assert option.help.rstrip("]").endswith((".", "]")) or "[default" in option.help, option.help


@pytest.mark.parametrize(
    ("module", "config", "without"),
    [
        ("evaluate", DecodingConfig, {"suppress_unknown"}),
        ("evaluate", RetrievalConfig, set()),
        ("caption", DecodingConfig, {"suppress_unknown"}),
    ],
)
def test_options_have_the_defaults_of_the_settings(module: str, config: type, without: set[str]) -> None:
    options = {each.name: each for each in main_of(module).params}
    names = {field.name for field in fields(config)} - without
    assert {name: options[name].default for name in names} == {name: getattr(config(), name) for name in names}


def test_settings_from_options() -> None:
    given = {"beam": 3, "max_steps": 7, "features": "feats.h5"}
    assert config_from(DecodingConfig, given, seed=4) == DecodingConfig(beam=3, max_steps=7, seed=4)


def test_a_list_of_names_is_in_the_known_order() -> None:
    command = click.Command(
        "chosen", callback=print, params=[click.Option(["--only"], callback=some_of(("a", "b", "c")), default="c, a")]
    )
    context = command.make_context("chosen", [])
    assert context.params["only"] == ("a", "c")
    done = CliRunner().invoke(command, ["--only", "a,d"])
    assert done.exit_code == 2
    assert "some of a, b, c" in done.output

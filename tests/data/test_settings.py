"""Settings declared once: their checks and their options agree."""

from dataclasses import dataclass
from typing import Any

import click
import pytest
from click.testing import CliRunner

from mrnn.data.command import command, setting_options
from mrnn.data.settings import check_settings, setting


@dataclass(frozen=True)
class Config:
    size: int = setting(3, "Images per batch.", at_least=1)
    rate: float = setting(0.5, "Learning rate.", above=0)
    share: float = setting(0.0, "Fraction dropped.", at_least=0, below=1)
    mode: str = setting("fast", "How.", choices=("fast", "slow"))
    graphs: bool = setting(True, "Use graphs.")
    limit: int | None = setting(None, "Most images; all by default.", kind=int, at_least=1)
    other: str = "no setting"

    def __post_init__(self) -> None:
        check_settings(self)


WRONG = [
    ("size", 0, "size must be at least 1, not 0"),
    ("rate", 0.0, "rate must be above 0, not 0.0"),
    ("rate", float("nan"), "rate must be above 0, not nan"),
    ("share", 1.0, r"share must lie in \[0, 1\), not 1.0"),
    ("mode", "odd", "mode must be one of fast, slow, not 'odd'"),
    ("limit", 0, "limit must be at least 1, not 0"),
]


@pytest.mark.parametrize(("name", "value", "message"), WRONG)
def test_a_dataclass_checks_itself(name: str, value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Config(**{name: value})


@command("try-it", epilog="Example: try-it")
@setting_options(Config, leave_out=["size"])
def try_it(**values: Any) -> None:
    click.echo(repr(Config(**values)))


def test_the_options_have_the_defaults_and_the_bounds_of_the_fields() -> None:
    assert CliRunner().invoke(try_it).output == f"{Config()!r}\n"
    found = CliRunner().invoke(try_it, ["--mode", "slow", "--no-graphs", "--limit", "7", "--share", "0.25"])
    assert found.output == f"{Config(mode='slow', graphs=False, limit=7, share=0.25)!r}\n"
    for name, value, _ in WRONG:
        if name != "size" and value == value:
            assert CliRunner().invoke(try_it, [f"--{name}", str(value)]).exit_code == 2, name


def test_help_shows_texts_defaults_and_the_common_options() -> None:
    text = " ".join(CliRunner().invoke(try_it, ["-h"]).output.split())
    assert "Learning rate. [default: 0.5; x>0]" in text
    assert "Most images; all by default. [x>=1]" in text
    assert all(flag in text for flag in ("--debug", "--version", "-h, --help", "Example: try-it"))
    assert "--size" not in text
    assert "version" in CliRunner().invoke(try_it, ["--version"]).output

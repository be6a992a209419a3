"""--config: values by the names of options, from TOML or the config.json of a run."""

import json
import subprocess
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from mrnn.data.command import command
from mrnn.data.config_file import command_line, config_option
from mrnn.evaluate.commands.evaluate import main as evaluate_main
from mrnn.train.cli import main as train_main


@command("toy")
@config_option
@click.option("--features", required=True)
@click.option("--batch-size", type=click.IntRange(min=1), default=100)
@click.option("--lr", type=float, default=0.1)
@click.option("--graphs/--no-graphs", default=True)
@click.option("--checkpoint", "checkpoints", multiple=True)
@click.option("--combine", multiple=True, nargs=2)
def toy(**values: object) -> None:
    """Print what it was given."""
    click.echo(json.dumps(values))


def run(file: Path, content: str, *words: str) -> Result:
    file.write_text(content)
    return CliRunner().invoke(toy, ["--config", str(file), *words])


def test_a_file_gives_options_of_every_kind(tmp_path: Path) -> None:
    text = """
        features = "feats.h5"     # required, and here
        batch-size = 7
        lr = 1e-3
        graphs = false
        checkpoint = ["a", "b"]
        combine = [["c", "c.h5"], ["d", "d.h5"]]
    """
    done = run(tmp_path / "toy.toml", text)
    assert json.loads(done.stdout) == {
        "features": "feats.h5",
        "batch_size": 7,
        "lr": 1e-3,
        "graphs": False,
        "checkpoints": ["a", "b"],
        "combine": [["c", "c.h5"], ["d", "d.h5"]],
    }


def test_the_command_line_wins_whatever_the_order(tmp_path: Path) -> None:
    done = run(tmp_path / "a.toml", 'features = "x"\nlr = 2\ncheckpoint = "one"', "--lr", "3", "--checkpoint", "two")
    values = json.loads(done.stdout)
    assert (values["lr"], values["checkpoints"], values["features"]) == (3.0, ["two"], "x")
    done = CliRunner().invoke(toy, ["--lr", "3", "--features", "y", "--config", str(tmp_path / "a.toml")])
    assert json.loads(done.stdout)["lr"] == 3.0


def test_settings_of_a_run_are_options(tmp_path: Path) -> None:
    content = json.dumps(
        {"settings": {"batch_size": 3, "lr": 0.5, "graphs": None}, "features": {"backbone": "alexnet"}}
    )
    done = run(tmp_path / "config.json", content, "--features", "f.h5")
    assert json.loads(done.stdout) == {
        "features": "f.h5",
        "batch_size": 3,
        "lr": 0.5,
        "graphs": True,
        "checkpoints": [],
        "combine": [],
    }


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("batchsize = 3", "toy has no option 'batchsize'; did you mean batch-size?"),
        ("config = 'other.toml'", "toy has no option 'config'"),
        ("debug = true", "toy has no option 'debug'"),
        ("lr = ", "is not TOML"),
        ("lr = [1]", "lr must be a text or a number"),
        ("lr = true", "lr must be no truth value"),
        ("graphs = 'no'", "graphs must be true or false"),
        ("[train]\nlr = 1", "toy has no option 'train'"),
        ("combine = ['a', 'b']", "combine must be a list of lists of 2 values"),
        ("batch-size = 0", "0 is not in the range x>=1"),
        ("batch-size = 2.5", "'2.5' is not a valid integer"),
        ("lr = 2020-01-01", "lr must be a text or a number"),
    ],
)
def test_what_a_file_cannot_say(tmp_path: Path, content: str, message: str) -> None:
    done = run(tmp_path / "toy.toml", content, "--features", "f")
    assert done.exit_code == 2
    assert message in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    for name, content, message in (
        ("a.json", "{", "is not JSON"),
        ("b.json", "[1]", "must hold one object"),
        ("c.json", "[" * 100_000, "is not JSON"),
    ):
        assert message in " ".join(run(tmp_path / name, content).stderr.split())
    (tmp_path / "d.toml").write_bytes(b"\xff\xfe")
    for name, message in (("d.toml", "is not TOML"), ("none.toml", "No such file"), (".", "Is a directory")):
        done = CliRunner().invoke(toy, ["--config", str(tmp_path / name)])
        assert done.exit_code == 2
        assert message in " ".join(done.stderr.split())


@pytest.mark.parametrize("main", [train_main, evaluate_main])
def test_train_and_evaluate_take_a_file(main: click.Command, tmp_path: Path) -> None:
    (tmp_path / "none.toml").write_text("no-such-option = 1")
    done = CliRunner().invoke(main, ["--config", str(tmp_path / "none.toml")])
    assert f"{main.name} has no option 'no-such-option'" in " ".join(done.stderr.split())


def test_the_command_line_is_described_with_its_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.setattr("sys.argv", ["train-mrnn", "--lr", "1"])
    assert command_line() == {"argv": ["train-mrnn", "--lr", "1"], "folder": str(tmp_path)}
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
    (tmp_path / "file").write_text("one")
    for words in (["init", "-q"], ["add", "file"], ["commit", "-qm", "one"]):
        subprocess.run([*git, *words], check=True)
    commit = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    assert command_line()["git"] == {"commit": commit, "changed": False}
    (tmp_path / "file").write_text("two")
    assert command_line()["git"] == {"commit": commit, "changed": True}
    monkeypatch.setenv("PATH", "")
    assert "git" not in command_line()

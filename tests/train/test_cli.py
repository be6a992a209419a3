import json
import os
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from mrnn.data.cache import FeatureCache
from mrnn.data.settings import declared_settings
from mrnn.train.checkpoint import load_trained
from mrnn.train.cli import main
from mrnn.train.models import KINDS
from mrnn.train.settings import RunOptions, TrainSettings

TINY = (
    "--epochs 1 --batch-size 32 --cutoff 2 --embedding1 6 --embedding2 8 --recurrent 8 --multimodal 12 --no-tensorboard"
)


def test_every_setting_has_an_option_with_its_default_and_its_text() -> None:
    parameters = {parameter.name: parameter for parameter in main.params}
    for config in (TrainSettings, RunOptions):
        for name, default, declared in declared_settings(config):
            by_kind = any(name in kind.defaults for kind in KINDS.values())
            assert parameters[name].default == (None if by_kind else default)
            assert parameters[name].help.startswith(declared.help) if by_kind else declared.help
    for kind in KINDS.values():
        for name, default, declared in declared_settings(kind.config):
            assert parameters[name].default is None  # it depends on the kind, and the help says how
            assert parameters[name].help.startswith(declared.help)
            assert str(default) in parameters[name].help
        for name, default in kind.defaults.items():
            assert str(default) in parameters[name].help


def test_no_setting_of_training_is_a_models_own() -> None:
    general = {name for name, _, _ in declared_settings(TrainSettings)}
    assert all(not general & kind.settings() for kind in KINDS.values())


def test_help_ends_with_an_example() -> None:
    result = CliRunner().invoke(main, ["--help"])
    assert result.exit_code == 0
    assert "train-mrnn --features feats.h5" in result.output


def test_trains_into_the_default_folder_and_finishes_once(
    cache: FeatureCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    command = ["--features", str(cache.path), *TINY.split()]
    first = CliRunner().invoke(main, command, catch_exceptions=False)
    assert first.exit_code == 0
    assert "epoch 1 of 1: train" in first.output
    assert load_trained(tmp_path / "runs" / "feats-mrnn").progress["epoch"] == 1
    second = CliRunner().invoke(main, command)
    assert second.exit_code == 0
    assert "nothing to do" in second.output
    changed = CliRunner().invoke(main, [*command, "--lr", "0.5"])
    assert changed.exit_code == 1
    assert "lr 0.002, now 0.5" in changed.output
    stopped = CliRunner().invoke(main, [*command, "--overwrite", "--time-limit", "0"])
    assert stopped.exit_code == 75


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("--embedding2 100", "as wide as the recurrent layer"),
        ("--embedding1 0 --embedding2 100", "as wide as the recurrent layer"),
        ("--recurrence rnn", "'lstm'"),
        ("--image-into both", "image_into is not a setting of mrnn"),
        ("--model mrnn-image-recurrent --image-into both-shared --multimodal 100", "at least as wide as the second"),
        ("--model generator --share-words", "share_words is not a setting of generator"),
        ("--dropout 1.5", "--dropout"),
        ("--model lstm", "'rnn-base'"),
        ("--optimiser newton", "'rmsprop'"),
        ("--model generator --multimodal 9", "multimodal is not a setting of generator"),
        ("--hidden 9", "hidden is not a setting of mrnn"),
        ("--model transformer --heads 3", "width (256) must be a multiple of heads (3)"),
        ("--model lbl --image-dropout 0.5", "image_dropout is not a setting of lbl"),
        ("--save-every often", "save_every must be like 5m"),
        ("--lr 0", "0.0 is not in the range x>0"),
        ("--epochs 0", "0 is not in the range x>=1"),
    ],
)
def test_wrong_settings_are_usage_errors(arguments: str, says: str) -> None:
    result = CliRunner().invoke(main, ["--features", "feats.h5", *arguments.split()])
    assert result.exit_code == 2
    assert says in result.output


def test_a_missing_cache_is_one_line(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["--features", str(tmp_path / "none.h5")])
    assert result.exit_code == 1
    assert len(result.output.splitlines()) == 1
    assert "extract-features" in result.output


def test_bf16_needs_a_gpu(cache: FeatureCache, tmp_path: Path) -> None:
    command = ["--features", str(cache.path), "--output", str(tmp_path), "--device", "cpu", "--precision", "bf16"]
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 1
    assert "for GPUs" in result.output


def test_a_refused_run_leaves_nothing_behind_and_loses_nothing(cache: FeatureCache, tmp_path: Path) -> None:
    command = ["--features", str(cache.path), *TINY.split(), "--output"]
    refused = CliRunner().invoke(main, [*command, str(tmp_path / "deep" / "none"), "--init-from", str(tmp_path)])
    assert refused.exit_code == 1
    assert not (tmp_path / "deep" / "none").exists()
    (tmp_path / "mine").mkdir()
    assert CliRunner().invoke(main, [*command, str(tmp_path / "mine"), "--init-from", str(tmp_path)]).exit_code == 1
    assert (tmp_path / "mine").is_dir(), "a folder that was there stays"

    run = tmp_path / "run"
    assert CliRunner().invoke(main, [*command, str(run)]).exit_code == 0
    before = {file.name: file.read_bytes() for file in run.iterdir()}
    again = [*command, str(run), "--overwrite", "--init-from", str(tmp_path)]
    assert CliRunner().invoke(main, again).exit_code == 1
    assert {file.name: file.read_bytes() for file in run.iterdir()} == before


def test_a_run_repeats_from_its_own_config(cache: FeatureCache, tmp_path: Path) -> None:
    command = ["--features", str(cache.path), *TINY.split(), "--seed", "3", "--output", str(tmp_path / "one")]
    assert CliRunner().invoke(main, command, catch_exceptions=False).exit_code == 0
    written = json.loads((tmp_path / "one" / "config.json").read_text())
    assert written["command"]["folder"] == os.getcwd()
    again = ["--config", str(tmp_path / "one" / "config.json"), "--features", str(cache.path), "--no-tensorboard"]
    done = CliRunner().invoke(main, [*again, "--output", str(tmp_path / "two")], catch_exceptions=False)
    assert done.exit_code == 0
    one, two = (load_trained(tmp_path / name).model.state_dict() for name in ("one", "two"))
    assert all(torch.equal(one[name], two[name]) for name in one)

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from mrnn.data.cache import FeatureCache
from mrnn.data.errors import SettingError
from mrnn.train.cli import main
from mrnn.train.models import KINDS
from mrnn.train.presets import PRESETS, as_options
from mrnn.train.settings import TrainSettings

ROOT = Path(__file__).resolve().parents[2]
TINY = "--embedding1 6 --embedding2 8 --recurrent 8 --multimodal 12 --cutoff 2 --batch-size 32 --no-tensorboard"


def test_paper_is_the_defaults() -> None:
    assert TrainSettings.of(preset="paper") == TrainSettings.of() == TrainSettings()
    for name in KINDS:
        assert TrainSettings.of(model=name, preset="paper") == TrainSettings.of(model=name)


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_its_settings_and_its_name(name: str) -> None:
    spelled = TrainSettings.of(**PRESETS[name]).flat()
    assert TrainSettings.of(preset=name).flat() == spelled | {"preset": name}
    assert set(PRESETS[name]) <= spelled.keys() - {"preset", "model"}


@pytest.mark.parametrize("name", PRESETS)
def test_given_settings_override_a_preset(name: str) -> None:
    given = {"recurrence": "gru", "epochs": 3, "dropout": 0.0}
    settings = TrainSettings.of(preset=name, **given).flat()
    assert settings.items() >= given.items()
    assert settings.items() >= {**PRESETS[name], **given}.items()
    assert TrainSettings.of(preset=name).but(lr=0.5).flat() == TrainSettings.of(preset=name, lr=0.5).flat()


def test_presets_are_for_m_rnn() -> None:
    with pytest.raises(SettingError, match="preset best is for mrnn, not alignment"):
        TrainSettings.of(model="alignment", preset="best")
    with pytest.raises(SettingError, match="preset must be one of paper, retrieval, best, not 'worst'"):
        TrainSettings.of(preset="worst")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("", {"preset": "paper", "recurrence": "plain", "lr": 2e-3, "dropout": 0.2}),
        ("--preset best", {"preset": "best", "recurrence": "lstm", "lr": 1e-3, "dropout": 0.3, "image_dropout": 0.7}),
        ("--preset retrieval", {"preset": "retrieval", "label_smoothing": 0.1, "recurrence": "plain"}),
        # Options that equal a default are given all the same.
        ("--preset best --lr 2e-3 --dropout 0.2", {"lr": 2e-3, "dropout": 0.2, "recurrence": "lstm"}),
    ],
)
def test_the_command_records_what_it_trains_with(
    arguments: str, expected: dict[str, Any], cache: FeatureCache, tmp_path: Path
) -> None:
    command = ["--features", str(cache.path), "--output", str(tmp_path), *TINY.split(), *arguments.split()]
    assert CliRunner().invoke(main, [*command, "--epochs", "1"], catch_exceptions=False).exit_code == 0
    settings = json.loads((tmp_path / "config.json").read_text())["settings"]
    assert settings.items() >= {**expected, "epochs": 1, "embedding2": 8}.items()


@pytest.mark.parametrize("name", PRESETS)
def test_help_and_documentation_tell_what_is_in_a_preset(name: str) -> None:
    help_text = CliRunner().invoke(main, ["--help"]).output
    options = as_options(PRESETS[name])
    assert options in " ".join(help_text.split())
    assert f"| `{name}` | {f'`{options}`' if options else 'none'} |" in (ROOT / "docs" / "training.md").read_text()


def test_settings_as_options() -> None:
    assert as_options({"lr": 0.5, "share_words": True, "word_path": False}) == "--lr 0.5 --share-words --no-word-path"

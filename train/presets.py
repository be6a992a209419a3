"""The presets of `train-mrnn --preset`: named settings of m-RNN, each of which an explicit option overrides.

docs/training.md describes them.
"""

from collections.abc import Mapping
from typing import Any

# Settings that differ from the defaults, which are those of TrainSettings and of MRNNConfig.
PRESETS: dict[str, dict[str, Any]] = {
    "paper": {},
    "retrieval": {"label_smoothing": 0.1},
    "best": {
        "recurrence": "lstm",
        "embedding1": 256,
        "embedding2": 512,
        "recurrent": 512,
        "epochs": 12,
        "lr": 1e-3,
        "dropout": 0.3,
        "image_dropout": 0.7,
    },
}
MODEL = "mrnn"  # whose presets these are; every model has "paper", its defaults


def as_options(settings: Mapping[str, Any]) -> str:
    """Settings as options of train-mrnn."""
    options = []
    for name, value in settings.items():
        flag = name.replace("_", "-")
        options.append(f"--{'' if value else 'no-'}{flag}" if isinstance(value, bool) else f"--{flag} {value}")
    return " ".join(options)

"""Runs side by side: in which settings they differ, and what came of it; from config.json and metrics.jsonl alone.

Free of torch, so that the answer is there at once, also while the runs are still going on.
"""

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mrnn.data.settings import FEATURE_SETTINGS
from mrnn.train.measures import BITS, PERPLEXITY, Cost, Criterion, measures_of
from mrnn.train.run_files import CONFIG, METRICS, DamagedLog, read_log

FEATURES_COMPARED = ("dataset", "annotation_sha256", "limit", "dtype", *FEATURE_SETTINGS)


@dataclass(frozen=True)
class Epoch:
    """A finished epoch.

    number : from 1. cost : per unit, in training mode. value : of the run's criterion. seconds : spent on training,
    without validation.
    """

    number: int
    cost: float
    value: float
    seconds: float


@dataclass(frozen=True)
class Run:
    """What a run folder says of itself.

    state : 'finished', 'epoch 3 of 20', or what is wrong with the folder.
    settings : those of the run and, with 'features ' before their names, those of its feature cache.
    epochs, steps : what it has finished.
    speed : units per second, the median over the logged steps; None if there is none.
    criterion, cost : what the best epoch is chosen by, and what is minimised.
    """

    path: Path
    state: str
    settings: dict[str, Any] = field(default_factory=dict)
    epochs: tuple[Epoch, ...] = ()
    steps: int = 0
    speed: float | None = None
    criterion: Criterion = PERPLEXITY
    cost: Cost = BITS

    @property
    def best(self) -> Epoch | None:
        """The epoch with the best value of the criterion (the first such), or None if there is none yet."""
        finite = [epoch for epoch in self.epochs if math.isfinite(epoch.value)]
        return min(finite, key=lambda epoch: self.criterion.order(epoch.value), default=None)

    @property
    def seconds(self) -> float:
        """Seconds of training over all finished epochs."""
        return sum(epoch.seconds for epoch in self.epochs)


def read_run(path: str | Path) -> Run:
    """Read a run folder, finished or not; one that cannot be read has no settings, and its state says why."""
    path = Path(path)
    try:
        config = json.loads((path / CONFIG).read_text())
        settings = _settings(config["settings"], config["features"])
        criterion, cost = measures_of(config)
        log = read_log(path)
    except FileNotFoundError as error:
        return Run(path, f"no {Path(error.filename).name}")
    except OSError as error:
        return Run(path, error.strerror or "cannot be read")
    except DamagedLog as error:
        return Run(path, str(error))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return Run(path, f"{CONFIG} is damaged")
    epochs: list[Epoch] = []
    speeds: list[float] = []
    steps = 0
    for number, record in enumerate(log, start=1):
        try:
            steps = int(record["step"])
            if record["kind"] == "epoch":
                values = (float(record[name]) for name in (f"train_{cost.key}", criterion.key, "seconds"))
                epochs.append(Epoch(int(record["epoch"]), *values))
            else:
                speeds.append(float(record[f"{cost.unit}_per_s"]))
        except (ValueError, KeyError, TypeError, OverflowError):
            return Run(path, f"{METRICS}, line {number}, is damaged")
    speed = statistics.median(speeds) if speeds else None
    run = Run(path, "", settings, tuple(epochs), steps, speed, criterion, cost)
    return replace(run, state=_state(run))


def differing(runs: Sequence[Run]) -> list[str]:
    """Names of the settings that are not the same in all runs that could be read."""
    read = [run.settings for run in runs if run.settings]
    names = dict.fromkeys(name for settings in read for name in settings)
    return [name for name in names if any(settings.get(name) != read[0].get(name) for settings in read)]


def ranked(runs: Sequence[Run]) -> list[Run]:
    """By the best value of their criterion; runs without one come last, in the order given."""
    return sorted(runs, key=lambda run: run.criterion.order(run.best.value if run.best else None))


def by_criterion(runs: Sequence[Run]) -> list[list[Run]]:
    """Runs that are judged by the same number together, in the order of the first of each."""
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(run.criterion.key, []).append(run)
    return [*groups.values()]


def names_of(runs: Sequence[Run]) -> list[str]:
    """The folders without the path that all have in common."""
    if len(runs) == 1:
        return [runs[0].path.name or str(runs[0].path)]
    parts = [run.path.absolute().parts for run in runs]
    shared = 0
    while all(len(part) > shared + 1 and part[shared] == parts[0][shared] for part in parts):
        shared += 1
    return [str(Path(*part[shared:])) for part in parts]


def _settings(own: Mapping[str, Any], features: Mapping[str, Any]) -> dict[str, Any]:
    settings = dict(own)
    for name in FEATURES_COMPARED:
        value = features.get(name)
        parts = {name: value}
        if name == "preprocessing" and isinstance(value, str) and value.startswith("{"):
            parts = json.loads(value)
        settings |= {f"features {key}": part for key, part in parts.items()}
    return settings


def _state(run: Run) -> str:
    if not run.epochs:
        return f"step {run.steps}, no epoch yet"
    last, wanted, patience = run.epochs[-1].number, run.settings.get("epochs"), run.settings.get("patience") or 0
    best = run.best.number if run.best else 0
    if last == wanted:
        return "finished"
    return f"finished early, at epoch {last}" if patience and last - best >= patience else f"epoch {last} of {wanted}"

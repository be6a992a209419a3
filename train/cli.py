"""train-mrnn: train a model on a feature cache."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from textwrap import fill
from typing import Any

import click
from click.core import ParameterSource

from mrnn.data.command import command, setting_option, setting_options
from mrnn.data.config_file import command_line, config_option
from mrnn.data.options import allow_partial_option, features_option, output_option, overwrite_option
from mrnn.data.settings import Declared, declared_settings
from mrnn.train.models import KINDS
from mrnn.train.presets import PRESETS, as_options
from mrnn.train.settings import RunOptions, TrainSettings

DIFFERING = frozenset(name for kind in KINDS.values() for name in kind.defaults)  # settings with defaults by kind


STANDS_FOR = "\n".join(
    f"--preset {name} stands for:\n"
    + fill(as_options(settings), 78, initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False)
    for name, settings in PRESETS.items()
    if settings
)
EPILOG = f"""\b
{STANDS_FOR}

\b
Example:
  extract-features --dataset flickr8k
  train-mrnn --features feats.h5 --epochs 15

The run folder is then runs/feats-mrnn. It holds config.json, metrics.jsonl (a line every --log-every steps and one per
epoch), checkpoint_best.pt and checkpoint_last.pt. If training is stopped or killed, the same command resumes it;
settings that alter the result must be the same. Exit code 75: stopped on request with everything saved; run it again.
If torchrun starts the command, or srun as in jobs/train.sbatch, several processes divide every batch among them."""


def options_by_kind(function: Callable[..., None]) -> Callable[..., None]:
    """An option for every setting that is a model's own, or whose default depends on the kind of model.

    Where it is not given it is None; the help text says which kind has which default.
    """
    users: dict[str, dict[str, Any]] = {}  # the defaults of a setting by kind
    texts: dict[str, Declared] = {}
    for kind, described in KINDS.items():
        for name, default, declared in declared_settings(described.config):
            users.setdefault(name, {})[kind] = default
            texts.setdefault(name, declared)
        for name, default, declared in declared_settings(TrainSettings):
            if name in DIFFERING:
                users.setdefault(name, {})[kind] = described.defaults.get(name, default)
                texts.setdefault(name, declared)
    for name, defaults in reversed(users.items()):
        told = replace(texts[name], help=f"{texts[name].help}  [default: {in_words(defaults)}]")
        function = setting_option(name, any(defaults.values()), told, unset=True)(function)
    return function


def in_words(defaults: dict[str, Any]) -> str:
    """The default of a setting, by kind of model where it is not one for all. defaults : by kind."""
    kinds: dict[Any, list[str]] = {}
    for kind, default in defaults.items():
        kinds.setdefault("none" if default == "" else default, []).append(kind)
    if len(kinds) == 1 and len(defaults) == len(KINDS):
        return str(next(iter(kinds)))
    return "; ".join(f"{default} for {', '.join(names)}" for default, names in kinds.items())


@command("train-mrnn", epilog=EPILOG)
@config_option
@features_option
@output_option("Run folder to write.  [default: runs/CACHE-MODEL]")
@setting_options(TrainSettings, leave_out=DIFFERING)
@options_by_kind
@setting_options(RunOptions)
@click.option("--time-limit", type=click.FloatRange(min=0), help="Save and stop after this many minutes.")
@overwrite_option
@allow_partial_option
def main(
    features: Path, output: Path | None, allow_partial: bool, time_limit: float | None, overwrite: bool, **values: Any
) -> None:
    """Train a model on a feature cache, or resume a run."""
    from mrnn.data.cache import open_cache
    from mrnn.data.stopping import stop_on_signals
    from mrnn.train.loop import train

    names = [name for name, _, _ in declared_settings(RunOptions)]
    options = RunOptions(**{name: values.pop(name) for name in names}, overwrite=overwrite)
    source = click.get_current_context().get_parameter_source
    given = {name: value for name, value in values.items() if source(name) is not ParameterSource.DEFAULT}
    settings = TrainSettings.of(**given)  # a default must not override a preset
    cache = open_cache(features, allow_partial=allow_partial)
    folder = output or Path("runs") / f"{features.stem}-{settings.model}"
    with stop_on_signals(time_limit=None if time_limit is None else time_limit * 60) as stop:
        train(cache, folder, settings, options=options, stop=stop, report=click.echo, command=command_line())


if __name__ == "__main__":
    main()

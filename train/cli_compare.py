"""compare-runs: training runs side by side."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from mrnn.data.command import command
from mrnn.data.errors import CheckpointError
from mrnn.data.options import json_option
from mrnn.data.outputs import OutputFile, is_marked
from mrnn.train.comparison import Run, by_criterion, differing, names_of, ranked, read_run
from mrnn.train.learning_curves import TITLE, draw_curves

WIDTH = 140  # of a line


EPILOG = """\b
Example:
  compare-runs runs/feats-mrnn runs/feats-rnn-base --figure curves.png"""


@command("compare-runs", epilog=EPILOG)
@click.argument("folders", metavar="RUN...", nargs=-1, required=True, type=click.Path(path_type=Path))
@json_option
@click.option(
    "--figure",
    type=OutputFile("a figure of learning curves", is_marked(TITLE)),
    help="Draw the learning curves (.png, .svg or .pdf).",
)
def main(folders: tuple[Path, ...], as_json: bool, figure: Path | None) -> None:
    """Compare training runs: the settings in which they differ, and their results, the best first.

    Runs whose best epoch is chosen by different numbers (dev perplexity, recalls) are in tables of their own. Runs may
    still be under way. Seconds are those of training; words/s is the median over the logged steps. With
    --json, all settings and curves are printed.
    """
    groups = [ranked(group) for group in by_criterion([read_run(folder) for folder in dict.fromkeys(folders)])]
    runs = [run for group in groups for run in group]
    if not any(run.settings for run in runs):
        raise CheckpointError(
            "; ".join(f"{run.path}: {run.state}" for run in runs) + "; give run folders that train-mrnn wrote"
        )
    if figure is not None:
        draw_curves(figure, runs, labels=_labels(runs, differing(runs)))
    if as_json:
        click.echo(json.dumps(summary(runs), indent=2))
    else:
        click.echo("\n\n".join(_table(group, differing(group)) for group in groups))


def summary(runs: Sequence[Run]) -> dict[str, Any]:
    """What `compare-runs --json` prints; `best_val_perplexity` (or what the run is judged by) and `best_epoch` are null
    before the first epoch."""
    return {
        "differing": differing(runs),
        "runs": [
            {
                "run": str(run.path),
                "state": run.state,
                f"best_{run.criterion.key}": run.best.value if run.best else None,
                "best_epoch": run.best.number if run.best else None,
                "steps": run.steps,
                "seconds": run.seconds,
                f"{run.cost.units}_per_second": run.speed,
                "settings": run.settings,
                "curve": [
                    {
                        "number": epoch.number,
                        f"train_{run.cost.key}": epoch.cost,
                        run.criterion.key: epoch.value,
                        "seconds": epoch.seconds,
                    }
                    for epoch in run.epochs
                ],
            }
            for run in runs
        ],
    }


def _table(runs: Sequence[Run], names: Sequence[str]) -> str:
    """Results and settings in columns; settings that do not fit beside the results stand below, a row each."""
    folders = names_of(runs)
    criterion, cost = runs[0].criterion, runs[0].cost
    rows = [["run", criterion.label, "epoch", "steps", "seconds", f"{cost.units}/s", "state"]]
    for run, folder in zip(runs, folders, strict=True):
        results = [f"{run.best.value:.3f}", str(run.best.number)] if run.best else ["-", "-"]
        effort = [str(run.steps), f"{run.seconds:.0f}"] if run.settings else ["-", "-"]
        speed = "-" if run.speed is None else f"{run.speed:.0f}"
        rows.append([folder, *results, *effort, speed, run.state])
    columns = [[name, *(_setting(run, name) for run in runs)] for name in names]
    wide = _aligned([[*row[:-1], *cells, row[-1]] for row, *cells in zip(rows, *columns, strict=True)])
    if len(wide.partition("\n")[0]) <= WIDTH:
        return wide
    return f"{_aligned(rows)}\n\n{_aligned([['setting', *folders], *columns])}"


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    """Rows in columns, the first and last flush left."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for first, *middle, last in rows:
        cells = [cell.rjust(width) for cell, width in zip(middle, widths[1:-1], strict=True)]
        lines.append("  ".join([first.ljust(widths[0]), *cells, last]))
    return "\n".join(lines)


def _labels(runs: Sequence[Run], names: Sequence[str]) -> dict[Path, str]:
    """For each run the settings in which it differs; its folder where these are many, or another run's too."""
    texts = [", ".join(f"{name} {_setting(run, name)}" for name in names) for run in runs]
    told = texts.count("") == 0 and max(map(len, texts)) <= WIDTH // 2
    folders = names_of(runs)
    return {
        run.path: text if told and texts.count(text) == 1 else f"{folder}: {text}" if told else folder
        for run, folder, text in zip(runs, folders, texts, strict=True)
    }


def _setting(run: Run, name: str) -> str:
    return _shown(run.settings[name]) if name in run.settings else "-"


def _shown(value: Any) -> str:
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return text[:12] if re.fullmatch("[0-9a-f]{64}", text) else text or '""'

"""The files of a run folder: their names, and one reader of the training log. Free of torch."""

import json
from collections.abc import Iterable, Mapping
from math import isfinite
from pathlib import Path
from typing import Any

CONFIG = "config.json"  # settings of the run and provenance of its features
METRICS = "metrics.jsonl"  # the training log: one record per logged step and per epoch
LOCK = ".lock"  # held by the process that trains
LAST, PREVIOUS, BEST = "checkpoint_last.pt", "checkpoint_previous.pt", "checkpoint_best.pt"


class DamagedLog(ValueError):
    """A line of metrics.jsonl cannot be read; the message names the line."""


def read_log(run: Path, *, lenient: bool = False) -> list[dict[str, Any]]:
    """The records of a run's metrics.jsonl, in order: those of kind 'step' and of kind 'epoch'.

    lenient : for drawings. A missing file gives [] and damaged lines are left out.

    A last line without its newline is left out: it is still being written, or a kill cut it and the resumed run writes
    it again. Without `lenient` every other line has a record, so line numbers are places in the list plus one.
    Raises OSError for a file that cannot be read, DamagedLog for a line that is not a JSON object.
    """
    try:
        content = (run / METRICS).read_text(errors="replace")
    except OSError:
        if lenient:
            return []
        raise
    records = []
    for number, line in enumerate(content.split("\n")[:-1], start=1):
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            record = None
        if isinstance(record, dict):
            records.append(record)
        elif not lenient:
            raise DamagedLog(f"{METRICS}, line {number}, is damaged")
    return records


def series(log: Iterable[Mapping[str, Any]], kind: str, *, x: str, y: str) -> list[tuple[float, float]]:
    """The (x, y) points of a learning curve, sorted by x.

    log : records of `read_log`.
    kind : 'step' or 'epoch', the records to take.
    x, y : fields of the records. Records that lack one, or whose y is not finite, have no point.

    Of records with the same x the last one counts: a resumed run may log a step twice.
    """
    chosen: list[tuple[Any, Any]] = [(record.get(x), record.get(y)) for record in log if record.get("kind") == kind]
    numbers = ((place, value) for place, value in chosen if all(isinstance(n, int | float) for n in (place, value)))
    return sorted({float(place): float(value) for place, value in numbers if isfinite(value)}.items())

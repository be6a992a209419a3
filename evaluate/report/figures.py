"""Figures for papers, as PNG and SVG: learning curves, recall at K and at r percent, perplexity by length, pruning.

Needs matplotlib.

Each is drawn from what an evaluation wrote (metrics.json, per_image.jsonl) and the training log, so a figure can be
made again without measuring anything.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mrnn.data.errors import EvaluationError
from mrnn.data.files import new_file
from mrnn.evaluate.metrics import names
from mrnn.evaluate.per_image import Record
from mrnn.train.measures import BITS, Cost
from mrnn.train.run_files import series

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDTH, HEIGHT = 3.4, 2.4  # inches: one column of a two-column paper
DIRECTIONS = {ranking.key: ranking.label for ranking in names.RANKINGS if ranking.headline}


def check_matplotlib() -> None:
    """Raises EvaluationError where it is not installed; called before anything is measured."""
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise EvaluationError("--figures needs matplotlib; install it with pip install 'mrnn[analysis]'") from error


def save_figures(
    folder: Path,
    *,
    log: Sequence[Mapping[str, Any]],
    metrics: Mapping[str, Any],
    records: Sequence[Record],
    cost: Cost = BITS,
) -> list[Path]:
    """Draw every figure that there is data for and return the files: NAME.png and NAME.svg of each.

    folder : created where it does not exist
    log : records of the run's metrics.jsonl (mrnn.train.run_files.read_log)
    metrics, records : content of metrics.json and of per_image.jsonl
    cost : what the run minimises
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    found = {
        "learning-curves": learning_curves(log, cost),
        "recall-at-k": recall_curves(records),
        "recall-at-percent": percent_curves((metrics.get("retrieval") or {}).get("within_percent", {})),
        "perplexity-by-length": perplexity_by_length((metrics.get("perplexity_counts") or {}).get("by_length", ())),
        "pruning": pruning((metrics.get("retrieval") or {}).get("course", ())),
    }
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    # The text of an SVG stays text; ids and the missing date make the same data the same bytes.
    with rc_context({"font.size": 8, "svg.fonttype": "none", "svg.hashsalt": "mrnn", "axes.grid": True}):
        for name, draw in found.items():
            if draw is None:
                continue
            figure = Figure(figsize=(WIDTH, HEIGHT), layout="constrained")
            axes = figure.add_subplot()
            axes.grid(alpha=0.3)
            axes.spines[["top", "right"]].set_visible(False)
            draw(axes)
            for ending in ("png", "svg"):
                file = folder / f"{name}.{ending}"
                with new_file(file, replace=True) as draft:
                    figure.savefig(draft, format=ending, dpi=300, metadata={"Date": None} if ending == "svg" else None)
                files.append(file)
    return files


Draw = Callable[["Axes"], None]


def learning_curves(log: Sequence[Mapping[str, Any]], cost: Cost = BITS) -> Draw | None:
    """The cost in training and, where it has one, in validation after each epoch."""
    training, validation = (series(log, "epoch", x="epoch", y=f"{part}_{cost.key}") for part in ("train", "val"))
    if not training:
        return None

    def draw(axes: "Axes") -> None:
        axes.plot(*zip(*training, strict=True), label="training (with dropout)", color="0.5")
        if validation:
            axes.plot(*zip(*validation, strict=True), label="validation", color="C0", marker=".")
        axes.set(xlabel="epoch", ylabel=cost.label)
        axes.legend(frameon=False)

    return draw


def recall_curves(records: Sequence[Record]) -> Draw | None:
    """Recall at K in percent for every K in both directions, and by chance where a sentence looks for its image."""
    ranks = {
        name: np.concatenate([np.atleast_1d(record["ranks"][name]) for record in records if "ranks" in record])
        for name in DIRECTIONS
        if any("ranks" in record for record in records)
    }
    if not ranks:
        return None

    def draw(axes: "Axes") -> None:
        last = max(int(values.max()) for values in ranks.values())
        for number, (name, values) in enumerate(ranks.items()):
            k = np.arange(1, last + 1)
            axes.plot(k, 100 * recall_at_every_k(values, last), label=DIRECTIONS[name], color=f"C{number}")
        images = sum("ranks" in record for record in records)
        chance = np.arange(1, images + 1)
        axes.plot(chance, 100 * chance / images, ":", color="0.5", label=f"{DIRECTIONS['sentence_to_image']}, chance")
        axes.set(xscale="log", xlabel="K", ylabel="recall at K (%)", ylim=(0, 100), xlim=(1, last))
        axes.xaxis.set_major_formatter("{x:,.0f}")
        axes.figure.legend(loc="outside upper center", ncols=2, frameon=False)

    return draw


def percent_curves(within: Mapping[str, Mapping[str, float]]) -> Draw | None:
    """Queries whose first right answer is within the best r percent of the pool, as in m-RNN v1, and by chance."""
    if not within:
        return None

    def draw(axes: "Axes") -> None:
        for number, (name, label) in enumerate(DIRECTIONS.items()):
            r = [float(each) for each in within[name]]
            axes.plot(r, list(within[name].values()), marker=".", label=label, color=f"C{number}")
        axes.plot(r, r, ":", color="0.5", label=f"{DIRECTIONS['sentence_to_image']}, chance")
        axes.set(xscale="log", xlabel="best r % of the pool", ylabel="queries answered (%)", ylim=(0, 100))
        axes.set_xticks(r, [f"{each:g}" for each in r])
        axes.minorticks_off()
        axes.figure.legend(loc="outside upper center", ncols=2, frameon=False)

    return draw


def recall_at_every_k(ranks: np.ndarray, last: int) -> np.ndarray:
    """Share of (Q,) ranks that are K or better, for K = 1 .. last: (last,)."""
    return np.cumsum(np.bincount(ranks, minlength=last + 1)[1 : last + 1]) / len(ranks)


def perplexity_by_length(rows: Sequence[Mapping[str, Any]]) -> Draw | None:
    """Bars by the number of words; rows have words, sentences and perplexity."""
    if not rows:
        return None

    def draw(axes: "Axes") -> None:
        bars = axes.bar([row["words"] for row in rows], [row["perplexity"] for row in rows], color="C0")
        axes.bar_label(bars, [f"{row['perplexity']:.1f}" for row in rows], fontsize=7)
        axes.set(xlabel="words of the sentence", ylabel="perplexity")
        axes.grid(axis="x", visible=False)
        axes.set_axisbelow(True)

    return draw


def pruning(course: Sequence[Mapping[str, Any]]) -> Draw | None:
    """Cost against accuracy of pruned retrieval: queries whose rank and list are certain, by pairs scored exactly."""
    if not course:
        return None

    def draw(axes: "Axes") -> None:
        cost = [100 * state["scored"] for state in course]
        for number, (name, label) in enumerate(DIRECTIONS.items()):
            settled = [100 * state["settled"][name] for state in course]
            axes.plot(cost, settled, marker=".", color=f"C{number}", label=label)
        axes.plot([100], [100], "s", color="0.5", label="full pass")
        axes.set(xlabel="pairs scored exactly (%)", ylabel="queries settled (%)", xlim=(-3, 103), ylim=(-3, 105))
        axes.legend(frameon=False, loc="center right")

    return draw

"""Learning curves of runs as a figure."""

from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path

from mrnn.data.errors import MrnnError
from mrnn.data.files import write_whole
from mrnn.train.comparison import Run

FORMATS = ("png", "svg", "pdf")
TITLE = "Learning curves of mrnn"  # in the file, by which a later call knows that it may replace it


def draw_curves(path: Path, runs: Sequence[Run], *, labels: Mapping[Path, str]) -> None:
    """Draw the cost in training and the criterion (dev perplexity) over the epochs, a line for each run that has any.

    path : file to write; its ending, one of FORMATS, is the format
    runs : of one task, so that their curves mean the same
    labels : for the legend, by the path of the run

    Raises MrnnError if matplotlib is missing, the format is none of these, no run has finished an epoch, or the runs
    are judged by different numbers.
    """
    form = path.suffix.removeprefix(".").lower()
    if form not in FORMATS:
        raise MrnnError(f"{path}: a figure is written as .{', .'.join(FORMATS)}")
    drawn = [run for run in runs if run.epochs]
    if not drawn:
        raise MrnnError("there are no curves to draw: none of the runs has finished an epoch")
    criterion, cost = drawn[0].criterion, drawn[0].cost
    if any(run.criterion != criterion for run in drawn):
        raise MrnnError("the runs are judged by different numbers; draw runs of one kind of task in one figure")
    try:
        from matplotlib import colormaps
        from matplotlib.figure import Figure
        from matplotlib.ticker import MaxNLocator
    except ImportError:
        raise MrnnError("figures take matplotlib: pip install 'mrnn[analysis]'") from None
    rows = -(-len(drawn) // 2)
    figure = Figure(figsize=(9, 3.8 + 0.2 * rows), layout="constrained")
    panels = figure.subplots(1, 2)
    for panel, title in zip(panels, (f"training: {cost.label}", criterion.label), strict=True):
        panel.set_title(title)
        panel.set_xlabel("epoch")
        panel.xaxis.set_major_locator(MaxNLocator(integer=True))
        panel.grid(alpha=0.3)
    for number, run in enumerate(drawn):
        # Ranked runs from dark to light; dashes tell neighbours apart.
        style = {"color": colormaps["viridis"](0.9 * number / max(len(drawn) - 1, 1)), "marker": "o", "markersize": 3}
        style |= {"linestyle": ("-", "--", ":")[number % 3]}
        epochs = [epoch.number for epoch in run.epochs]
        panels[0].plot(epochs, [epoch.cost for epoch in run.epochs], **style)
        panels[1].plot(epochs, [epoch.value for epoch in run.epochs], label=labels[run.path], **style)
    if criterion.lower_is_better:  # perplexity spans orders of magnitude; recalls do not
        panels[1].set_yscale("log")
    panels[1].yaxis.set_major_locator(MaxNLocator(nbins=7, steps=[1, 2, 5, 10]))
    panels[1].yaxis.set_major_formatter("{x:g}")
    panels[1].yaxis.set_minor_formatter("")
    figure.legend(loc="outside lower center", ncols=2, fontsize="small", frameon=False)
    stream = BytesIO()
    figure.savefig(stream, format=form, dpi=150, metadata={"Title": TITLE})
    write_whole(path, stream.getvalue())

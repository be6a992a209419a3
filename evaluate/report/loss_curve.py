"""The learning curve of a training run as SVG inside a web page."""

from collections.abc import Sequence
from math import ceil, floor, log10
from typing import Any

from mrnn.train.measures import BITS, Cost
from mrnn.train.run_files import series

WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT = 600, 280, 52, 48, 12, 12
POINTS = 600  # drawn at most; neighbours are averaged

Point = tuple[float, float]


def loss_curve(log: Sequence[dict[str, Any]], cost: Cost = BITS) -> str:
    """SVG of the cost over training steps: the training batches, and validation after each epoch where it has one.

    log : records of metrics.jsonl (mrnn.train.run_files.read_log)
    cost : what the run minimises

    '' if there are fewer than two points.
    """
    training = _average(series(log, "step", x="step", y=cost.key))
    if len(training) < 2:  # a run shorter than its --log-every
        training = series(log, "epoch", x="step", y=f"train_{cost.key}")
    validation = series(log, "epoch", x="step", y=f"val_{cost.key}")
    if len(training) + len(validation) < 2:
        return ""
    everything = [*training, *validation]
    right = max(x for x, _ in everything)
    ticks = nice_ticks(min(y for _, y in everything), max(y for _, y in everything))
    low, high = ticks[0], ticks[-1]

    def place(point: Point) -> Point:
        x = LEFT + (WIDTH - LEFT - RIGHT) * point[0] / max(right, 1)
        y = TOP + (HEIGHT - TOP - BOTTOM) * (high - point[1]) / (high - low)
        return round(x, 1), round(y, 1)

    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{cost.label} during training">']
    for tick in ticks:
        y = place((0, tick))[1]
        parts.append(f'<path class="grid" d="M{LEFT} {y}H{WIDTH - RIGHT}"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y + 4}" text-anchor="end">{tick:g}</text>')
    for tick in nice_ticks(0, right):
        if tick <= right:
            x = place((tick, low))[0]
            anchor = "end" if x > WIDTH - 40 else "middle"
            parts.append(f'<text x="{x}" y="{HEIGHT - BOTTOM + 17}" text-anchor="{anchor}">{tick:,g}</text>')
    parts.append(f'<text x="{(LEFT + WIDTH) / 2}" y="{HEIGHT - 5}" text-anchor="middle">training steps</text>')
    for name, points in (("train", training), ("val", validation)):
        line = " ".join(f"{x},{y}" for x, y in map(place, points))
        parts.append(f'<polyline class="{name}" points="{line}"/>')
    parts += [f'<circle class="val" cx="{x}" cy="{y}" r="3"/>' for x, y in map(place, validation)]
    return "".join([*parts, "</svg>"])


def nice_ticks(low: float, high: float) -> list[float]:
    """Four to nine round numbers whose ends enclose low and high."""
    if high - low < 1e-9:
        high = low + 1
    step = 10 ** floor(log10((high - low) / 4))
    step = next(step * factor for factor in (1, 2, 5, 10) if (high - low) / (step * factor) <= 6)
    first, last = floor(low / step), ceil(high / step)
    return [round(number * step, 10) for number in range(first, last + 1)]


def _average(points: list[Point]) -> list[Point]:
    group = ceil(len(points) / POINTS) or 1
    groups = [points[i : i + group] for i in range(0, len(points), group)]
    return [(sum(x for x, _ in g) / len(g), sum(y for _, y in g) / len(g)) for g in groups]

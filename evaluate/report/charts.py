"""Bar charts as SVG inside a web page; style.css has their colours."""

from collections.abc import Mapping, Sequence

import numpy as np

from mrnn.evaluate.report.loss_curve import nice_ticks

WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT = 600, 250, 52, 48, 12, 8
COLOURS = ("one", "two", "three")
RANKS = (1, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000, 50000)  # last rank of each bar


def bars(labels: Sequence[str], series: Mapping[str, Sequence[float]], *, axis: str) -> str:
    """Bars in percent, side by side for each label.

    labels : below the bars
    series : name -> a share in [0, 1] for each label
    axis : what the labels are

    Labels and names are not escaped: they must be ours or numbers, never texts of a data set. '' without labels.
    """
    if not labels or not series:
        return ""
    ticks = nice_ticks(0, max(100 * max(values) for values in series.values()))
    top = ticks[-1]
    group = (WIDTH - LEFT - RIGHT) / len(labels)
    bar = 0.8 * group / len(series)
    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{axis}: share in percent">']
    for tick in ticks:
        y = round(HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * tick / top, 1)
        parts.append(f'<path class="grid" d="M{LEFT} {y}H{WIDTH - RIGHT}"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y + 4}" text-anchor="end">{tick:g}%</text>')
    every = max(1, round(len(labels) / 14))
    for number, label in enumerate(labels):
        left = LEFT + group * number + 0.1 * group
        if number % every == 0:
            x = round(left + 0.4 * group, 1)
            parts.append(f'<text x="{x}" y="{HEIGHT - BOTTOM + 17}" text-anchor="middle">{label}</text>')
        for place, (colour, (name, values)) in enumerate(zip(COLOURS, series.items(), strict=False)):
            height = round((HEIGHT - TOP - BOTTOM) * 100 * values[number] / top, 1)
            title = f"<title>{name}, {label}: {100 * values[number]:.1f}%</title>"
            parts.append(
                f'<rect class="{colour}" x="{left + place * bar:.1f}" y="{HEIGHT - BOTTOM - height:.1f}" '
                f'width="{bar:.1f}" height="{height}">{title}</rect>'
            )
    parts.append(f'<text x="{(LEFT + WIDTH) / 2}" y="{HEIGHT - 5}" text-anchor="middle">{axis}</text></svg>')
    keys = " ".join(f'<span class="key {colour}">{name}</span>' for colour, name in zip(COLOURS, series, strict=False))
    return f'<p class="small">{keys}</p>{"".join(parts)}'


def rank_histogram(ranks: Mapping[str, Sequence[int]]) -> str:
    """How often the right answer comes at which rank: a direction's name -> its ranks, 1 = first."""
    ranks = {name: values for name, values in ranks.items() if len(values)}
    if not ranks:
        return ""
    worst = max(max(values) for values in ranks.values())
    lasts = [last for last, before in zip(RANKS, (0, *RANKS), strict=False) if before < worst]
    labels = [_rank_label(last, before) for last, before in zip(lasts, (0, *lasts), strict=False)]
    shares = {
        name: np.bincount(np.searchsorted(lasts, values).clip(max=len(lasts) - 1), minlength=len(lasts)) / len(values)
        for name, values in ranks.items()
    }
    return bars(
        labels, {name: values.tolist() for name, values in shares.items()}, axis="rank of the first right answer"
    )


def _rank_label(last: int, before: int) -> str:
    """Short, so that all labels fit a narrow screen: 1, 2–5, ..., –50, –100, ..., –1k."""
    if last == before + 1:
        return str(last)
    if last <= 20:
        return f"{before + 1}–{last}"
    return f"–{last}" if last < 1000 else f"–{last // 1000}k"

"""Bar charts as drawings (SVG) that stand in a web page; style.css has their colours."""

from collections.abc import Mapping, Sequence

import numpy as np

from mrnn.evaluate.loss_curve import nice_ticks

WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 720, 240, 52, 44, 12
COLOURS = ("one", "two", "three")
RANKS = (1, 2, 6, 11, 21, 51, 101, 201, 501, 1001, 2001, 5001, 10001, 20001)  # first rank of each bar


def bars(labels: Sequence[str], series: Mapping[str, Sequence[float]], *, axis: str) -> str:
    """Bars in percent, side by side for each label: series name -> a share in [0, 1] for each label.

    axis : what the labels are. Labels and names are ours or numbers, never texts of a data set. '' without labels.
    """
    if not labels or not series:
        return ""
    ticks = nice_ticks(0, max(100 * max(values) for values in series.values()))
    top = ticks[-1]
    group = (WIDTH - LEFT - 12) / len(labels)
    bar = 0.8 * group / len(series)
    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{axis}: share in percent">']
    for tick in ticks:
        y = round(HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * tick / top, 1)
        parts.append(f'<path class="grid" d="M{LEFT} {y}H{WIDTH - 12}"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y + 4}" text-anchor="end">{tick:g}%</text>')
    every = max(1, round(len(labels) / 14))
    for number, label in enumerate(labels):
        left = LEFT + group * number + 0.1 * group
        if number % every == 0:
            x = round(left + 0.4 * group, 1)
            parts.append(f'<text x="{x}" y="{HEIGHT - BOTTOM + 17}" text-anchor="middle">{label}</text>')
        for place, (colour, (name, values)) in enumerate(zip(COLOURS, series.items(), strict=False)):
            height = round((HEIGHT - TOP - BOTTOM) * 100 * values[number] / top, 1)
            parts.append(
                f'<rect class="{colour}" x="{left + place * bar:.1f}" y="{HEIGHT - BOTTOM - height:.1f}" '
                f'width="{bar:.1f}" height="{height}"><title>{name}, {label}: {100 * values[number]:.1f}%</title></rect>'
            )
    parts.append(f'<text x="{(LEFT + WIDTH) / 2}" y="{HEIGHT - 5}" text-anchor="middle">{axis}</text></svg>')
    keys = " ".join(f'<span class="key {colour}">{name}</span>' for colour, name in zip(COLOURS, series, strict=False))
    return f'<p class="small">{keys}</p>{"".join(parts)}'


def rank_histogram(ranks: Mapping[str, Sequence[int]]) -> str:
    """How often the right answer comes at which rank: a direction's name -> its ranks, 1 = first."""
    ranks = {name: values for name, values in ranks.items() if len(values)}
    if not ranks:
        return ""
    last = max(max(values) for values in ranks.values())
    firsts = [first for first in RANKS if first <= last]
    ends = [*(first - 1 for first in firsts[1:]), None]
    labels = [
        f"{first:,}+" if end is None and first > 1 else str(first) if end in (None, first) else f"{first:,}–{end:,}"
        for first, end in zip(firsts, ends, strict=True)
    ]
    shares = {
        name: (np.bincount(np.searchsorted(firsts, values, side="right") - 1, minlength=len(firsts)) / len(values))
        for name, values in ranks.items()
    }
    return bars(
        labels, {name: values.tolist() for name, values in shares.items()}, axis="rank of the first right answer"
    )

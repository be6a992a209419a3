"""Outlines of the shapes of the scenes set, within the unit circle."""

import math


def _polygon(corners: int, *, inner: float = 1.0, turn: float = 0.0) -> tuple[tuple[float, float], ...]:
    """A regular polygon with a corner at the top; every second corner at the distance `inner`; turn in full turns."""
    return tuple(
        (radius * math.sin(angle), -radius * math.cos(angle))
        for i in range(corners)
        for angle, radius in [(2 * math.pi * (i / corners + turn), 1.0 if i % 2 == 0 else inner)]
    )


def _heart() -> tuple[tuple[float, float], ...]:
    """A heart curve, scaled into the unit circle."""
    angles = [2 * math.pi * i / 40 for i in range(40)]
    return tuple(
        (
            0.95 * math.sin(t) ** 3,
            -(13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)) / 17 * 0.95,
        )
        for t in angles
    )


BAR = 0.32  # half the width of a cross's bars
OUTLINES = {  # around the origin, y downwards; a ring's hole is the painter's business
    "circle": _polygon(48),
    "ring": _polygon(48),
    "square": _polygon(4, turn=0.125),
    "triangle": _polygon(3),
    "star": _polygon(10, inner=0.42),
    "cross": (
        (-BAR, -0.92), (BAR, -0.92), (BAR, -BAR), (0.92, -BAR), (0.92, BAR), (BAR, BAR),
        (BAR, 0.92), (-BAR, 0.92), (-BAR, BAR), (-0.92, BAR), (-0.92, -BAR), (-BAR, -BAR),
    ),
    "heart": _heart(),
    "diamond": ((0.0, -1.0), (0.72, 0.0), (0.0, 1.0), (-0.72, 0.0)),
}  # fmt: skip

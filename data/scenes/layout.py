"""What is where in the pictures of the scenes set, as numbers and names; other modules draw and describe it."""

import math
import random
from dataclasses import dataclass

from mrnn.data.scenes.shapes import OUTLINES

COLOURS = {
    "red": (214, 40, 45),
    "blue": (42, 84, 206),
    "green": (40, 150, 62),
    "yellow": (245, 208, 44),
    "orange": (243, 134, 32),
    "purple": (126, 58, 166),
    "pink": (246, 140, 184),
    "white": (248, 248, 246),
    "black": (28, 26, 30),
    "brown": (122, 76, 40),
}
RADII = {"small": 7.0, "medium": 11.5, "large": 19.5}  # pixels in a picture whose shorter side is 96
PICTURE_SIZES = ((96, 96), (96, 80), (80, 96), (96, 72), (84, 84))


@dataclass(frozen=True, slots=True)
class Background:
    """Two tones and how they meet: 'plain' (the first alone), 'fade', 'horizon', 'speckled' or 'checked'.

    phrases : adverbials that name it.
    avoid : colours that would be invisible on it.
    """

    kind: str
    first: tuple[int, int, int]
    second: tuple[int, int, int]
    phrases: tuple[str, ...]
    avoid: tuple[str, ...]


BACKGROUNDS = (
    Background("plain", (188, 190, 194), (0, 0, 0), ("on a grey background", "on a grey wall"), ("white",)),
    Background("plain", (250, 249, 244), (0, 0, 0), ("on a white background", "on white paper"), ("white", "yellow")),
    Background("plain", (36, 36, 44), (0, 0, 0), ("on a black background", "in the dark"), ("black", "brown")),
    Background("plain", (166, 206, 240), (0, 0, 0), ("on a pale blue background", "on light blue"), ("white", "blue")),
    Background("plain", (244, 214, 222), (0, 0, 0), ("on a pink background", "on a pink wall"), ("pink", "white")),
    Background("plain", (182, 218, 158), (0, 0, 0), ("on a light green background",), ("green", "white", "yellow")),
    Background(
        "fade", (90, 140, 220), (244, 246, 250), ("on a background fading from blue to white",), ("white", "blue")
    ),
    Background(
        "fade", (250, 190, 90), (190, 70, 110), ("at sunset", "in front of a sunset"), ("orange", "red", "pink")
    ),
    Background(
        "horizon",
        (132, 190, 240),
        (96, 166, 72),
        ("on the grass under a blue sky", "on a meadow"),
        ("green", "blue", "white"),
    ),
    Background(
        "horizon", (150, 204, 240), (232, 208, 150), ("on the beach", "on sand under a blue sky"), ("yellow", "white")
    ),
    Background(
        "horizon",
        (40, 44, 84),
        (236, 240, 246),
        ("in the snow at night", "on snow under a dark sky"),
        ("white", "black", "blue"),
    ),
    Background("speckled", (170, 164, 152), (90, 86, 80), ("on a speckled background", "on gravel"), ("brown",)),
    Background(
        "speckled", (150, 108, 70), (96, 64, 38), ("on brown soil", "on the bare earth"), ("brown", "orange", "red")
    ),
    Background("checked", (226, 226, 222), (194, 196, 200), ("on a checked floor", "on grey tiles"), ("white",)),
    Background(
        "checked", (232, 222, 150), (214, 196, 110), ("on a yellow checked cloth",), ("yellow", "orange", "white")
    ),
)


@dataclass(frozen=True, slots=True)
class Group:
    """Things of one kind.

    texture : 'plain', 'striped' or 'dotted'.
    turn : rotation in radians.
    radius : of the circle around a thing, in pixels.
    centres : of the things, in pixels from the upper left corner.
    """

    shape: str
    colour: str
    size: str
    texture: str
    turn: float
    radius: float
    centres: tuple[tuple[float, float], ...]

    def outline(self, thing: int) -> list[tuple[float, float]]:
        """Corners of a thing in pixels."""
        x, y = self.centres[thing]
        cos, sin = math.cos(self.turn), math.sin(self.turn)
        return [
            (x + self.radius * (cos * across - sin * down), y + self.radius * (sin * across + cos * down))
            for across, down in OUTLINES[self.shape]
        ]

    def box(self, thing: int) -> tuple[float, float, float, float]:
        """Left, top, width and height of a thing in pixels, the covered part included."""
        across, down = zip(*self.outline(thing), strict=True)
        return min(across), min(down), max(across) - min(across), max(down) - min(down)


@dataclass(frozen=True, slots=True)
class Scene:
    """A picture: groups from back to front.

    relation : where the second group is with respect to the first: 'left', 'right', 'above', 'below', 'inside' or
    'front' (partly covering it); of a single group: 'row', 'column', or the place in the picture, such as 'top left'.
    Three groups are in a row from left to right ('row').
    """

    width: int
    height: int
    background: Background
    groups: tuple[Group, ...]
    relation: str


def arrange(rng: random.Random) -> Scene:
    """Draw a scene."""
    width, height = rng.choice(PICTURE_SIZES)
    background = rng.choice(BACKGROUNDS)
    relation, sizes, spots = _spots(rng)
    unit = min(width, height) / 96
    colours = rng.sample([colour for colour in COLOURS if colour not in background.avoid], len(spots))
    shapes = rng.sample(list(OUTLINES), len(spots)) if rng.random() < 0.8 else [rng.choice(list(OUTLINES))] * len(spots)
    if relation == "inside":
        shapes[0] = rng.choice(("circle", "square", "diamond", "heart"))
    groups: list[Group] = []
    for colour, shape, size, centres in zip(colours, shapes, sizes, spots, strict=True):
        radius = RADII[size] * unit * rng.uniform(0.92, 1.08) * (1.3 if relation == "inside" and not groups else 1)
        roomy = size != "small" and not (relation == "inside" and not groups)
        groups.append(
            Group(
                shape=shape,
                colour=colour,
                size=size,
                texture=rng.choice(("plain", "plain", "striped", "dotted")) if roomy else "plain",
                turn=rng.uniform(-0.2, 0.2),
                radius=radius,
                centres=tuple(
                    (_within(x * width, radius, width), _within(y * height, radius, height)) for x, y in centres
                ),
            )
        )
    return Scene(width, height, background, tuple(groups), relation)


def _within(centre: float, radius: float, side: int) -> float:
    """The centre, moved if necessary so that the thing is within the picture."""
    return min(max(centre, radius + 1), side - radius - 1)


Spots = list[list[tuple[float, float]]]


def _spots(rng: random.Random) -> tuple[str, list[str], Spots]:
    """Relation, size of each group, and the centres of its things as fractions of the picture."""
    kind = rng.choice(("one", "line", "line", "two", "two", "two", "inside", "front", "many", "many", "three"))
    near, far = rng.uniform(0.22, 0.32), rng.uniform(0.68, 0.78)
    middle = rng.uniform(0.4, 0.6)
    if kind == "one":
        place, x, y = rng.choice(PLACES)
        return place, [rng.choice(("small", "medium", "large", "large"))], [[(x, y)]]
    if kind == "line":
        count = rng.choice((2, 3, 3, 4))
        relation = rng.choice(("row", "column"))
        size = rng.choice(("small", "medium")) if count < 4 else "small"
        return (
            relation,
            [size],
            [[_along(relation, (i + 0.5) / count, middle + rng.uniform(-0.03, 0.03)) for i in range(count)]],
        )
    if kind == "two":
        relation = rng.choice(("left", "right", "above", "below"))
        first, second = (far, near) if relation in ("left", "above") else (near, far)
        axis = "row" if relation in ("left", "right") else "column"
        sizes = [rng.choice(tuple(RADII)), rng.choice(tuple(RADII))]
        return relation, sizes, [[_along(axis, first, middle)], [_along(axis, second, rng.uniform(0.4, 0.6))]]
    if kind == "inside":
        spot = (rng.uniform(0.35, 0.65), rng.uniform(0.4, 0.6))
        return "inside", ["large", "small"], [[spot], [spot]]
    if kind == "front":
        shift = rng.choice((-0.075, 0.075))
        return "front", ["large", rng.choice(("medium", "large"))], [[(0.5 - shift, middle)], [(0.5 + shift, middle)]]
    if kind == "many":
        count = rng.choice((2, 3))
        relation = rng.choice(("above", "below"))
        first, second = (far, near) if relation == "above" else (near, far)
        row = [((i + 0.5) / count, second + rng.uniform(-0.04, 0.04)) for i in range(count)]
        return relation, [rng.choice(("medium", "large")), rng.choice(("small", "medium"))], [[(middle, first)], row]
    sizes = [rng.choice(("small", "medium")) for _ in range(3)]
    return "row", sizes, [[((i + 0.5) / 3, rng.uniform(0.38, 0.62))] for i in range(3)]


def _along(axis: str, position: float, across: float) -> tuple[float, float]:
    return (position, across) if axis == "row" else (across, position)


PLACES = (
    ("middle", 0.5, 0.5),
    ("left", 0.25, 0.5),
    ("right", 0.75, 0.5),
    ("top", 0.5, 0.25),
    ("bottom", 0.5, 0.75),
    ("top left", 0.22, 0.22),
    ("top right", 0.78, 0.22),
    ("bottom left", 0.22, 0.78),
    ("bottom right", 0.78, 0.78),
)

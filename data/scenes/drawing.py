"""Drawing a scene with Pillow: at four times the size, then reduced, then with a little noise added."""

import random

from PIL import Image, ImageChops, ImageDraw

from mrnn.data.scenes.layout import COLOURS, Background, Group, Scene

SCALE = 4
NOISE = 14  # grey levels from the darkest to the brightest grain
Colour = tuple[int, int, int]


def draw(scene: Scene, rng: random.Random) -> Image.Image:
    """The picture of a scene; the same scene and the same state of rng give the same pixels."""
    picture = _background(scene.background, scene.width * SCALE, scene.height * SCALE, rng)
    for group in scene.groups:
        for thing in range(len(group.centres)):
            _put(picture, group, thing, rng)
    small = picture.resize((scene.width, scene.height), Image.Resampling.BOX)
    grain = Image.frombytes("L", small.size, rng.randbytes(small.width * small.height))
    grain = grain.point([level * NOISE // 255 for level in range(256)])
    return ImageChops.add(small, Image.merge("RGB", (grain, grain, grain)), 1, -NOISE // 2)


def _background(background: Background, width: int, height: int, rng: random.Random) -> Image.Image:
    first, second = _jittered(background.first, rng), _jittered(background.second, rng)
    if background.kind == "plain":
        return Image.new("RGB", (width, height), first)
    if background.kind == "fade":
        mask = Image.linear_gradient("L").resize((width, height))
    elif background.kind == "horizon":
        mask = Image.new("L", (width, height), 0)
        ImageDraw.Draw(mask).rectangle((0, int(height * rng.uniform(0.45, 0.65)), width, height), fill=255)
    elif background.kind == "speckled":
        grains = Image.frombytes("L", (width // 8, height // 8), rng.randbytes((width // 8) * (height // 8)))
        mask = grains.point([255 if level > 190 else 0 for level in range(256)]).resize((width, height))
    else:
        mask = Image.new("L", (width, height), 0)
        side = rng.choice((10, 12, 16)) * SCALE
        for left in range(0, width, side):
            for top in range((left // side) % 2 * side, height, 2 * side):
                ImageDraw.Draw(mask).rectangle((left, top, left + side - 1, top + side - 1), fill=255)
    return Image.composite(Image.new("RGB", mask.size, second), Image.new("RGB", mask.size, first), mask)


def _put(picture: Image.Image, group: Group, thing: int, rng: random.Random) -> None:
    """Paint a thing: its outline filled with its colour and texture."""
    mask = Image.new("L", picture.size, 0)
    brush = ImageDraw.Draw(mask)
    brush.polygon([(x * SCALE, y * SCALE) for x, y in group.outline(thing)], fill=255)
    x, y = (coordinate * SCALE for coordinate in group.centres[thing])
    if group.shape == "ring":
        hole = group.radius * SCALE * 0.55
        brush.ellipse((x - hole, y - hole, x + hole, y + hole), fill=0)
    paint = Image.new("RGB", picture.size, _jittered(COLOURS[group.colour], rng))
    if group.texture != "plain":
        _texture(paint, group, (x, y), rng)
    picture.paste(paint, mask=mask)


def _texture(paint: Image.Image, group: Group, centre: tuple[float, float], rng: random.Random) -> None:
    """Draw white stripes or dots over the square around a thing; black ones on light colours."""
    brush = ImageDraw.Draw(paint)
    ink = COLOURS[accent(group.colour)]
    reach = group.radius * SCALE
    left, top = centre[0] - reach, centre[1] - reach
    step = reach / (2.5 if group.size == "medium" else 3.5)
    upright = rng.random() < 0.5
    for i in range(int(2 * reach / step) + 1):
        offset = (i + 0.25) * step
        if group.texture == "striped":
            low, high = offset, offset + step * 0.42
            stripe = (low, 0, high, 2 * reach) if upright else (0, low, 2 * reach, high)
            brush.rectangle((left + stripe[0], top + stripe[1], left + stripe[2], top + stripe[3]), fill=ink)
            continue
        for j in range(int(2 * reach / step) + 1):
            x, y = left + offset, top + (j + 0.25 + 0.5 * (i % 2)) * step
            brush.ellipse((x, y, x + step * 0.5, y + step * 0.5), fill=ink)


def accent(colour: str) -> str:
    """The colour of stripes and dots on a thing of this colour."""
    return "black" if colour in ("white", "yellow", "pink", "orange") else "white"


def _jittered(colour: Colour, rng: random.Random) -> Colour:
    red, green, blue = (min(255, max(0, level + rng.randint(-10, 10))) for level in colour)
    return red, green, blue

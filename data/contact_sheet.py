"""A contact sheet: images of a cache with their regions drawn in, and the class and score of each beside them."""

import colorsys
import json
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps
from PIL.PngImagePlugin import PngInfo

from mrnn.data.cache import FeatureCache
from mrnn.data.errors import CacheError
from mrnn.data.files import new_file
from mrnn.data.regions import Regions, rows_of

ACROSS, SIDE, LEGEND, LINE, MARGIN = 3, 360, 170, 17, 10
FONT_SIZE = 12


def draw_sheet(cache: FeatureCache, root: Path, *, count: int = 12) -> Image.Image:
    """The sheet as an RGB picture: images of the cache, evenly spaced, regions numbered from 1, the best.

    root : the folder of the image files; images whose file is not there are left grey.
    Raises CacheError if the cache has no regions, or no image that is done.
    """
    if cache.rows_per_image == 1:
        raise CacheError(f"{cache.path} has no regions; extract-features --regions makes some")
    done = cache.done()
    if not len(done):
        raise CacheError(f"{cache.path} has no image yet")
    shown = done[np.linspace(0, len(done) - 1, min(count, len(done))).astype(int)]
    height = max(SIDE, LINE * (cache.rows_per_image - 1)) + LINE
    size = (MARGIN + ACROSS * (SIDE + LEGEND + MARGIN), MARGIN + -(-len(shown) // ACROSS) * (height + MARGIN))
    sheet = Image.new("RGB", size, "white")
    classes = json.loads(str(cache.provenance.get("region_classes", "[]")))
    for position, number in enumerate(shown):
        left = MARGIN + position % ACROSS * (SIDE + LEGEND + MARGIN)
        top = MARGIN + position // ACROSS * (height + MARGIN)
        regions = cache.regions[rows_of(np.array([number]), cache.rows_per_image)]
        _draw_image(sheet, (left, top), root / cache.images[number].path, regions, classes)
    return sheet


def save_sheet(sheet: Image.Image, path: str | Path, *, title: str) -> None:
    """Write a sheet as a PNG file with a title in it, whole or not at all."""
    info = PngInfo()
    info.add_text("Title", title)
    with new_file(path, replace=True) as draft:
        sheet.save(draft, format="PNG", pnginfo=info)


def _draw_image(sheet: Image.Image, corner: tuple[int, int], path: Path, regions: Regions, classes: list[str]) -> None:
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(FONT_SIZE)
    left, top = corner[0], corner[1] + LINE
    width, height = (float(side) for side in regions.rectangles[0, 2:])
    scale = SIDE / max(width, height, 1.0)
    draw.text(corner, path.name, fill="black", font=font)
    sheet.paste(_picture(path, (max(1, round(width * scale)), max(1, round(height * scale)))), (left, top))
    drawn = [row for row in range(1, len(regions.valid)) if regions.valid[row]]
    for row in reversed(drawn):  # the best on top
        x, y, w, h = (float(value) * scale for value in regions.rectangles[row])
        colour = _colour(row)
        draw.rectangle((left + x, top + y, left + x + w, top + y + h), outline=colour, width=3 if row <= 5 else 1)
        draw.text((left + x + 3, top + y + 1), str(row), fill=colour, font=font, stroke_width=1, stroke_fill="black")
    for row in drawn:
        kind = int(regions.classes[row])
        name = classes[kind] if 0 <= kind < len(classes) else str(kind) if kind >= 0 else ""
        place = (left + SIDE + 6, top + (row - 1) * LINE)
        draw.rectangle((place[0], place[1] + 3, place[0] + 9, place[1] + 12), fill=_colour(row), outline="black")
        draw.text((place[0] + 14, place[1]), f"{row:2} {regions.scores[row]:.2f} {name}", fill="black", font=font)


def _picture(path: Path, size: tuple[int, int]) -> Image.Image:
    try:
        with Image.open(path) as image:
            return ImageOps.exif_transpose(image).convert("RGB").resize(size)
    except OSError:
        return Image.new("RGB", size, "lightgrey")


def _colour(row: int) -> tuple[int, int, int]:
    red, green, blue = colorsys.hsv_to_rgb((row * 0.618) % 1, 0.85, 1)
    return round(255 * red), round(255 * green), round(255 * blue)

"""Captions of regions on pages: their scores, and pictures with the boxes drawn."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mrnn.data.cache import FeatureCache
from mrnn.evaluate.grounding.alignments import Aligned
from mrnn.evaluate.grounding.segments import Segment
from mrnn.evaluate.report.aligned import SHOWN, STYLE, figure
from mrnn.evaluate.report.page import Page, section
from mrnn.evaluate.report.pictures import Pictures, thumbnails
from mrnn.evaluate.report.region_scores import score_table

Spoken = Mapping[int, tuple[Sequence[str], float]]  # number of a region -> the words of its caption, their score


def regions_section(regions: Mapping[str, Any] | None, cache: FeatureCache, pictures: Pictures) -> str:
    """The table, and some of the pictures with their boxes and captions; '' without a measurement.

    regions : what the stage returned. pictures : where they are.
    """
    if not regions:
        return ""
    intro = (
        f'<p class="small">{regions["regions"]:,} boxes of {regions["images"]:,} images, which {regions["phrases"]:,} '
        "phrases name. A caption is made from the features of a box alone and scored against its phrases. People: one "
        "phrase of a box, drawn at random, against the phrases of the other sentences.</p>"
    )
    figures = _figures(regions["captions"], cache, pictures)
    return section(
        "Captions of regions", f'{intro}{score_table(regions)}<div class="aligned">{figures}</div>', name="regions"
    )


def regions_page(captions: Sequence[tuple[Path, np.ndarray, Spoken]], *, settings: Mapping[str, Any]) -> Page:
    """The page of `caption-images --regions`: each picture with its boxes and their captions.

    captions : for each file the rectangles of its regions (R, 4), and what is said of them.
    settings : shown at the end of the page.
    """
    small = thumbnails([file for file, _, _ in captions])
    figures = "".join(
        figure(described(str(file), rectangles, said), picture)
        for (file, rectangles, said), picture in zip(captions, small, strict=True)
    )
    return Page(
        title="Captions of regions",
        cards=(),
        notes=["Each caption has the colour of its region."],
        sections=[section("Regions", f'<div class="aligned">{figures}</div>', name="regions")],
        settings=settings,
        style=STYLE,
    )


def _figures(captions: Sequence[Mapping[str, Any]], cache: FeatureCache, pictures: Pictures) -> str:
    """Some of the images, evenly spaced."""
    by_image: dict[str, dict[int, tuple[Sequence[str], float]]] = defaultdict(dict)
    for each in captions:
        by_image[each["image_id"]][each["region"]] = each["caption"].split(), each["score"]
    chosen = list(by_image)[:: max(1, -(-len(by_image) // SHOWN))]
    numbers = {image.id: number for number, image in enumerate(cache.images)}
    rectangles = cache.regions.rectangles.reshape(len(cache.images), cache.rows_per_image, 4)
    small = thumbnails([pictures.file(cache.images[numbers[image]].path) for image in chosen])
    return "".join(
        figure(described(image, rectangles[numbers[image]], by_image[image]), picture)
        for image, picture in zip(chosen, small, strict=True)
    )


def described(image_id: str, rectangles: np.ndarray, captions: Spoken) -> Aligned:
    """The captions of an image's regions in the form in which an alignment is drawn.

    rectangles : (R, 4), of all its regions. captions : what is said of some of them.
    """
    words: list[str] = []
    segments = []
    for region, (caption, score) in captions.items():
        segments.append(Segment(len(words), len(words) + len(caption), region, score))
        words += caption
    return Aligned(0, image_id, 0, "captions of regions", words, segments, rectangles)

"""The page of `mrnn align`: each picture with the regions of a sentence, and the words in the same colours."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from mrnn.data.cache import FeatureCache
from mrnn.evaluate.grounding.alignments import Aligned, align_sentences
from mrnn.evaluate.grounding.corrector import Corrector
from mrnn.evaluate.grounding.phrases import candidates
from mrnn.evaluate.grounding.segments import BETA
from mrnn.evaluate.report.page import Page, section, text
from mrnn.evaluate.report.pictures import Pictures, thumbnails
from mrnn.train.checkpoint import TrainedModel
from mrnn.train.features import Features

SHOWN = 24  # images in an evaluation's report, as many as its gallery shows at first
COLOURED = (
    "Each word has the colour of the region that it is aligned with. A word without a colour is aligned with the whole "
    "picture."
)
# Of a region's lines, and behind its words; further regions start again.
COLOURS = (
    ("#d62728", "#f7c9c9"),
    ("#1f77b4", "#c5dff2"),
    ("#2ca02c", "#c6ecc6"),
    ("#ff7f0e", "#ffdfc0"),
    ("#9467bd", "#e3d5f0"),
    ("#17becf", "#c2eff3"),
    ("#e377c2", "#f8dcee"),
    ("#8c8c00", "#ececb8"),
)
STYLE = "".join(
    f"rect.segment{number} {{ stroke: {line} }} span.segment{number} {{ background: {tint} }}\n"
    for number, (line, tint) in enumerate(COLOURS)
)


def aligned_page(
    aligned: Sequence[tuple[Aligned, Path | None]], *, pictures: Pictures | None, settings: Mapping[str, Any]
) -> Page:
    """A figure for each sentence.

    aligned : sentences, each with the file of its image.
    pictures : where the images of a cache are; None for image files.
    settings : shown at the end of the page.
    """
    shown = thumbnails([file for _, file in aligned])
    figures = "".join(figure(each, picture) for (each, _), picture in zip(aligned, shown, strict=True))
    return Page(
        title="Regions and words",
        cards=(),
        notes=[
            COLOURED,
            *(pictures.missing(shown) if pictures else ()),
        ],
        sections=[section("Alignments", f'<div class="aligned">{figures}</div>', name="alignments")],
        settings=settings,
        style=STYLE,
    )


def alignment_section(
    trained: TrainedModel,
    cache: FeatureCache,
    images: np.ndarray,
    features: Features,
    *,
    corrector: Corrector | None,
    pictures: Pictures,
) -> str:
    """The section of an evaluation's report: the first sentence of some images, evenly spaced among all of them.

    images : numbers of those that were evaluated. features : of the cache. corrector : of the scores, where
    grounding was measured. pictures : where they are.
    """
    aligned: list[Aligned] = []
    for number in images[:: max(1, -(-len(images) // SHOWN))].tolist():
        image, places = cache.images[number], candidates(cache, np.array([number]), features.rows)
        found = align_sentences(
            trained,
            features,
            number,
            image.sentences,
            image_id=image.id,
            places=places,
            beta=BETA,
            corrector=corrector,
        )
        aligned += islice(found, 1)
    shown = thumbnails([pictures.file(cache.images[each.image].path) for each in aligned])
    figures = "".join(figure(each, picture) for each, picture in zip(aligned, shown, strict=True))
    corrected = " Scores are corrected for overlap (see Grounding)." if corrector else ""
    count = f" Shown are {len(aligned)} of {len(images):,} images, each with its first sentence."
    note = f"<p>{text(COLOURED + corrected + count)}</p>"
    return section("Regions and words", f'{note}<div class="aligned">{figures}</div>', name="alignments")


def numbered(aligned: Aligned) -> dict[int, int]:
    """A number from 0 for each region that the sentence speaks of, in its order; the whole picture has none."""
    return {region: n for n, region in enumerate(dict.fromkeys(s.region for s in aligned.segments if s.region))}


def outlines(aligned: Aligned) -> Iterator[tuple[int, float, float, float, float]]:
    """What is drawn of each region that the sentence speaks of: number of its colour, left, top, width, height.

    A rectangle is a little smaller than its region, the more earlier ones have an edge on a line with it, as in a grid:
    so their edges stay apart.
    """
    step = float(aligned.rectangles[0][2]) / 150
    drawn: list[np.ndarray] = []  # left and right, top and bottom: (2, 2)
    for region, number in numbered(aligned).items():
        left, top, width, height = (float(x) for x in aligned.rectangles[region])
        if not width * height > 0:  # nobody recorded where it is
            continue
        edges = np.array([[left, left + width], [top, top + height]])
        beside = sum(bool((np.abs(edges[:, :, None] - other[:, None]) < step).any()) for other in drawn)
        drawn.append(edges)
        inset = min(step * (0.5 + beside % 4), 0.1 * min(width, height))
        yield number % len(COLOURS), left + inset, top + inset, width - 2 * inset, height - 2 * inset


def figure(aligned: Aligned, picture: str) -> str:
    """The picture with its boxes, and the sentence below it. picture : data URI, '' where there is none."""
    left, top, width, height = (float(x) for x in aligned.rectangles[0])
    colour = {region: f"segment{number % len(COLOURS)}" for region, number in numbered(aligned).items()}
    words = " ".join(
        f'<span class="{colour.get(segment.region, "whole")}" title="score {segment.score:.2f}">'
        f"{text(' '.join(aligned.words[segment.first : segment.end]))}</span>"
        for segment in aligned.segments
    )
    boxes = "".join(
        f'<rect class="segment{number}" x="{x:g}" y="{y:g}" width="{across:g}" height="{down:g}"/>'
        for number, x, y, across, down in outlines(aligned)
    )
    drawn = ""
    if width > 0 and height > 0:
        image = f'<image href="{picture}" width="{width:g}" height="{height:g}"/>' if picture else ""
        drawn = (
            f'<svg viewBox="{left:g} {top:g} {width:g} {height:g}" role="img" aria-label="{text(aligned.text)}">'
            f"{image}{boxes}</svg>"
        )
    return f"<figure>{drawn}<figcaption>{words}<br><small>{text(aligned.image_id)}</small></figcaption></figure>"

"""The page of `mrnn align`: each picture with the regions of a sentence, and the words in the same colours."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mrnn.evaluate.grounding.alignments import Aligned
from mrnn.evaluate.report.page import Page, section, text
from mrnn.evaluate.report.pictures import Pictures, thumbnails

COLOURS = 8  # in style.css, .segment0 and so on; further regions start again


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
            "Each word has the colour of the region that it is aligned with. A word without a colour is aligned with "
            "the whole picture.",
            *(pictures.missing(shown) if pictures else ()),
        ],
        sections=[section("Alignments", f'<div class="aligned">{figures}</div>', name="alignments")],
        settings=settings,
    )


def figure(aligned: Aligned, picture: str) -> str:
    """The picture with its boxes, and the sentence below it. picture : data URI, '' where there is none."""
    left, top, width, height = (float(x) for x in aligned.rectangles[0])
    regions = dict.fromkeys(segment.region for segment in aligned.segments if segment.region)
    colour = {region: f"segment{n % COLOURS}" for n, region in enumerate(regions)}
    words = " ".join(
        f'<span class="{colour.get(segment.region, "whole")}" title="score {segment.score:.2f}">'
        f"{text(' '.join(aligned.words[segment.first : segment.end]))}</span>"
        for segment in aligned.segments
    )
    boxes = "".join(
        '<rect class="{}" x="{:g}" y="{:g}" width="{:g}" height="{:g}"/>'.format(
            name, *(float(x) for x in aligned.rectangles[region])
        )
        for region, name in colour.items()
    )
    drawn = ""
    if width > 0 and height > 0:
        image = f'<image href="{picture}" width="{width:g}" height="{height:g}"/>' if picture else ""
        drawn = (
            f'<svg viewBox="{left:g} {top:g} {width:g} {height:g}" role="img" aria-label="{text(aligned.text)}">'
            f"{image}{boxes}</svg>"
        )
    return f"<figure>{drawn}<figcaption>{words}<br><small>{text(aligned.image_id)}</small></figcaption></figure>"

"""Figures of aligned sentences, as PNG and SVG, in the manner of DVSA (arXiv 1412.2306).

The picture with the regions, beside it the parts of the sentence in the same colours, each with its score.

Needs matplotlib.
"""

import re
import textwrap
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from mrnn.data.files import new_file
from mrnn.data.outputs import is_marked, refuse_foreign_folder
from mrnn.data.pictures import PICTURE_SUFFIXES
from mrnn.evaluate.grounding.alignments import Aligned
from mrnn.evaluate.report.aligned import COLOURS, numbered, outlines
from mrnn.evaluate.report.figures import check_matplotlib
from mrnn.evaluate.report.pictures import small_picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TITLE = "An alignment of regions and words by mrnn"  # in the files, by which they are told from others
FORMS = ("png", "svg")
PICTURE, TEXT = 3.0, 3.4  # width in inches of the picture and of the words beside it
LINE, MARGIN = 0.22, 0.1  # height of a line of text, and what is left free around all
WIDEST = 33  # characters of a line
PIXELS = 700  # of the picture's longer side
INK, SOFT = "#1c2430", "#556172"


def figure_names(image_ids: Sequence[str]) -> list[str]:
    """A file name without ending for each of some different images.

    The last part of the id without the ending of a picture, with '_' for what is unsafe in a file name. Where two
    images would have the same, a digest of the whole id is added.
    """
    names = []
    for image_id in image_ids:
        name = image_id.replace("\\", "/").rpartition("/")[2]
        ending = next((each for each in PICTURE_SUFFIXES if name.lower().endswith(each)), "")
        names.append(re.sub(r"[^\w.-]+", "_", name[: len(name) - len(ending)]).strip("._-")[:50] or "image")
    count = Counter(name.lower() for name in names)
    return [
        name if count[name.lower()] == 1 else f"{name}-{blake2b(image_id.encode(), digest_size=4).hexdigest()}"
        for name, image_id in zip(names, image_ids, strict=True)
    ]


class FigureFolder:
    """Figures of aligned sentences in a folder: NAME-NUMBER.png and .svg, the number being that of the sentence."""

    def __init__(self, folder: Path, sentences: Mapping[str, int]) -> None:
        """Make the folder. sentences : how many each image has, by its id.

        Raises EvaluationError without matplotlib, and SettingError rather than replace a file that is no such figure.
        """
        check_matplotlib()
        self._folder = folder
        self._names = dict(zip(sentences, figure_names(list(sentences)), strict=True))
        ours = is_marked(TITLE)
        wanted = [file for name, n in sentences.items() for number in range(n) for file in self.files(name, number)]
        foreign = [file.name for file in wanted if file.exists() and not (file.is_file() and ours(file))]
        refuse_foreign_folder(folder, foreign, is_ours=lambda folder: False)
        folder.mkdir(parents=True, exist_ok=True)

    def files(self, image_id: str, number: int) -> list[Path]:
        """The files of a sentence of an image."""
        return [self._folder / f"{self._names[image_id]}-{number}.{form}" for form in FORMS]

    def save(self, aligned: Aligned, picture: Path | None) -> None:
        """Draw an aligned sentence. picture : the file of its image."""
        from matplotlib import rc_context

        # The text of an SVG stays text; ids and the missing date make the same data the same bytes.
        with rc_context({"font.size": 10, "svg.fonttype": "none", "svg.hashsalt": "mrnn"}), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Glyph .* missing from font")  # of scripts that the font lacks
            figure = draw(aligned, small_picture(picture, size=PIXELS) if picture else None)
            for file in self.files(aligned.image_id, aligned.number):
                metadata = {"Title": TITLE} | ({"Date": None} if file.suffix == ".svg" else {})
                with new_file(file, replace=True) as draft:
                    figure.savefig(draft, format=file.suffix[1:], dpi=200, metadata=metadata)


def draw(aligned: Aligned, picture: Image.Image | None) -> "Figure":
    """The figure of an aligned sentence, without a photograph where there is none."""
    from matplotlib.figure import Figure

    left, top, width, height = (float(x) for x in aligned.rectangles[0])
    if not (width > 0 and height > 0):
        left, top, width, height = (0.0, 0.0, *(picture.size if picture else (1, 1)))
    lines = [textwrap.wrap(" ".join(aligned.words[s.first : s.end]), WIDEST) for s in aligned.segments]
    rows = sum(map(len, lines)) + 0.35 * len(lines)
    tall = min(PICTURE * height / width, 1.4 * PICTURE)
    across, down = PICTURE + TEXT + 3 * MARGIN, max(tall, rows * LINE) + 2 * MARGIN
    figure = Figure(figsize=(across, down))
    shown = figure.add_axes((MARGIN / across, MARGIN / down, PICTURE / across, 1 - 2 * MARGIN / down), anchor="N")
    draw_regions(shown, aligned, picture, (left, left + width, top + height, top))
    words = figure.add_axes((1 - (TEXT + MARGIN) / across, MARGIN / down, TEXT / across, 1 - 2 * MARGIN / down))
    words.set(xlim=(0, TEXT), ylim=(down - 2 * MARGIN, 0))
    words.axis("off")
    draw_words(words, aligned, lines)
    return figure


def draw_regions(
    axes: "Axes", aligned: Aligned, picture: Image.Image | None, extent: tuple[float, float, float, float]
) -> None:
    """The picture and the rectangles of the regions; extent : left, right, bottom, top."""
    from matplotlib.patches import Rectangle

    left, right, bottom, top = extent
    axes.set(xlim=(left, right), ylim=(bottom, top), xticks=[], yticks=[], aspect="equal", facecolor="#e8ebef")
    axes.spines[:].set_visible(False)
    if picture is not None:
        axes.imshow(picture, extent=extent, aspect="equal")
    for number, x, y, width, height in outlines(aligned):
        for colour, wide, order in (("white", 3.5, 2), (COLOURS[number][0], 2.0, 3)):
            axes.add_patch(Rectangle((x, y), width, height, fill=False, edgecolor=colour, linewidth=wide, zorder=order))


def draw_words(axes: "Axes", aligned: Aligned, lines: Sequence[Sequence[str]]) -> None:
    """The segments below each other, lines of each, on the colour of their regions; those of the whole on none."""
    numbers = numbered(aligned)
    y = LINE / 2
    for segment, said in zip(aligned.segments, lines, strict=True):
        axes.text(0.5, y, f"{segment.score:.2f}", color=SOFT, size=8, ha="right", va="center")
        box = None
        if segment.region in numbers:
            line, tint = COLOURS[numbers[segment.region] % len(COLOURS)]
            box = {"boxstyle": "round,pad=0.2", "facecolor": tint, "edgecolor": line, "linewidth": 0.8}
        axes.text(0.62, y - LINE / 2, "\n".join(said), color=INK if box else SOFT, va="top", linespacing=1.4, bbox=box)
        y += (len(said) + 0.35) * LINE

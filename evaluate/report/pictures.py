"""Where the pictures are, and small copies of them inside a page, within a budget of bytes for all."""

import base64
import io
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageOps

from mrnn.data.captions import relative_path
from mrnn.data.errors import CorpusError

MAX_PIXELS = 100_000_000
BUDGET = 5_000_000  # bytes of all pictures of a page; base64 makes them a third longer
# Pixels of the longer side and WebP quality, the best first. 1,000 photographs get 192 pixels or so.
STEPS = ((320, 75), (256, 65), (224, 60), (224, 45), (192, 50), (160, 45), (128, 40), (96, 35), (64, 30))
SAMPLE = 24  # pictures by which the step is chosen


@dataclass(frozen=True)
class Pictures:
    """Where pictures are.

    folder : what the paths of images are relative to
    named : whether the user named the folder
    """

    folder: Path
    named: bool = False

    def file(self, path: str) -> Path | None:
        """The file of an image's path in the data set; None for a path that leads out of the folder."""
        try:
            return self.folder / relative_path(path, where="the data set")
        except CorpusError:
            return None

    def warning(self, paths: Sequence[str]) -> str:
        """A line for the terminal if files of the images' paths are not there; '' if all are."""
        lacking = sum(not (file := self.file(path)) or not file.is_file() for path in paths)
        if not lacking:
            return ""
        return (
            f"warning: {lacking} of {len(paths)} images are not found below {self.folder}, so they will not be shown; "
            "--images FOLDER says where they are"
        )

    def missing(self, shown: Sequence[str]) -> list[str]:
        """A sentence about the '' among the pictures of a page, where there are any."""
        found = sum(map(bool, shown))
        if found == len(shown):
            return []
        where = str(self.folder)
        if not self.named:
            where += " (the folder they were extracted from; --images names another)"
        missing = "none of the pictures was" if not found else f"{len(shown) - found} of {len(shown)} pictures were not"
        return [f"Text only where a picture should be: {missing} found below {where}."]


def thumbnails(paths: Sequence[Path | None], *, budget: int = BUDGET) -> list[str]:
    """The pictures as data URIs; '' where there is none, it cannot be decoded, or it has more than MAX_PIXELS.

    All are made alike, as large as the budget lets them be, judged by an even sample of them.
    """
    sample = [path for path in paths if path][:: max(1, len(paths) // SAMPLE)]
    share = 0.9 * budget / max(len(paths), 1)  # the sample may be a little lighter than the rest
    for size, quality in STEPS:
        tried = [len(content) for path in sample if (content := thumbnail(path, size=size, quality=quality))]
        if sum(tried) <= share * len(tried):
            break
    return [data_uri(thumbnail(path, size=size, quality=quality)) if path else "" for path in paths]


def thumbnail(path: Path, *, size: int, quality: int) -> bytes:
    """A WebP picture no longer than `size` pixels on either side, upright; b'' for a file that cannot be decoded."""
    picture = small_picture(path, size=size)
    if picture is None:
        return b""
    stream = io.BytesIO()
    picture.save(stream, "WEBP", quality=quality)
    return stream.getvalue()


def small_picture(path: Path, *, size: int) -> Image.Image | None:
    """An RGB picture no longer than `size` pixels on either side, upright; None for a file that cannot be decoded."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # remarks of the decoder on odd files, too-large pictures among them
            with Image.open(path) as picture:
                if picture.width * picture.height > MAX_PIXELS:
                    return None
                picture.draft("RGB", (size, size))
                small = ImageOps.exif_transpose(picture).convert("RGB")
                small.thumbnail((size, size))
                return small
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):  # what Pillow's decoders raise
        return None


def data_uri(content: bytes) -> str:
    """A WebP file as an address that holds it; '' for no content."""
    return "data:image/webp;base64," + base64.b64encode(content).decode() if content else ""

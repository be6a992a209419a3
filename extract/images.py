"""From an image file to the square of bytes that a network is fed with.

The same numbers as the libraries' own transforms (torchvision's `weights.transforms()`, timm's `create_transform`), in
fewer steps: the crop's place in the source picture is computed first and only that part is resized, on bytes; scaling
to floats and normalising happen once a batch. Large JPEGs are decoded at a reduced size as long as that is at least
twice the size asked for. How far the results may differ is stated and tested in tests/extract/test_images.py.
"""

import errno
import json
import stat
import struct
import threading
import warnings
import zlib
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from mrnn.data.errors import ImageError, SettingError
from mrnn.extract.formats import unsupported_format

# Pillow's own limit for a decompression bomb, twice its MAX_IMAGE_PIXELS; checked here too, since callers may lift it.
MAX_PIXELS = 178_956_970
# A file of more bytes than the largest picture allowed has uncompressed (4 channels of 16 bits) is not read at all.
MAX_BYTES = 8 * MAX_PIXELS
RESAMPLING = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
MODES = ("crop", "warp")
# Errors that belong to one file; any other (too many open files, a stale mount) ends the run with everything saved.
FILE_ERRORS = (errno.EISDIR, errno.EACCES, errno.EPERM, errno.EIO)
MISSING_ERRORS = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG)
ORIENTATION_TAG = 0x0112
TRANSPOSED = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class MissingImageError(ImageError):
    """There is no file of that name."""


@dataclass(frozen=True)
class Preprocessing:
    """What happens to a picture before the network.

    resize : pixels of the short side, the shape being kept; with mode 'warp' of both sides, the shape being lost.
    crop : side of the square cut from the middle; at most `resize`.
    mean, std : per channel R, G, B, on a scale where white is 1.
    """

    resize: int
    crop: int
    interpolation: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    mode: str = "crop"

    def __post_init__(self) -> None:
        if not 1 <= self.crop <= self.resize:
            raise SettingError(f"the crop of {self.crop} pixels must lie in 1 to the resized side, {self.resize}")
        if self.interpolation not in RESAMPLING:
            raise SettingError(f"interpolation must be one of {', '.join(RESAMPLING)}, not {self.interpolation!r}")
        if self.mode not in MODES:
            raise SettingError(f"mode must be one of {', '.join(MODES)}, not {self.mode!r}")
        if len(self.mean) != 3 or len(self.std) != 3 or not np.isfinite([*self.mean, *self.std]).all():
            raise SettingError("mean and std must be three finite numbers each")
        if min(self.std) <= 0:
            raise SettingError(f"every std must be greater than 0, not {self.std}")

    def to_json(self) -> str:
        """Canonical text: equal preprocessing, equal text."""
        return json.dumps(asdict(self), sort_keys=True)

    @staticmethod
    def from_json(text: str) -> "Preprocessing":
        """Raises ValueError if the text is not what to_json wrote."""
        try:
            fields: dict[str, Any] = json.loads(text)
            return Preprocessing(**{**fields, "mean": tuple(fields["mean"]), "std": tuple(fields["std"])})
        except (TypeError, KeyError) as error:
            raise ValueError(f"not a description of preprocessing: {text[:80]!r}") from error

    def crop_box(self, width: int, height: int) -> tuple[float, float, float, float]:
        """Where the crop lies in a picture of that size: left, top, right, bottom, as fractions of its sides.

        Rounded as torchvision rounds: the long side down to a whole pixel, the crop's corner to the nearest (even) one.
        """
        new_width = new_height = self.resize
        if self.mode == "crop" and width <= height:
            new_height = int(self.resize * height / width)
        elif self.mode == "crop":
            new_width = int(self.resize * width / height)
        left, top = round((new_width - self.crop) / 2), round((new_height - self.crop) / 2)
        return left / new_width, top / new_height, (left + self.crop) / new_width, (top + self.crop) / new_height


# What a caller may give as a picture: a file, the bytes of one, an image of Pillow, or an array of pixels.
Source = str | Path | bytes | Image.Image | np.ndarray


@dataclass(frozen=True)
class Picture:
    """A decoded picture, upright. pixels : mode L or RGB, perhaps at a reduced size. size : its true width, height."""

    pixels: Image.Image
    size: tuple[int, int]


def load_image(source: str | Path | BinaryIO, preprocessing: Preprocessing) -> np.ndarray:
    """Decode a picture, set it upright, resize and crop it. Returns (crop, crop, 3) uint8, RGB.

    Of an animation the first frame; transparency lies on white; more than 8 bits are scaled to 8. Safe in many threads.
    Raises MissingImageError if there is no such file and ImageError if it is not a picture within the limits; any other
    OSError is about the machine, not the file.
    """
    data = read_bytes(Path(source)) if isinstance(source, str | Path) else source.read(MAX_BYTES + 1)
    return frame(decode_picture(data, least=2 * preprocessing.resize), preprocessing)


def decode_picture(data: bytes, *, least: int | None) -> Picture:
    """Decode the bytes of a picture's file and set it upright.

    least : a JPEG may be decoded at a reduced size as long as both sides stay at least so long; None for never.
    Raises ImageError if it is not a picture within the limits.
    """
    if not data:
        raise ImageError("the file is empty")
    if len(data) > MAX_BYTES:
        raise ImageError(f"more than {MAX_BYTES} bytes, which no picture within the limits needs")
    with _quiet:
        try:
            return _decode(data, least)
        except (ImageError, MemoryError):
            raise
        except Exception as error:  # on hostile bytes decoders raise nearly anything: struct.error, SyntaxError, ...
            raise ImageError(_reason(error, data)) from error


def given_picture(source: Image.Image | np.ndarray) -> Picture:
    """A picture that is in memory already, set upright; never at a reduced size.

    source : an image of Pillow, of any mode and with or without an EXIF orientation, or an array of uint8 with the
        shape (height, width, 3), RGB, or (height, width), grey. It is not changed.

    Safe in many threads. Raises ImageError for an array of another type or shape, and as `decode_picture` does.
    """
    image = _image_of(source) if isinstance(source, np.ndarray) else source
    _check_size(*image.size)
    with _quiet:
        try:
            with _loading:  # Pillow reads a file that it has opened at this moment, and not safely in several threads
                image.load()
            return _upright(image, image.size)
        except (ImageError, MemoryError):
            raise
        except Exception as error:  # an image that was opened from hostile bytes and is decoded only now
            raise ImageError(_reason(error, b"")) from error


def _image_of(pixels: np.ndarray) -> Image.Image:
    if pixels.dtype != np.uint8 or pixels.shape[2:] not in ((), (3,)) or pixels.ndim < 2:
        raise ImageError(
            f"an array of {pixels.dtype} with the shape {pixels.shape}; give uint8 with the shape (height, width, 3) "
            "or (height, width)"
        )
    return Image.fromarray(np.array(pixels))


def frame(picture: Picture, preprocessing: Preprocessing) -> np.ndarray:
    """Resize and crop a picture: (crop, crop, 3) uint8, RGB. Raises ImageError if it is too narrow to be resized."""
    left, top, right, bottom = preprocessing.crop_box(*picture.size)
    width, height = picture.pixels.size
    box = (left * width, top * height, min(right * width, width), min(bottom * height, height))
    side = (preprocessing.crop, preprocessing.crop)
    try:
        square = picture.pixels.resize(side, RESAMPLING[preprocessing.interpolation], box=box)
    except ValueError as error:
        raise ImageError(f"cannot be resized: {error}") from error
    return np.asarray(square.convert("RGB"))


def read_bytes(path: Path) -> bytes:
    """The bytes of a regular file. Raises as load_image does."""
    try:
        if not stat.S_ISREG((status := path.stat()).st_mode):
            raise ImageError("a folder, not an image file" if stat.S_ISDIR(status.st_mode) else "not a regular file")
        if status.st_size > MAX_BYTES:
            raise ImageError(f"{status.st_size} bytes; at most {MAX_BYTES} are read")
        return path.read_bytes()
    except OSError as error:
        if error.errno in MISSING_ERRORS:
            raise MissingImageError("missing: there is no such file") from error
        if error.errno in FILE_ERRORS:
            raise ImageError(f"cannot be read: {error.strerror}") from error
        raise


def normalise(batch: Tensor, preprocessing: Preprocessing, device: torch.device) -> Tensor:
    """(B, crop, crop, 3) uint8 to (B, 3, crop, crop) float32 on the device, in channels-last memory order."""
    std = torch.tensor(preprocessing.std, device=device)
    scale = (1 / (255 * std)).view(3, 1, 1)
    shift = (-torch.tensor(preprocessing.mean, device=device) / std).view(3, 1, 1)
    return batch.to(device, non_blocking=True).permute(0, 3, 1, 2).float().mul_(scale).add_(shift)


def _decode(data: bytes, least: int | None) -> Picture:
    with Image.open(BytesIO(data)) as image:
        _check_size(*image.size)
        full_size = image.size
        reduced = None if least is None else image.draft(None, (least, least))
        image.load()
        if reduced is None:  # not a JPEG; and a TIFF turns itself upright while loading
            full_size = image.size
        return _upright(image, full_size)


def _check_size(width: int, height: int) -> None:
    if not 0 < width * height <= MAX_PIXELS:
        raise ImageError(f"{width} x {height} pixels; at least 1 and at most {MAX_PIXELS} are decoded")


def _upright(image: Image.Image, full_size: tuple[int, int]) -> Picture:
    """An image whose pixels are loaded, turned as its EXIF orientation says. full_size : before any reduction."""
    orientation = _orientation(image)
    pixels = _eight_bits(image)
    if orientation in TRANSPOSED:
        pixels = pixels.transpose(TRANSPOSED[orientation])
        full_size = full_size[::-1] if orientation >= 5 else full_size
    return Picture(pixels, full_size)


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 (upright) to 8; a broken EXIF block says nothing about it, so 1."""
    try:
        value = image.getexif().get(ORIENTATION_TAG, 1)
    except (SyntaxError, ValueError, TypeError, KeyError, IndexError, OSError, struct.error, zlib.error):
        return 1
    return value if isinstance(value, int) else 1


def _eight_bits(image: Image.Image) -> Image.Image:
    """The same picture in mode L or RGB; transparent parts lie on white."""
    if image.mode.startswith("I"):
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 0xFFFF:
            raise ImageError("pixels of more than 16 bits, which have no stated white; save it with 8 or 16 bits")
        return Image.fromarray(((values.astype(np.uint32) * 255 + 0x7FFF) // 0xFFFF).astype(np.uint8))
    if image.mode == "F":
        raise ImageError("real numbers as pixels, which have no stated white; save it with 8 or 16 bits")
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        upper = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", upper.size, "white"), upper).convert("RGB")
    if image.mode == "1":
        return image.convert("L")
    return image if image.mode in ("L", "RGB") else image.convert("RGB")


def _reason(error: Exception, data: bytes) -> str:
    """Why it is not a picture, in words that need no knowledge of the decoder."""
    if isinstance(error, Image.DecompressionBombError):
        return f"more than {MAX_PIXELS} pixels; it is not decoded"
    if isinstance(error, UnidentifiedImageError):
        start = data[:200].lstrip().lower()
        if start.startswith((b"<!doctype html", b"<html")):
            return "a web page (HTML), not a picture"
        return unsupported_format(data) or "not a picture of a known format"
    if "truncated" in str(error).lower():
        return "truncated: the file ends before the picture does"
    return f"cannot be decoded: {str(error) or type(error).__name__}"


class _Quiet:
    """Silences Pillow's warnings while any thread is inside; `catch_warnings` alone is not safe in threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._saved = warnings.catch_warnings()

    def __enter__(self) -> None:
        with self._lock:
            self._inside += 1
            if self._inside == 1:
                self._saved = warnings.catch_warnings()
                self._saved.__enter__()
                warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
                warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)

    def __exit__(self, *exception: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._saved.__exit__(None, None, None)


_quiet = _Quiet()
_loading = threading.Lock()

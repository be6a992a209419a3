"""Files of pictures without decoding them: their hash and their size."""

import hashlib
from pathlib import Path

from PIL import Image

DIGEST_BYTES = 16
ORIENTATION_TAG = 0x0112
FIRST_TURNED = 5  # EXIF orientations 5 to 8 exchange width and height


def hash_bytes(data: bytes) -> bytes:
    """BLAKE2b-128 of a picture's file, as caches hold it."""
    return hashlib.blake2b(data, digest_size=DIGEST_BYTES).digest()


def hash_file(path: Path) -> bytes | None:
    """BLAKE2b-128 of a regular file, a stretch in memory at a time; None if there is none or it cannot be read."""
    if not path.is_file():
        return None
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, lambda: hashlib.blake2b(digest_size=DIGEST_BYTES)).digest()
    except OSError:
        return None


def picture_size(path: Path) -> tuple[int, int] | None:
    """Width and height of the upright picture, from its header alone; None if it is not a picture that can be read."""
    try:
        with Image.open(path) as image:
            width, height = image.size
            turned = int(image.getexif().get(ORIENTATION_TAG, 1)) >= FIRST_TURNED
    except Exception:  # on damaged headers decoders raise nearly anything; extraction says what is wrong with the file
        return None
    return (height, width) if turned else (width, height)

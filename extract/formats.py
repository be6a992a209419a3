"""Formats of files that people have among their pictures and Pillow cannot decode, told by their first bytes."""

from dataclasses import dataclass

from PIL import __version__ as PILLOW_VERSION


@dataclass(frozen=True)
class Format:
    """A format that Pillow cannot decode, or not everywhere. signatures : (offset, bytes) of which one must fit."""

    name: str
    remedy: str
    signatures: tuple[tuple[int, bytes], ...]

    def matches(self, data: bytes) -> bool:
        """Whether a file begins as this format does."""
        return any(data[offset : offset + len(sign)] == sign for offset, sign in self.signatures)


CONVERT = "convert it to JPEG or PNG"
HEIC_BRANDS = (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1")
VIDEOS = ((4, b"ftypisom"), (4, b"ftypmp4"), (4, b"ftypqt"), (0, b"\x1aE\xdf\xa3"))
FORMATS = (
    Format("an AVIF picture", f"install Pillow 11.3 or later, or {CONVERT}",
                    ((4, b"ftypavif"), (4, b"ftypavis"))),
    Format("a HEIC picture", CONVERT,
                    tuple((4, b"ftyp" + brand) for brand in HEIC_BRANDS)),
    Format("a JPEG XL picture", CONVERT, ((0, b"\xff\x0a"), (4, b"JXL \r\n\x87\n"))),
    Format("a WebP picture", f"install Pillow with WebP, or {CONVERT}", ((8, b"WEBP"),)),
    Format("a JPEG 2000 picture", f"install Pillow with JPEG 2000, or {CONVERT}",
                    ((4, b"jP  \r\n\x87\n"), (0, b"\xff\x4f\xff\x51"))),
    Format("a raw photograph", CONVERT, ((8, b"CR\x02\x00"), (4, b"ftypcrx"), (0, b"FUJIFILMCCD-RAW"))),
    Format("an SVG drawing", CONVERT, ((0, b"<svg"), (0, b"<?xml"))),
    Format("a PDF document", CONVERT, ((0, b"%PDF-"),)),
    Format("a video", "take a frame of it", VIDEOS),
)  # fmt: skip


def unsupported_format(data: bytes) -> str:
    """What a file that Pillow did not recognise is, and what to do; '' if it is of no format known here."""
    known = next((each for each in FORMATS if each.matches(data)), None)
    return f"{known.name}, which Pillow {PILLOW_VERSION} here cannot decode; {known.remedy}" if known else ""

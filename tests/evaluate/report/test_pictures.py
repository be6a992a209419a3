"""Thumbnails are small, upright, and all of them together within the budget; no path leads out of the folder."""

import io
from base64 import b64decode
from pathlib import Path

import numpy as np
from PIL import Image as Picture

from mrnn.evaluate.report.pictures import Pictures, thumbnails


def opened(uri: str) -> Picture.Image:
    return Picture.open(io.BytesIO(b64decode(uri.removeprefix("data:image/webp;base64,"))))


def test_upright_and_small(tmp_path: Path) -> None:
    picture = Picture.new("RGBA", (1000, 500), (10, 200, 30, 255))
    exif = picture.getexif()
    exif[0x0112] = 6  # a quarter turn
    picture.save(tmp_path / "a.png", exif=exif)
    (tmp_path / "b.jpg").write_text("not a picture")
    found = thumbnails([tmp_path / "a.png", tmp_path / "b.jpg", tmp_path / "missing.jpg", tmp_path, None])
    with opened(found[0]) as small:
        assert small.size == (160, 320)
        assert small.format == "WEBP"
    assert found[1:] == [""] * 4
    assert thumbnails([]) == []


def test_the_more_pictures_the_smaller(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    paths = []
    for number in range(12):  # a smooth background with some noise, about as heavy as photographs
        coarse = Picture.fromarray(generator.integers(0, 255, (12, 12, 3), dtype=np.uint8)).resize((360, 240))
        pixels = np.asarray(coarse) * 0.8 + generator.integers(0, 40, (240, 360, 3))
        paths.append(tmp_path / f"{number}.jpg")
        Picture.fromarray(pixels.astype(np.uint8)).save(paths[-1], quality=90)
    sizes = {}
    for budget in (4_000_000, 80_000, 24_000):
        found = thumbnails(paths, budget=budget)
        assert sum(len(b64decode(uri.partition(",")[2])) for uri in found) <= budget
        with opened(found[0]) as small:
            sizes[budget] = small.width
    assert sizes[4_000_000] == 320 > sizes[80_000] > sizes[24_000]


def test_paths_stay_inside(tmp_path: Path) -> None:
    assert Pictures(tmp_path).file("a/b.jpg") == tmp_path / "a" / "b.jpg"
    assert Pictures(tmp_path).file("../b.jpg") is None
    assert Pictures(tmp_path).file("/etc/passwd") is None
    shown = ["data:image/webp;base64,AA", ""]
    assert Pictures(tmp_path).missing(shown[:1]) == []
    assert "1 of 2 pictures were not found below" in Pictures(tmp_path, named=True).missing(shown)[0]
    assert "--images names another" in Pictures(tmp_path).missing(shown[1:])[0]


def test_pictures_that_are_not_found_are_warned_of(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").touch()
    assert Pictures(tmp_path).warning(["a.jpg"]) == ""
    warning = Pictures(tmp_path).warning(["a.jpg", "b.jpg", "../c.jpg"])
    assert warning.startswith(f"warning: 2 of 3 images are not found below {tmp_path}")
    assert "--images FOLDER" in warning

"""Decoding: every kind of file that people have, and how near the result is to the libraries' own transforms."""

import os
import warnings
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, features
from torchvision import transforms

from mrnn.data.errors import ImageError
from mrnn.extract import images
from mrnn.extract.images import MissingImageError, Preprocessing, frame, given_picture, load_image, normalise

IMAGENET = Preprocessing(256, 224, "bilinear", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
# 64 x 64 pixels as they are: for what decoding does to colours.
PLAIN = Preprocessing(64, 64, "bilinear", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
# The stated tolerance against the library's transform, in levels of 255: mean over the picture, and any pixel. Pillow
# rounds to bytes between its horizontal and its vertical pass, and which is first depends on the sizes.
MEAN_LEVELS, ANY_LEVEL = 0.35, 24
# JPEGs so large that they are decoded at a reduced size; a picture of nothing but noise is the worst case.
REDUCED_MEAN_LEVELS, REDUCED_NOISE_LEVELS = 1.0, 4.0


def photograph(width: int, height: int, *, seed: int = 0) -> Image.Image:
    """Something with slopes, edges and a little noise."""
    generator = np.random.default_rng(seed)
    coarse = Image.fromarray(generator.integers(0, 256, (9, 9, 3), dtype=np.uint8))
    pixels = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC)).astype(int)
    pixels[height // 3 : height // 2, width // 4 : width // 2] = (250, 20, 60)
    noise = generator.integers(-6, 7, (height, width, 3))
    return Image.fromarray(np.clip(pixels + noise, 0, 255).astype(np.uint8))


def encoded(image: Image.Image, format: str, **options: object) -> BytesIO:
    stream = BytesIO()
    image.save(stream, format=format, **options)
    stream.seek(0)
    return stream


def classic(image: Image.Image, preprocessing: Preprocessing) -> np.ndarray:
    """torchvision's transform up to the bytes."""
    mode = transforms.InterpolationMode(preprocessing.interpolation)
    steps = transforms.Compose(
        [transforms.Resize(preprocessing.resize, interpolation=mode), transforms.CenterCrop(preprocessing.crop)]
    )
    return np.asarray(steps(image.convert("RGB"))).astype(int)


@settings(max_examples=60, deadline=None)
@given(
    width=st.integers(8, 500),
    height=st.integers(8, 500),
    interpolation=st.sampled_from(["bilinear", "bicubic"]),
    sides=st.sampled_from([(256, 224), (232, 224), (235, 224), (40, 33), (224, 224)]),
)
def test_equals_the_library_transform(width: int, height: int, interpolation: str, sides: tuple[int, int]) -> None:
    preprocessing = Preprocessing(*sides, interpolation, IMAGENET.mean, IMAGENET.std)
    image = photograph(width, height, seed=width)
    difference = np.abs(load_image(encoded(image, "PNG"), preprocessing) - classic(image, preprocessing))
    assert difference.mean() <= MEAN_LEVELS
    assert difference.max() <= ANY_LEVEL


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_equals_the_library_transform_on_photographs(real_data: Path, interpolation: str) -> None:
    preprocessing = Preprocessing(256, 224, interpolation, IMAGENET.mean, IMAGENET.std)
    for folder in ("Flicker8k_original_aspect", "Flicker8k_Dataset"):
        for path in sorted((real_data / "flickr8k" / folder).glob("*.jpg"))[:40]:
            with Image.open(path) as image:
                difference = np.abs(load_image(path, preprocessing) - classic(image, preprocessing))
            assert difference.mean() <= MEAN_LEVELS
            assert difference.max() <= ANY_LEVEL


def test_large_jpegs_are_decoded_reduced_and_nearly_equal(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[tuple[int, int]] = []
    original = images._eight_bits
    monkeypatch.setattr(images, "_eight_bits", lambda image: (loaded.append(image.size), original(image))[1])
    for size in ((1401, 1207), (1030, 3001)):
        image = photograph(*size)
        stream = encoded(image, "JPEG", quality=95)
        with Image.open(BytesIO(stream.getvalue())) as whole:
            difference = np.abs(load_image(stream, IMAGENET) - classic(whole, IMAGENET))
        assert difference.mean() <= REDUCED_MEAN_LEVELS
        assert 512 <= min(loaded.pop()) < min(size)
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (1207, 1401, 3), dtype=np.uint8))
    stream = encoded(noise, "JPEG", quality=95)
    with Image.open(BytesIO(stream.getvalue())) as whole:
        assert np.abs(load_image(stream, IMAGENET) - classic(whole, IMAGENET)).mean() <= REDUCED_NOISE_LEVELS
    load_image(encoded(photograph(1000, 1000), "JPEG"), IMAGENET)
    assert loaded.pop() == (1000, 1000), "half of it would be less than twice the size asked for"


def test_normalised_batch_equals_the_library() -> None:
    batch = torch.randint(0, 256, (3, 224, 224, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    ours = normalise(batch, IMAGENET, torch.device("cpu"))
    library = transforms.functional.normalize(batch.permute(0, 3, 1, 2) / 255, IMAGENET.mean, IMAGENET.std)
    torch.testing.assert_close(ours, library, rtol=0, atol=2e-6)
    assert ours.is_contiguous(memory_format=torch.channels_last)


def test_warp_loses_the_shape_and_keeps_the_edges() -> None:
    pixels = np.zeros((50, 200, 3), dtype=np.uint8)
    pixels[:, :20] = (255, 0, 0)
    warped = replace(PLAIN, mode="warp")
    assert (load_image(encoded(Image.fromarray(pixels), "PNG"), warped)[:, :5, 0] == 255).all()
    assert (load_image(encoded(Image.fromarray(pixels), "PNG"), PLAIN) == 0).all()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_orientation_is_applied(orientation: int, format: str) -> None:
    upright = photograph(64, 96)
    if orientation in images.TRANSPOSED:
        inverse = {6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}
        stored = upright.transpose(inverse.get(orientation, images.TRANSPOSED[orientation]))
    else:
        stored = upright
    exif = Image.Exif()
    exif[images.ORIENTATION_TAG] = orientation
    options = {"JPEG": {"quality": 100, "subsampling": 0}, "WEBP": {"lossless": True}}.get(format, {})
    result = load_image(encoded(stored, format, exif=exif, **options), PLAIN).astype(int)
    assert np.abs(result - classic(upright, PLAIN)).mean() < 1.5


def test_orientation_of_a_large_jpeg() -> None:
    upright = photograph(1100, 1500)
    exif = Image.Exif()
    exif[images.ORIENTATION_TAG] = 6
    stream = encoded(upright.transpose(Image.Transpose.ROTATE_90), "JPEG", exif=exif, quality=95)
    assert np.abs(load_image(stream, IMAGENET) - classic(upright, IMAGENET)).mean() < 2.0


def test_broken_exif_says_nothing() -> None:
    stream = encoded(photograph(64, 64), "JPEG", exif=b"Exif\0\0MM\0*\0\0\xff\xff\xff\xff")
    assert load_image(stream, PLAIN).shape == (64, 64, 3)


def solid(mode: str, colour: object) -> Image.Image:
    return Image.new(mode, (64, 64), colour)  # type: ignore[arg-type]


def sixteen_bits(value: int) -> Image.Image:
    return Image.fromarray(np.full((64, 64), value, dtype=np.uint16))


def palette(*, transparent: bool) -> BytesIO:
    image = Image.new("P", (64, 64), 1)
    image.putpalette([10, 20, 30, 40, 90, 140])
    return encoded(image, "PNG", **({"transparency": 1} if transparent else {}))


@pytest.mark.parametrize(
    ("make", "colour"),
    [
        pytest.param(lambda: encoded(solid("L", 90), "PNG"), (90, 90, 90), id="grey"),
        pytest.param(lambda: encoded(solid("1", 1), "PNG"), (255, 255, 255), id="bilevel"),
        pytest.param(lambda: encoded(solid("RGBA", (200, 0, 0, 0)), "PNG"), (255, 255, 255), id="fully transparent"),
        pytest.param(lambda: encoded(solid("RGBA", (0, 0, 0, 51)), "PNG"), (204, 204, 204), id="half transparent"),
        pytest.param(lambda: encoded(solid("LA", (0, 51)), "PNG"), (204, 204, 204), id="grey and alpha"),
        pytest.param(lambda: palette(transparent=False), (40, 90, 140), id="palette"),
        pytest.param(lambda: palette(transparent=True), (255, 255, 255), id="transparent palette"),
        pytest.param(
            lambda: encoded(solid("RGB", (9, 8, 7)), "PNG", transparency=(9, 8, 7)), (255,) * 3, id="transparent colour"
        ),
        pytest.param(lambda: encoded(sixteen_bits(32896), "PNG"), (128, 128, 128), id="16 bits"),
        pytest.param(lambda: encoded(sixteen_bits(65535), "TIFF"), (255, 255, 255), id="16 bits, TIFF"),
        pytest.param(lambda: encoded(sixteen_bits(300), "PNG"), (1, 1, 1), id="16 bits, dark"),
        pytest.param(lambda: encoded(solid("CMYK", (0, 0, 0, 0)), "JPEG"), (255, 255, 255), id="CMYK white"),
        pytest.param(lambda: encoded(solid("CMYK", (0, 255, 255, 0)), "JPEG"), (255, 0, 0), id="CMYK red"),
        pytest.param(
            lambda: encoded(solid("RGB", (250, 0, 0)), "GIF", save_all=True, append_images=[solid("RGB", (0, 0, 250))]),
            (250, 0, 0),
            id="animation",
        ),
        pytest.param(lambda: encoded(Image.new("RGB", (1, 1), (3, 2, 1)), "PNG"), (3, 2, 1), id="one pixel"),
        pytest.param(lambda: encoded(Image.new("RGB", (20000, 1), (3, 2, 1)), "PNG"), (3, 2, 1), id="one pixel high"),
        pytest.param(lambda: encoded(Image.new("RGB", (1, 20000), (3, 2, 1)), "PNG"), (3, 2, 1), id="one pixel wide"),
    ],
)
def test_colours(make: Callable[[], BytesIO], colour: tuple[int, int, int]) -> None:
    result = load_image(make(), PLAIN)
    assert result.shape == (64, 64, 3)
    assert np.abs(result.astype(int) - colour).max() <= 2


def test_sixteen_bits_are_scaled_not_clipped() -> None:
    ramp = np.linspace(0, 65535, 64).astype(np.uint16)
    result = load_image(encoded(Image.fromarray(np.tile(ramp, (64, 1))), "PNG"), PLAIN)
    assert np.abs(result[0, :, 0] - ramp / 257).max() <= 0.51


def bomb() -> bytes:
    """A PNG header that promises 60,000 x 60,000 pixels."""
    data = bytearray(encoded(solid("L", 0), "PNG").getvalue())
    data[16:24] = (60000).to_bytes(4, "big") * 2
    data[29:33] = zlib.crc32(bytes(data[12:29])).to_bytes(4, "big")
    return bytes(data)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        pytest.param(lambda: b"", "empty", id="empty"),
        pytest.param(lambda: b"  <!DOCTYPE html><html>not found</html>", "web page", id="web page"),
        pytest.param(lambda: b"just words", "not a picture", id="text"),
        pytest.param(lambda: encoded(photograph(300, 300), "JPEG").getvalue()[:4000], "truncated", id="truncated JPEG"),
        pytest.param(lambda: encoded(photograph(300, 300), "PNG").getvalue()[:9000], "truncated", id="truncated PNG"),
        pytest.param(bomb, "pixels", id="bomb"),
        *(
            pytest.param(
                lambda data=data: data + bytes(60), f"{name}.*, which Pillow .* cannot decode; .*{remedy}", id=name
            )
            for name, remedy, data in (
                ("HEIC", "convert it to JPEG or PNG", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"),
                ("HEIC", "convert it to JPEG or PNG", b"\0\0\0\x18ftypmif1"),
                ("JPEG XL", "convert it to JPEG or PNG", b"\xff\x0a\xfa\x1f"),
                ("raw photograph", "convert it to JPEG or PNG", b"\0\0\0\x18ftypcrx "),
                ("SVG", "convert it to JPEG or PNG", b"<svg xmlns='http://www.w3.org/2000/svg'/>"),
                ("PDF", "convert it to JPEG or PNG", b"%PDF-1.7"),
                ("video", "take a frame", b"\0\0\0\x18ftypisom"),
            )
        ),
        pytest.param(lambda: encoded(solid("F", 0.5), "TIFF").getvalue(), "real numbers", id="floats"),
        pytest.param(lambda: encoded(solid("I", 70000), "TIFF").getvalue(), "16 bits", id="32 bits"),
    ],
)
def test_bad_files_say_why(content: Callable[[], bytes], reason: str, tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(content())
    with pytest.raises(ImageError, match=reason):
        load_image(path, IMAGENET)


def test_files_that_are_none(tmp_path: Path) -> None:
    for path in (tmp_path / "none.jpg", tmp_path / ("x" * 300), tmp_path / "none.jpg" / "below"):
        with pytest.raises(MissingImageError, match="missing"):
            load_image(path, IMAGENET)
    os.mkfifo(tmp_path / "pipe")
    for path, reason in ((tmp_path, "a folder, not an image file"), (tmp_path / "pipe", "not a regular file")):
        with pytest.raises(ImageError, match=reason):
            load_image(str(path), IMAGENET)
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(MissingImageError):
        load_image(tmp_path / "loop", IMAGENET)


def test_files_too_large_are_not_read(tmp_path: Path) -> None:
    with (tmp_path / "huge.jpg").open("wb") as stream:
        stream.truncate(images.MAX_BYTES + 1)
    with pytest.raises(ImageError, match="at most"):
        load_image(tmp_path / "huge.jpg", IMAGENET)


def test_a_failing_machine_is_not_a_bad_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def too_many(path: Path) -> bytes:
        raise OSError(24, "Too many open files", str(path))

    (tmp_path / "a.jpg").write_bytes(b"x")
    monkeypatch.setattr(Path, "read_bytes", too_many)
    with pytest.raises(OSError, match="Too many open files"):
        load_image(tmp_path / "a.jpg", IMAGENET)


def test_symbolic_links_are_followed(tmp_path: Path) -> None:
    (tmp_path / "real.png").write_bytes(encoded(solid("L", 7), "PNG").getvalue())
    (tmp_path / "link.png").symlink_to("real.png")
    assert (load_image(tmp_path / "link.png", PLAIN) == 7).all()


def test_warnings_of_the_decoder_do_not_leak(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 3000)  # 64 x 64 lies between the warning and the error
    stream = encoded(solid("L", 7), "PNG").getvalue()
    with pytest.warns(Image.DecompressionBombWarning):
        Image.open(BytesIO(stream)).close()
    before = list(warnings.filters)
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda _: load_image(BytesIO(stream), PLAIN).max(), range(200)))
    assert set(results) == {7}
    assert warnings.filters == before


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_damaged_files_give_a_picture_or_an_image_error(data: st.DataObject) -> None:
    format = data.draw(st.sampled_from(["JPEG", "PNG", "GIF", "TIFF", "WEBP", "BMP"]))
    content = bytearray(encoded(photograph(40, 30), format).getvalue())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    content = content[: data.draw(st.integers(1, len(content)))]
    try:
        assert load_image(BytesIO(bytes(content)), PLAIN).shape == (64, 64, 3)
    except ImageError as error:
        assert str(error)  # noqa: PT017


def test_preprocessing_as_text() -> None:
    text = IMAGENET.to_json()
    assert Preprocessing.from_json(text) == IMAGENET
    assert Preprocessing.from_json(text).to_json() == text
    with pytest.raises(ValueError, match="not a description"):
        Preprocessing.from_json('{"resize": 3}')


@pytest.mark.parametrize(
    "change",
    [
        {"crop": 257},
        {"crop": 0},
        {"interpolation": "nearest"},
        {"mode": "pad"},
        {"std": (0.0, 1.0, 1.0)},
        {"mean": (0.0, 1.0)},
        {"mean": (0.0, 1.0, float("nan"))},
    ],
)
def test_preprocessing_that_cannot_be(change: dict[str, object]) -> None:
    fields = {"resize": 256, "crop": 224, "interpolation": "bilinear", "mean": IMAGENET.mean, "std": IMAGENET.std}
    with pytest.raises(ValueError, match=r"must"):
        Preprocessing(**{**fields, **change})  # type: ignore[arg-type]


def test_avif_is_decoded_or_said_to_be_avif(tmp_path: Path) -> None:
    path = tmp_path / "a.avif"
    if features.check("avif"):
        photograph(64, 64).save(path)
        assert load_image(path, IMAGENET).shape == (IMAGENET.crop, IMAGENET.crop, 3)
    path.write_bytes(b"\0\0\0\x18ftypavif" + bytes(60))
    with pytest.raises(ImageError, match=r"cannot be decoded|AVIF picture, which Pillow .*install Pillow 11\.3"):
        load_image(path, IMAGENET)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P", "CMYK"])
def test_an_image_of_pillow_is_read_as_its_file(orientation: int, mode: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    stream = encoded(photograph(90, 60).convert(mode), "TIFF" if mode == "CMYK" else "PNG", exif=exif)
    expected = load_image(BytesIO(stream.getvalue()), PLAIN)
    found = given_picture(Image.open(stream))
    assert found.size == ((60, 90) if orientation >= 5 else (90, 60))
    np.testing.assert_array_equal(frame(found, PLAIN), expected)


def test_one_image_of_pillow_is_read_in_many_threads() -> None:
    stream = encoded(photograph(300, 200), "PNG")
    expected = load_image(BytesIO(stream.getvalue()), PLAIN)
    image = Image.open(stream)  # not decoded yet
    with ThreadPoolExecutor(8) as pool:
        for found in pool.map(lambda _: frame(given_picture(image), PLAIN), range(50)):
            np.testing.assert_array_equal(found, expected)


def test_arrays_are_pictures() -> None:
    pixels = np.asarray(photograph(90, 60))
    np.testing.assert_array_equal(
        frame(given_picture(pixels), PLAIN), load_image(encoded(photograph(90, 60), "PNG"), PLAIN)
    )
    wide = Image.new("L", (images.MAX_PIXELS // 4000 + 1, 4000))
    with pytest.raises(ImageError, match="at most"):
        given_picture(wide)

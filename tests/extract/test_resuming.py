"""Resuming a file that was started with other settings is refused, and the setting that differs is named."""

from dataclasses import replace
from pathlib import Path

import pytest

from mrnn.data.cache import open_cache
from mrnn.data.captions import Corpus, Image
from mrnn.data.errors import CacheError
from mrnn.extract.resuming import FIXED_SETTINGS, NOTED_SETTINGS, AskedCache

IMAGES = tuple(Image(f"{n}.jpg", f"{n}.jpg", "train", (f"picture {n}",)) for n in range(6))
CORPUS = Corpus("folder", Path("root"), IMAGES)
PROVENANCE: dict[str, str | int] = {
    **dict.fromkeys((*FIXED_SETTINGS, *NOTED_SETTINGS), "as it was"),
    "preprocessing": '{"crop": 64, "resize": 70}',
    "dtype": "float16",
    "threads": 2,
}


def check(
    path: Path, corpus: Corpus = CORPUS, *, total: int = 6, asked_threads: int | None = 2, **changed: str | int
) -> list[str]:
    """Start a file as PROVENANCE says, then resume it with changes. Returns the lines reported."""
    AskedCache(path, CORPUS, PROVENANCE, first=0, total=6, threads=2).create(feature_size=3)
    asked = AskedCache(path, corpus, {**PROVENANCE, **changed}, first=0, total=total, threads=asked_threads)
    lines: list[str] = []
    asked.check(open_cache(path, allow_partial=True), report=lines.append)
    return lines


def test_the_same_settings_resume(tmp_path: Path) -> None:
    assert check(tmp_path / "a.h5") == []


@pytest.mark.parametrize("name", [name for name in FIXED_SETTINGS if name != "preprocessing"])
def test_every_setting_that_alters_features_is_refused_by_name(tmp_path: Path, name: str) -> None:
    was = PROVENANCE[name]
    with pytest.raises(CacheError, match=rf"with different settings: {name} was {was}, now other\. Give the same"):
        check(tmp_path / "a.h5", **{name: "other"})


def test_the_field_of_the_preprocessing_is_named(tmp_path: Path) -> None:
    with pytest.raises(CacheError, match=r"settings: resize was 70, now 80\."):
        check(tmp_path / "a.h5", preprocessing='{"crop": 64, "resize": 80}')


def test_threads_count_only_if_given(tmp_path: Path) -> None:
    with pytest.raises(CacheError, match=r"threads was 2, now 3\."):
        check(tmp_path / "a.h5", asked_threads=3, threads=3)
    check(tmp_path / "b.h5", asked_threads=None, threads=3)


@pytest.mark.parametrize(
    ("images", "total", "says"),
    [
        (IMAGES[:4], 6, "images was 6 of 6 from number 0, now 4 of 6 from number 0"),
        (IMAGES, 9, "now 6 of 9"),
        (IMAGES[::-1], 6, "the captions or the list of pictures"),
        ((*IMAGES[:5], replace(IMAGES[5], id="x.jpg")), 6, "the captions or the list of pictures"),
        ((*IMAGES[:5], replace(IMAGES[5], sentences=("other",))), 6, "the captions or the list of pictures"),
    ],
)
def test_other_pictures_and_captions_are_refused(
    tmp_path: Path, images: tuple[Image, ...], total: int, says: str
) -> None:
    with pytest.raises(CacheError, match=says):
        check(tmp_path / "a.h5", replace(CORPUS, images=images), total=total)


@pytest.mark.parametrize("name", NOTED_SETTINGS)
def test_other_versions_and_devices_are_noted(tmp_path: Path, name: str) -> None:
    lines = check(tmp_path / "a.h5", **{name: "newer"})
    assert lines == [f"note: started with {name} as it was, now newer: the last bits of features may differ"]

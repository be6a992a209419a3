"""--reuse: what is computed again after a data set has changed, and that the result is that of a fresh extraction."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mrnn.data.cache import open_cache
from mrnn.data.captions import Corpus, Image
from mrnn.data.errors import CacheError
from mrnn.extract.extraction import Extraction, extract_dataset
from tests.data.cache_v1 import write_version_1
from tests.extract.test_regions import SMALL, corpus

__all__ = ["corpus"]
WHOLE = replace(SMALL, regions=None)


def extract(corpus: Corpus, path: Path, config: Any = WHOLE, **options: Any) -> Extraction:
    return extract_dataset(corpus, path, config=config, **options)


def test_corrected_captions_and_other_splits_compute_nothing(corpus: Corpus, tmp_path: Path) -> None:
    old = extract(corpus, tmp_path / "old.h5").cache.path
    images = tuple(replace(image, sentences=("a corrected one",), split="train") for image in corpus.images)
    changed = replace(corpus, images=images)
    made = extract(changed, tmp_path / "new.h5", reuse=[old])
    assert (made.computed, made.reused) == (9, 9)
    assert extract(changed, tmp_path / "fresh.h5").reused == 0
    assert (tmp_path / "new.h5").read_bytes() == (tmp_path / "fresh.h5").read_bytes()


def test_added_removed_replaced_renamed_and_moved_pictures(corpus: Corpus, tmp_path: Path) -> None:
    """A picture's place in its batch changes too; here, on the CPU, that moves no bit beyond the stated tolerance."""
    old = extract(corpus, tmp_path / "old.h5").cache.path
    root = tmp_path / "elsewhere"
    root.mkdir()
    for n in range(9):
        (tmp_path / f"{n}.png").rename(root / f"{n}.png")
    (root / "3.png").write_bytes((root / "8.png").read_bytes())  # replaced by another that is known
    (root / "4.png").write_bytes((root / "4.png").read_bytes() + b"\0")  # the same pixels, other bytes
    (root / "added.png").write_bytes((root / "0.png").read_bytes() + b"\0")
    (root / "5.png").rename(root / "renamed.png")
    images = [image for image in corpus.images if image.id not in ("1.png", "5.png")]
    images += [Image(f"{name}.png", f"{name}.png", "val", ("a",)) for name in ("added", "renamed")]
    changed = Corpus("folder", root, tuple(images))
    made = extract(changed, tmp_path / "new.h5", reuse=[old])
    assert (made.computed, made.reused) == (9, 7)
    fresh = extract(changed, tmp_path / "fresh.h5").cache
    np.testing.assert_allclose(made.cache.features, fresh.features, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(made.cache.picture_hashes, fresh.picture_hashes)
    np.testing.assert_array_equal(made.cache.regions.rectangles, fresh.regions.rectangles)


@pytest.mark.parametrize("features", ["crop", "roi"])
@pytest.mark.parametrize("regions", ["grid", "detector:yolox-nano:random:0"])
def test_regions_are_reused(corpus: Corpus, tmp_path: Path, regions: str, features: str) -> None:
    config = replace(SMALL, regions=regions, region_features=features)
    old = extract(corpus, tmp_path / "old.h5", config).cache.path
    bare = replace(corpus, images=tuple(replace(image, sentences=("other",)) for image in corpus.images))
    assert extract(bare, tmp_path / "new.h5", config, reuse=[old]).reused == 9
    extract(bare, tmp_path / "fresh.h5", config)
    assert (tmp_path / "new.h5").read_bytes() == (tmp_path / "fresh.h5").read_bytes()


def test_given_boxes_are_compared_one_picture_at_a_time(corpus: Corpus, tmp_path: Path) -> None:
    config = replace(SMALL, regions="boxes:annotated")
    old = extract(corpus, tmp_path / "old.h5", config).cache.path
    first = corpus.images[0]
    moved = replace(first, boxes=(replace(first.boxes[0], left=11), *first.boxes[1:]))
    changed = replace(corpus, images=(moved, *corpus.images[1:]))
    assert extract(changed, tmp_path / "new.h5", config, reuse=[old]).reused == 8
    extract(changed, tmp_path / "fresh.h5", config)
    assert (tmp_path / "new.h5").read_bytes() == (tmp_path / "fresh.h5").read_bytes()


def test_damaged_and_failed_rows_are_computed_again(corpus: Corpus, tmp_path: Path) -> None:
    whole = (corpus.root / "6.png").read_bytes()
    (corpus.root / "6.png").write_bytes(b"<html>")
    cache = extract(corpus, tmp_path / "old.h5").cache
    (corpus.root / "6.png").write_bytes(whole)
    content = bytearray(cache.path.read_bytes())
    content[cache.offsets["features"] + 2 * cache.feature_size * 4] ^= 1
    cache.path.write_bytes(content)
    assert extract(corpus, tmp_path / "new.h5", reuse=[cache.path]).reused == 7
    extract(corpus, tmp_path / "fresh.h5")
    assert (tmp_path / "new.h5").read_bytes() == (tmp_path / "fresh.h5").read_bytes()


def test_a_cache_can_be_replaced_by_its_own_rows(corpus: Corpus, tmp_path: Path) -> None:
    path = extract(corpus, tmp_path / "a.h5").cache.path
    grown = replace(corpus, images=(*corpus.images, replace(corpus.images[0], id="again.png")))
    made = extract(grown, path, overwrite=True, reuse=[path])
    assert (made.computed, made.reused) == (10, 10)
    assert len(open_cache(path).images) == 10


def test_other_settings_and_older_schemas_are_refused(corpus: Corpus, tmp_path: Path) -> None:
    old = extract(corpus, tmp_path / "old.h5").cache.path
    with pytest.raises(CacheError, match=r"cannot be reused: it has another preprocessing \(preprocessing was"):
        extract(corpus, tmp_path / "new.h5", replace(WHOLE, crop=60), reuse=[old])
    with pytest.raises(CacheError, match="another dtype"):
        extract(corpus, tmp_path / "new.h5", replace(WHOLE, dtype="float16"), reuse=[old])
    with pytest.raises(CacheError, match="another regions"):
        extract(corpus, tmp_path / "new.h5", SMALL, reuse=[old])
    assert not (tmp_path / "new.h5").exists()
    write_version_1(tmp_path / "v1.h5", corpus, np.zeros((9, 4), np.float32))
    with pytest.raises(CacheError, match="cannot be reused"):
        extract(corpus, tmp_path / "new.h5", reuse=[tmp_path / "v1.h5"])

"""Regions from a picture to the cache: where they are, what their features are, and that nothing depends on chance."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as Picture
from torch import nn

from mrnn.data.cache import FeatureCache, open_cache
from mrnn.data.captions import Box, Corpus, Image
from mrnn.data.errors import CorpusError, SettingError, Stopped
from mrnn.data.merge import merge_caches
from mrnn.data.regions import NO_CLASS
from mrnn.data.stopping import StopRequest
from mrnn.extract import sampling
from mrnn.extract.backbones import Backbone, build_backbone
from mrnn.extract.config import ExtractionConfig
from mrnn.extract.detectors import build_detector, parse_detector
from mrnn.extract.extraction import extract_dataset
from mrnn.extract.images import decode_picture, frame, load_image
from mrnn.extract.regions import GRID_MOST, Grid, open_source
from mrnn.extract.roi import PooledRegions, default_side, pool, split_network
from mrnn.extract.runner import rows_of_pictures
from mrnn.extract.sampling import CONTEXT, WholePictures, context_box, cut_region

CPU = torch.device("cpu")
SMALL = ExtractionConfig(
    backbone="torchvision:squeezenet1_1",
    weights="random:0",
    resize=64,
    crop=64,
    batch_size=8,
    threads=1,
    device="cpu",
    dtype="float32",
    regions="grid",
    regions_per_image=3,
)


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    """Nine pictures of different shapes; the even ones have drawn boxes, one of which leaves the picture."""
    draw = np.random.default_rng(0)
    images = []
    for n in range(9):
        coarse = Picture.fromarray(draw.integers(0, 256, (6, 6, 3), dtype=np.uint8))
        coarse.resize((90 + 10 * n, 150 - 10 * n), Picture.Resampling.BICUBIC).save(tmp_path / f"{n}.png")
        boxes = (
            (Box(10, 20, 30, 40, "a thing"), Box(50, 5, 900, 20, "a bar"), Box(10, 20, 30, 40, "it"))
            if n % 2 == 0
            else ()
        )
        images.append(Image(f"{n}.png", f"{n}.png", ("train", "val", "test")[n % 3], ("a thing",), boxes))
    return Corpus("folder", tmp_path, tuple(images))


def extracted(corpus: Corpus, path: Path, **settings: Any) -> FeatureCache:
    options = {
        name: settings.pop(name) for name in ("shard", "limit", "stop", "reuse", "overwrite") if name in settings
    }
    return extract_dataset(corpus, path, config=replace(SMALL, **settings), **options).cache


def small_backbone() -> Backbone:
    return build_backbone("torchvision:squeezenet1_1", weights="random:0", overrides={"resize": 64, "crop": 64})


# Where they are


def test_the_grid_tiles_every_picture_alike() -> None:
    cells = Grid(GRID_MOST).find("any", (300, 200), None)
    assert len(cells.valid) == GRID_MOST
    corners = cells.rectangles.astype(float)
    corners[:, 2:] += corners[:, :2]
    assert corners.min() >= 0
    assert (corners.max(0) <= (300.001, 200.001, 300.001, 200.001)).all()
    assert len(np.unique(cells.rectangles.round(3), axis=0)) == GRID_MOST
    assert np.all(np.diff(np.prod(cells.rectangles[:, 2:], axis=1)[[0, 6, 10, 19, 44]]) < 0), "from large to small"
    half = Grid(GRID_MOST).find("any", (150, 100), None)
    np.testing.assert_allclose(half.rectangles * 2, cells.rectangles, rtol=1e-6)


def test_annotated_boxes_are_taken_once_and_cut_to_the_picture(corpus: Corpus, tmp_path: Path) -> None:
    cache = extracted(corpus, tmp_path / "a.h5", regions="boxes:annotated")
    rectangles = cache.regions.rectangles.reshape(9, 4, 4)
    assert rectangles[0].tolist() == [[0, 0, 90, 150], [10, 20, 30, 40], [50, 5, 40, 20], [0, 0, 0, 0]]
    valid = cache.regions.valid.reshape(9, 4)
    assert valid[0].tolist() == [1, 1, 1, 0]
    assert valid[1].tolist() == [1, 0, 0, 0]
    rows = cache.features.reshape(9, 4, -1)
    assert rows[valid == 1].any(1).all()
    assert not rows[valid == 0].any()
    bare = replace(corpus, images=tuple(replace(image, boxes=()) for image in corpus.images))
    with pytest.raises(CorpusError, match="has no annotated boxes; scenes"):
        extracted(bare, tmp_path / "b.h5", regions="boxes:annotated")


def test_boxes_of_a_file_come_best_first(corpus: Corpus, tmp_path: Path) -> None:
    results = [
        {"image_id": "1.png", "bbox": [1, 2, 30, 40], "score": 0.2, "category_id": 7},
        {"image_id": "1.png", "bbox": [5, 6, 20, 30], "score": 0.9, "category_id": 3},
        {"image_id": "1.png", "bbox": [500, 6, 20, 30], "score": 1.0, "category_id": 3},
    ]
    (tmp_path / "results.json").write_text(json.dumps(results))
    cache = extracted(corpus, tmp_path / "a.h5", regions=f"boxes:{tmp_path / 'results.json'}")
    rows = cache.regions[slice(4, 8)]
    assert rows.rectangles.tolist() == [[0, 0, 100, 140], [5, 6, 20, 30], [1, 2, 30, 40], [0, 0, 0, 0]]
    np.testing.assert_allclose(rows.scores, [1, 0.9, 0.2, 0], rtol=1e-6)
    assert rows.classes.tolist() == [NO_CLASS, 3, 7, NO_CLASS]
    table = "image,left,top,width,height,score\n1.png,1,2,30,40,0.2\n1.png,5,6,20,30,0.9\n1.png,500,6,20,30,1\n"
    (tmp_path / "boxes.csv").write_text(table)
    same = extracted(corpus, tmp_path / "b.h5", regions=f"boxes:{tmp_path / 'boxes.csv'}")
    np.testing.assert_array_equal(same.regions.rectangles, cache.regions.rectangles)
    np.testing.assert_array_equal(same.features, cache.features)


def test_sources_are_joined(corpus: Corpus, tmp_path: Path) -> None:
    (tmp_path / "a+b.csv").write_text("image,left,top,width,height,score\n1.png,1,2,30,40,0.2\n")
    text = f"boxes:{tmp_path / 'a+b.csv'}+grid+boxes:annotated"
    cache = extracted(corpus, tmp_path / "a.h5", regions=text, regions_per_image=2)
    rows = cache.regions.rectangles.reshape(9, 7, 4)
    cells = Grid(2).find("any", (90, 150), None).rectangles.tolist()
    assert rows[0].tolist() == [[0, 0, 90, 150], *cells, [10, 20, 30, 40], [50, 5, 40, 20], [0] * 4, [0] * 4]
    assert rows[1, 1].tolist() == [1, 2, 30, 40]
    assert cache.regions.valid.reshape(9, 7).sum(1).tolist() == [5, 4, 5, 3, 5, 3, 5, 3, 5]
    assert cache.provenance["regions"] == "boxes:file+grid+boxes:annotated"
    assert [list(each) for each in json.loads(str(cache.provenance["region_settings"]))] == [["sha256"], ["cells"], []]
    with pytest.raises(SettingError, match="regions may come from one detector, not from two"):
        open_source("detector:yolox-nano:random:0+detector:yolox-nano:random:1", corpus, count=3, device=CPU)


@pytest.mark.parametrize(
    "text", ["", "grids", "grid+", "grid+grids", "detector:", "detector:none", "boxes:", "detector:torchvision:none"]
)
def test_sources_that_cannot_be(corpus: Corpus, text: str) -> None:
    with pytest.raises(SettingError, match=r"regions are grid|there is no detector"):
        open_source(text, corpus, count=3, device=CPU)


def test_detectors_by_name() -> None:
    assert parse_detector("yolox-nano:a/b.pt") == ("yolox-nano", "a/b.pt")
    assert parse_detector("torchvision:fasterrcnn_resnet50_fpn_v2") == (
        "torchvision:fasterrcnn_resnet50_fpn_v2",
        "pretrained",
    )
    assert parse_detector("yolox-nano:random:3") == ("yolox-nano", "random:3")


# What their features are


def test_a_crop_has_the_features_of_the_file_that_is_cut_out(corpus: Corpus, tmp_path: Path) -> None:
    cache = extracted(corpus, tmp_path / "a.h5", regions_per_image=19)
    files, rows = [], []
    for n in (0, 4, 8):
        with Picture.open(tmp_path / f"{n}.png") as file:
            pixels = file.convert("RGB")
        for region in range(1, 20):
            box = context_box(cache.regions.rectangles[n * 20 + region], 64)
            if box[0] >= 0 and box[1] >= 0 and box[2] <= pixels.width and box[3] <= pixels.height:
                files.append(tmp_path / f"cut-{n}-{region}.png")
                pixels.crop(box).save(files[-1])
                rows.append(n * 20 + region)
    assert len(rows) >= 3
    backbone = small_backbone()
    backbone.preprocessing = replace(backbone.preprocessing, resize=64, mode="warp")
    alone = rows_of_pictures(WholePictures(backbone, batch_size=8, device=CPU, precision="float32"), files, threads=1)
    np.testing.assert_allclose(cache.features[rows], alone.features[:, 0], rtol=1e-5, atol=1e-6)


def test_a_crop_has_sixteen_pixels_around_it_and_the_mean_colour_beyond_the_picture() -> None:
    preprocessing = small_backbone().preprocessing
    pixels = Picture.new("RGB", (200, 200), (255, 0, 0))
    pixels.paste((0, 0, 255), (64, 64, 96, 96))
    inner = cut_region(pixels, np.array([64, 64, 32, 32]), preprocessing)
    assert (inner[CONTEXT : 64 - CONTEXT, CONTEXT : 64 - CONTEXT] == (0, 0, 255)).all()
    assert (inner[: CONTEXT - 1] == (255, 0, 0)).all()
    outer = cut_region(pixels, np.array([0, 0, 32, 32]), preprocessing)
    assert (outer[: CONTEXT - 1] == [round(255 * m) for m in preprocessing.mean]).all()


def test_row_0_of_crops_is_the_whole_picture_as_without_regions(corpus: Corpus, tmp_path: Path) -> None:
    whole = extracted(corpus, tmp_path / "a.h5", regions=None)
    cache = extracted(corpus, tmp_path / "b.h5")
    np.testing.assert_allclose(cache.features[::4], whole.features, rtol=1e-5, atol=1e-6)
    assert whole.rows_per_image == 1
    assert whole.regions.rectangles[0].tolist() == [0, 0, 90, 150]


def test_row_0_of_roi_is_the_network_on_the_warped_picture(corpus: Corpus, tmp_path: Path) -> None:
    cache = extracted(corpus, tmp_path / "a.h5", region_features="roi", roi_size=96)
    whole = extracted(corpus, tmp_path / "b.h5", regions=None, warp=True, resize=96, crop=96)
    np.testing.assert_allclose(cache.features[::4], whole.features, rtol=1e-5, atol=1e-6)
    assert cache.provenance["preprocessing"] == whole.provenance["preprocessing"]


@pytest.mark.parametrize("name", ["alexnet", "torchvision:squeezenet1_1", "torchvision:resnet18"])
def test_a_region_that_is_the_whole_picture_has_the_networks_output(name: str) -> None:
    """At the network's own size: the map is then pooled cell by cell."""
    backbone = build_backbone(name, weights="random:0")
    side = backbone.preprocessing.crop
    trunk, rest, size = split_network(backbone)
    batch = torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        whole = torch.tensor([[[0.0, 0.0, 1.0, 1.0]]]).repeat(2, 1, 1)
        torch.testing.assert_close(rest(pool(trunk(batch), whole, size)), backbone.network(batch), rtol=1e-5, atol=1e-6)


def test_pooling_takes_the_place_of_the_region_on_the_map() -> None:
    """A map that is a plane is averaged to its value at the middle of every bin."""
    rows, columns = torch.meshgrid(torch.arange(20.0), torch.arange(30.0), indexing="ij")
    plane = torch.stack([columns + 0.5, rows + 0.5])[None]
    pooled = pool(plane, torch.tensor([[[0.2, 0.1, 0.8, 0.6]]]), (2, 3))[0]
    torch.testing.assert_close(pooled[0, 0], torch.tensor([9.0, 15.0, 21.0]))
    torch.testing.assert_close(pooled[1, :, 0], torch.tensor([4.5, 9.5]))


def test_networks_that_do_not_pool_a_map_are_refused_for_roi() -> None:
    backbone = build_backbone("torchvision:mobilenet_v3_small", weights="random:0")
    backbone.network.classifier[0] = nn.Linear(576, 1024)
    with pytest.raises(SettingError, match="use --region-features crop"):
        split_network(backbone)


def test_the_enlarged_picture_is_twice_the_size_for_alexnet_only() -> None:
    assert default_side(build_backbone("alexnet", weights="random:0")) == 448
    assert default_side(build_backbone("torchvision:squeezenet1_1", weights="random:0")) == 320


def test_a_jpeg_is_not_reduced_where_regions_are_cut_out(tmp_path: Path) -> None:
    Picture.new("RGB", (2000, 1600)).save(tmp_path / "large.jpg")
    data = (tmp_path / "large.jpg").read_bytes()
    reduced = decode_picture(data, least=128)
    assert reduced.pixels.size < reduced.size == (2000, 1600)
    assert sampling.CroppedRegions.least is None
    assert decode_picture(data, least=None).pixels.size == (2000, 1600)


# What the cache promises


@pytest.mark.parametrize("features", ["crop", "roi"])
@pytest.mark.parametrize(("regions", "each"), [("grid+detector:yolox-nano:random:0", 1), ("boxes:annotated", 3)])
def test_interrupted_and_sharded_equal_the_whole(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, regions: str, each: int, features: str
) -> None:
    settings = {"regions": regions, "region_features": features, "regions_per_image": each}
    (tmp_path / "2.png").write_bytes(b"<html>")
    extracted(corpus, tmp_path / "whole.h5", **settings)
    whole = (tmp_path / "whole.h5").read_bytes()
    request = StopRequest()
    compute = sampling.CroppedRegions.compute if features == "crop" else PooledRegions.compute

    def stop_at_once(self: Any, *arguments: Any) -> np.ndarray:
        request.receive(15, None)
        return compute(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(sampling.CroppedRegions if features == "crop" else PooledRegions, "compute", stop_at_once)
        with pytest.raises(Stopped, match="2 of 9 images are done"):
            extracted(corpus, tmp_path / "a.h5", stop=request, **settings)
    extracted(corpus, tmp_path / "a.h5", **settings)
    assert (tmp_path / "a.h5").read_bytes() == whole
    shards = [tmp_path / f"{part}-of-3.h5" for part in range(3)]
    for part, path in enumerate(shards):
        extracted(corpus, path, shard=(part, 3), **settings)
    merge_caches(tmp_path / "merged.h5", shards)
    assert (tmp_path / "merged.h5").read_bytes() == whole
    assert "web page" in open_cache(tmp_path / "merged.h5").reasons["2.png"]


def test_detections_do_not_depend_on_the_batch(corpus: Corpus, tmp_path: Path) -> None:
    settings = {"regions": "detector:yolox-nano:random:0", "region_features": "roi"}
    one = extracted(corpus, tmp_path / "a.h5", batch_size=4, **settings)
    other = extracted(corpus, tmp_path / "b.h5", batch_size=20, workers=1, **settings)
    for name, table in one.regions.tables().items():
        np.testing.assert_array_equal(table, other.regions.tables()[name], err_msg=name)
    np.testing.assert_allclose(one.features, other.features, rtol=1e-4, atol=1e-5)


def test_the_provenance_says_where_regions_come_from(corpus: Corpus, tmp_path: Path) -> None:
    provenance = extracted(corpus, tmp_path / "a.h5", regions="detector:yolox-nano:random:0").provenance
    assert provenance["regions"] == "detector:yolox-nano"
    assert provenance["region_weights"] == "random:0"
    assert len(str(provenance["region_weights_sha256"])) == 64
    assert json.loads(str(provenance["region_classes"]))[0] == "person"
    assert (provenance["regions_per_image"], provenance["region_features"]) == (3, "crop")
    assert "regions" not in extracted(corpus, tmp_path / "b.h5", regions=None).provenance
    with pytest.raises(Exception, match="regions was grid, now boxes:annotated"):
        extracted(corpus, tmp_path / "c.h5")
        extracted(corpus, tmp_path / "c.h5", regions="boxes:annotated")


def test_torchvision_detectors(corpus: Corpus) -> None:
    detector = build_detector("torchvision:ssdlite320_mobilenet_v3_large", weights="random:0", device=CPU)
    assert detector.classes[1] == "person"
    with Picture.open(corpus.root / "3.png") as file:
        picture = file.convert("RGB")
    found = detector.find(picture, count=5)
    assert len(found.valid) <= 5
    assert (np.diff(found.scores) <= 0).all()
    assert (found.rectangles[:, :2] + found.rectangles[:, 2:] <= np.array(picture.size) + 0.01).all()


def test_frames_of_a_reduced_picture_are_those_of_load_image(tmp_path: Path) -> None:
    Picture.new("RGB", (300, 200), (9, 8, 7)).save(tmp_path / "a.png")
    preprocessing = small_backbone().preprocessing
    picture = decode_picture((tmp_path / "a.png").read_bytes(), least=None)
    np.testing.assert_array_equal(frame(picture, preprocessing), load_image(tmp_path / "a.png", preprocessing))

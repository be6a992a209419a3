"""Several layers of one pass, any module of a network, and the mean over an image and its mirror image."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as Picture
from torch import Tensor, nn

from mrnn.data.captions import Corpus
from mrnn.data.errors import CacheError, SettingError, Stopped
from mrnn.data.merge import merge_caches
from mrnn.data.stopping import StopRequest
from mrnn.extract.backbones import build_backbone
from mrnn.extract.backbones.layers import pool_output
from mrnn.extract.images import load_image, normalise
from mrnn.extract.network import BatchNetwork
from mrnn.extract.sampling import WholePictures
from tests.extract.test_regions import CPU, corpus, extracted

__all__ = ["corpus"]
SEED = "random:0"
SQUEEZENET = "torchvision:squeezenet1_1"
LAYERS = "features.3+penultimate+features.5"


def batch(side: int = 64) -> Tensor:
    return torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(1))


def run(network: nn.Module, pixels: Tensor) -> Tensor:
    with torch.no_grad():
        values: Tensor = network(pixels)
    return values


# Several layers


@pytest.mark.parametrize("regions", [None, "grid"])
def test_layers_lie_side_by_side_as_each_alone(corpus: Corpus, tmp_path: Path, regions: str | None) -> None:
    together = extracted(corpus, tmp_path / "all.h5", layer=LAYERS, regions=regions)
    alone = [extracted(corpus, tmp_path / f"{layer}.h5", layer=layer, regions=regions) for layer in LAYERS.split("+")]
    np.testing.assert_array_equal(together.features, np.concatenate([each.features for each in alone], 1))
    assert [each.feature_size for each in alone] == [128, 512, 128]
    assert together.provenance["layer"] == LAYERS
    assert together.provenance["layer_sizes"] == "128+512+128"
    usual = extracted(corpus, tmp_path / "usual.h5", regions=regions)
    np.testing.assert_array_equal(alone[1].features, usual.features)
    assert "layer_sizes" not in usual.provenance
    assert "views" not in usual.provenance


def test_the_named_layers_of_alexnet_beside_its_modules() -> None:
    """The convolution is taken as it is, although the rectifier behind it works in place."""
    backbone = build_backbone("alexnet", weights=SEED, layer="fc6 + features.0+fc7+features.12", overrides={"crop": 64})
    values = run(backbone.network, batch())
    first, named, second, last = values.split((4096, 64, 4096, 256), 1)
    plain = build_backbone("alexnet", weights=SEED, overrides={"crop": 64}).network
    features: Any = plain.get_submodule("features")
    torch.testing.assert_close(named, run(features[0], batch()).mean((2, 3)), rtol=0, atol=0)
    assert (named < 0).any()
    torch.testing.assert_close(last, run(features, batch()).mean((2, 3)), rtol=0, atol=0)
    torch.testing.assert_close(second, run(plain, batch()), rtol=0, atol=0)
    alone = build_backbone("alexnet", weights=SEED, layer="fc6", overrides={"crop": 64})
    torch.testing.assert_close(first, run(alone.network, batch()), rtol=0, atol=0)
    assert (backbone.layer, backbone.relu) == ("fc6+features.0+fc7+features.12", "none")
    both = build_backbone("alexnet", weights=SEED, layer="fc6+fc7", overrides={"crop": 64})
    assert (both.relu, both.feature_size) == ("post", 8192)


def test_modules_of_timm() -> None:
    pytest.importorskip("timm", reason="the extra timm is not installed")
    backbone = build_backbone("timm:resnet18", weights=SEED, layer="layer2.1+penultimate", overrides={"crop": 64})
    middle, last = run(backbone.network, batch()).split((128, 512), 1)
    whole: Any = build_backbone("timm:resnet18", weights=SEED, overrides={"crop": 64}).network
    torch.testing.assert_close(last, run(whole, batch()), rtol=0, atol=0)
    stem = nn.Sequential(whole.conv1, whole.bn1, whole.act1, whole.maxpool, whole.layer1, whole.layer2)
    torch.testing.assert_close(middle, run(stem, batch()).mean((2, 3)), rtol=0, atol=0)


def test_places_are_averaged_whatever_their_axes() -> None:
    values = torch.randn(2, 5, 4, 4, generator=torch.Generator().manual_seed(0))
    expected = values.mean((2, 3))
    for output in (values, values.permute(0, 2, 3, 1), values.flatten(2).transpose(1, 2), expected):
        torch.testing.assert_close(pool_output(output, images=2, name="a"), expected)
    copy = pool_output(expected, images=2, name="a")
    expected.zero_()
    assert copy.all(), "what is done in place afterwards changes nothing"
    for wrong in (values[:1], values[0, 0, 0], (values,), None):
        with pytest.raises(SettingError, match="layer a returns .* for 2 images, not a vector or a map for each"):
            pool_output(wrong, images=2, name="a")


@pytest.mark.parametrize(
    ("name", "layer", "message"),
    [
        (SQUEEZENET, "feature.3", "squeezenet1_1 has no layer 'feature.3'; did you mean features.3 or"),
        (SQUEEZENET, "xyzzy", "there is penultimate, and any module of the network: features, or one inside these"),
        ("alexnet", "fc7+classifier.6", "classifier.6 of alexnet belongs to the class scores, which are cut off; take"),
        (SQUEEZENET, "classifier", "layer classifier of torchvision:squeezenet1_1 belongs to the class scores"),
        ("alexnet", "fc7++fc6", r"layers are written A\+B, not 'fc7\+\+fc6'"),
        ("alexnet", "", "layers are written"),
        ("alexnet", "fc6+fc7+fc6", r"layer 'fc6' is named twice in 'fc6\+fc7\+fc6'"),
        ("torchvision:resnet18", "layer1.0.relu", "layer layer1.0.relu runs 2 times"),
    ],
)
def test_layers_that_cannot_be_taken(name: str, layer: str, message: str) -> None:
    with pytest.raises(SettingError, match=message):
        build_backbone(name, weights=SEED, layer=layer)


def test_roi_refuses_earlier_layers(corpus: Corpus, tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=r"last map only; for layer features\.3\+penultimate use crop"):
        extracted(corpus, tmp_path / "a.h5", layer="features.3+penultimate", region_features="roi")
    assert not (tmp_path / "a.h5").exists()


# Views


def mirrored(corpus: Corpus, folder: Path) -> Corpus:
    """The same pictures and boxes, left and right exchanged."""
    folder.mkdir()
    images = []
    for image in corpus.images:
        with Picture.open(corpus.root / image.path) as picture:
            width = picture.width
            picture.transpose(Picture.Transpose.FLIP_LEFT_RIGHT).save(folder / image.path)
        boxes = tuple(replace(box, left=width - box.left - box.width) for box in image.boxes)
        images.append(replace(image, boxes=boxes))
    return replace(corpus, root=folder, images=tuple(images))


@pytest.mark.parametrize("regions", [None, "crop", "roi"])
def test_flip_is_the_mean_with_mirrored_files(corpus: Corpus, tmp_path: Path, regions: str | None) -> None:
    """Up to the rounding of bytes when a mirrored file is resized, and of whole pixels when a region is cut out."""
    settings = {"warp": True, "regions": regions and "boxes:annotated", "region_features": regions}
    flip = extracted(corpus, tmp_path / "flip.h5", views="flip", **settings)
    plain = extracted(corpus, tmp_path / "plain.h5", **settings)
    mirror = extracted(mirrored(corpus, tmp_path / "mirrored"), tmp_path / "mirror.h5", **settings)
    expected = (plain.features[:] + mirror.features[:]) / 2
    distance = np.linalg.norm(plain.features[:] - mirror.features[:])
    assert np.linalg.norm(flip.features[:] - expected) < 0.05 * distance
    assert flip.provenance["views"] == "flip"
    assert not flip.features[flip.regions.valid == 0].any()


def test_flip_is_exact_on_equal_bytes() -> None:
    backbone = build_backbone(SQUEEZENET, weights=SEED, layer=LAYERS, overrides={"crop": 64})
    pixels = torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    plain = BatchNetwork(backbone, batch_size=2, device=CPU, precision="float32")
    expected = (plain(pixels) + plain(pixels.flip(2))) / 2
    backbone.views = "flip"
    both = BatchNetwork(backbone, batch_size=2, device=CPU, precision="float32")
    np.testing.assert_array_equal(both(pixels), expected)
    np.testing.assert_array_equal(both(pixels.flip(2)), expected)


# Recorded and compared


SEVERAL: dict[str, Any] = {"layer": LAYERS, "views": "flip", "regions": None}


def test_killed_resumed_sharded_and_reused_give_the_same_bytes(corpus: Corpus, tmp_path: Path) -> None:
    settings = {**SEVERAL, "batch_size": 2}
    whole = extracted(corpus, tmp_path / "whole.h5", **settings).path.read_bytes()
    request = StopRequest()
    compute = WholePictures.compute

    def stop_at_once(self: WholePictures, *arguments: Any) -> np.ndarray:
        request.receive(15, None)
        return compute(self, *arguments)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Stopped):
        patch.setattr(WholePictures, "compute", stop_at_once)
        extracted(corpus, tmp_path / "killed.h5", stop=request, **settings)
    assert extracted(corpus, tmp_path / "killed.h5", **settings).path.read_bytes() == whole
    parts = [extracted(corpus, tmp_path / f"{n}.h5", shard=(n, 2), **settings).path for n in range(2)]
    assert merge_caches(tmp_path / "merged.h5", parts).path.read_bytes() == whole
    reused = extracted(corpus, tmp_path / "reused.h5", reuse=[tmp_path / "whole.h5"], **settings)
    assert reused.path.read_bytes() == whole


@pytest.mark.parametrize(
    ("other", "says"),
    [
        ({"views": "none"}, "views was flip, now none"),
        ({"layer": "penultimate+features.3+features.5"}, r"layer was features\.3\+penultimate\+features\.5, now penul"),
    ],
)
def test_other_layers_and_views_are_refused(corpus: Corpus, tmp_path: Path, other: dict[str, str], says: str) -> None:
    first = extracted(corpus, tmp_path / "a.h5", shard=(0, 2), **SEVERAL).path
    with pytest.raises(CacheError, match=f"started with different settings: {says}"):
        extracted(corpus, first, shard=(0, 2), **{**SEVERAL, **other})
    with pytest.raises(CacheError, match=f"cannot be reused: it has another {next(iter(other))}"):
        extracted(corpus, tmp_path / "b.h5", reuse=[first], **{**SEVERAL, **other})
    second = extracted(corpus, tmp_path / "c.h5", shard=(1, 2), **{**SEVERAL, **other}).path
    with pytest.raises(CacheError, match=f"they differ in {next(iter(other))}"):
        merge_caches(tmp_path / "d.h5", [first, second])


# The real network


def test_the_stages_of_efficientnet_on_a_photograph(real_data: Path, real_weights: Path) -> None:
    file = real_weights / "efficientnet-lite0" / "tf_efficientnet_lite0.safetensors"
    name, layer = "timm:tf_efficientnet_lite0", "blocks.4+blocks.5+penultimate"
    backbone = build_backbone(name, weights=str(file), layer=layer)
    assert backbone.provenance()["layer_sizes"] == "112+192+1280"
    pixels = load_image(real_data / "neuraltalk-example" / "koala.jpg", backbone.preprocessing)
    image = normalise(torch.from_numpy(pixels.copy())[None], backbone.preprocessing, CPU)
    network: Any = build_backbone(name, weights=str(file)).network
    stages, values = [], network.bn1(network.conv_stem(image))
    for block in network.blocks:
        values = run(block, values)
        stages.append(values.mean((2, 3)))
    expected = torch.cat([stages[4], stages[5], run(network, image)], 1)
    torch.testing.assert_close(run(backbone.network, image), expected, rtol=0, atol=0)

"""The layer taken, the weights loaded, and the whole way from a photograph to a class."""

import re
import socket
import subprocess
import sys
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn
from torchvision.models import get_model, get_model_weights

from mrnn.data.errors import WeightsError
from mrnn.extract.backbones import build_backbone, check_backbone, timm_models, torchvision_models, weights
from mrnn.extract.images import load_image, normalise

SEED = "random:0"
CPU = torch.device("cpu")
timm = pytest.importorskip("timm", reason="the extra timm is not installed")
huggingface_hub = pytest.importorskip("huggingface_hub")


def pictures(count: int, side: int = 224) -> torch.Tensor:
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(1))


def run(network: nn.Module, batch: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return network(batch)


@pytest.mark.parametrize(("layer", "cut"), [("fc6", 3), ("fc7", 6)])
def test_alexnet_equals_torchvision_run_by_hand(layer: str, cut: int) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = get_model("alexnet", weights=None).eval()
    backbone = build_backbone("alexnet", weights=SEED, layer=layer)
    batch = pictures(2)
    by_hand = run(model.classifier[:cut], torch.flatten(run(model.avgpool, run(model.features, batch)), 1))
    features = run(backbone.network, batch)
    torch.testing.assert_close(features, by_hand, rtol=0, atol=0)
    assert features.shape == (2, backbone.feature_size) == (2, 4096)
    assert (features >= 0).all()
    assert (features == 0).any()
    assert backbone.relu == "post"
    assert backbone.layer == layer


@pytest.mark.parametrize(("layer", "widths"), [("fc6", [4096]), ("fc7", [4096, 4096])])
def test_layers_behind_the_cut_are_not_there(layer: str, widths: list[int]) -> None:
    network = build_backbone("alexnet", weights=SEED, layer=layer).network
    assert [module.out_features for module in network.modules() if isinstance(module, nn.Linear)] == widths


def test_vgg16_fc7_is_behind_the_second_rectifier() -> None:
    backbone = build_backbone("vgg16", weights=SEED)
    linear = [m.out_features for m in backbone.network.modules() if isinstance(m, nn.Linear)]
    assert linear == [4096, 4096]
    assert isinstance(backbone.network.get_submodule("classifier")[-1], nn.ReLU)  # type: ignore[index]
    assert backbone.feature_size == 4096


@pytest.mark.parametrize(
    "name",
    [
        "alexnet",
        "resnet18",
        "googlenet",
        "mobilenet_v3_small",
        "vit_b_32",
        "swin_t",
    ],
)
def test_penultimate_layer_is_what_the_last_layer_takes(name: str) -> None:
    """The last layer applied to the features gives the class scores of the whole network."""
    whole, _ = torchvision_models.build_classifier(f"torchvision:{name}", weights=SEED)
    last = [m for m in whole.modules() if isinstance(m, nn.Linear)][-1]
    batch = pictures(2)
    scores = run(whole, batch)
    torchvision_models.cut_last_layer(whole)
    features = run(whole, batch)
    assert last.out_features == 1000
    torch.testing.assert_close(run(last, features), scores, rtol=1e-4, atol=1e-5)


def test_squeezenet_has_pooled_features() -> None:
    assert build_backbone("torchvision:squeezenet1_1", weights=SEED).feature_size == 512


def test_timm_features_are_what_its_last_layer_takes() -> None:
    whole, digest = timm_models.build_classifier("timm:resnet18", weights=SEED)
    backbone = build_backbone("timm:resnet18", weights=SEED)
    batch = pictures(2)
    assert backbone.weights_sha256 == digest
    torch.testing.assert_close(run(whole.fc, run(backbone.network, batch)), run(whole, batch), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["alexnet", "vgg16", "torchvision:resnet50", "torchvision:efficientnet_b0"])
def test_preprocessing_is_the_librarys(name: str) -> None:
    ours = torchvision_models.default_preprocessing(name)
    library = get_model_weights(name.removeprefix("torchvision:")).DEFAULT.transforms()
    assert [ours.resize] == library.resize_size
    assert [ours.crop] == library.crop_size
    assert ours.interpolation == library.interpolation.value
    assert [*ours.mean] == library.mean
    assert [*ours.std] == library.std


@pytest.mark.parametrize(
    "name", ["tf_efficientnet_lite0", "resnet18", "resnet50.tv_in1k", "vit_base_patch16_clip_224", "convnext_tiny"]
)
def test_preprocessing_is_timms_own_transform(name: str) -> None:
    """Bytes and normalisation as create_transform gives them on a picture of another shape."""
    noise = np.random.default_rng(0).integers(0, 256, (12, 17, 3), dtype=np.uint8)
    image = Image.fromarray(noise).resize((391, 302), Image.Resampling.BICUBIC)
    transform = timm.data.create_transform(
        **timm.data.resolve_data_config(pretrained_cfg=timm.get_pretrained_cfg(name).to_dict())
    )
    ours = timm_models.default_preprocessing(f"timm:{name}")
    stream = BytesIO()
    image.save(stream, format="PNG")
    stream.seek(0)
    batch = normalise(torch.from_numpy(load_image(stream, ours).copy())[None], ours, CPU)
    assert (batch[0] - transform(image)).abs().mean() < 0.35 / 255 / min(ours.std)


def test_preprocessing_is_overridden() -> None:
    backbone = build_backbone("alexnet", weights=SEED, overrides={"crop": 227, "mode": "warp"})
    assert (backbone.preprocessing.resize, backbone.preprocessing.crop) == (256, 227)
    assert backbone.preprocessing.mode == "warp"
    with pytest.raises(ValueError, match="crop"):
        build_backbone("alexnet", weights=SEED, overrides={"crop": 300})
    with pytest.raises(ValueError, match="does not take images of 30 x 30"):
        build_backbone("alexnet", weights=SEED, overrides={"crop": 30})


def test_random_weights_depend_on_the_seed_alone() -> None:
    state = torch.random.get_rng_state()
    one, again, other = (build_backbone("torchvision:squeezenet1_1", weights=f"random:{seed}") for seed in (1, 1, 2))
    assert one.weights_sha256 == again.weights_sha256 != other.weights_sha256
    assert torch.equal(torch.random.get_rng_state(), state)
    batch = pictures(1)
    assert torch.equal(run(one.network, batch), run(again.network, batch))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("alexnett", "alexnet"),
        ("resnet50", "torchvision:resnet50"),
        ("torchvision:nope", "no backbone"),
        ("timm:no_such_model", "timm has no model"),
        ("timm:resnet18.no_such_tag", "no weights called"),
        ("timm:hf-hub:someone/something", "timm has no model"),
    ],
)
def test_unknown_backbones(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_backbone(name)


def test_unknown_layers_and_seeds() -> None:
    with pytest.raises(ValueError, match="no layer 'fc8'; did you mean fc7 or fc6?"):
        build_backbone("alexnet", weights=SEED, layer="fc8")
    with pytest.raises(ValueError, match="there is penultimate, and any module of the network: conv1, bn1"):
        build_backbone("torchvision:resnet18", weights=SEED, layer="fc7")
    for seed in ("", "-1", "x", "1.5", "²"):
        with pytest.raises(ValueError, match="random:SEED"):
            build_backbone("torchvision:squeezenet1_1", weights=f"random:{seed}")


@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".pth"])
def test_a_file_gives_the_same_features(tmp_path: Path, suffix: str) -> None:
    whole, _ = torchvision_models.build_classifier("torchvision:squeezenet1_1", weights=SEED)
    path = tmp_path / f"w{suffix}"
    save_file(whole.state_dict(), path) if suffix == ".safetensors" else torch.save(whole.state_dict(), path)
    backbone = build_backbone("torchvision:squeezenet1_1", weights=str(path))
    reference = build_backbone("torchvision:squeezenet1_1", weights=SEED)
    assert torch.equal(run(backbone.network, pictures(1)), run(reference.network, pictures(1)))
    printed = subprocess.run(["sha256sum", path], capture_output=True, check=True, text=True).stdout.split()[0]
    assert backbone.weights_sha256 == printed


@pytest.mark.parametrize("name", ["torchvision:squeezenet1_1", "timm:resnet18"])
def test_names_and_shapes_are_strict(tmp_path: Path, name: str) -> None:
    family = timm_models if name.startswith("timm:") else torchvision_models
    whole, _ = family.build_classifier(name, weights=SEED)
    state = whole.state_dict()
    first = next(iter(state))
    wrong = {
        "missing": {key: value for key, value in state.items() if key != first},
        "unknown": {**state, "surplus": torch.zeros(1)},
        "another shape": {**state, first: torch.zeros(3)},
    }
    for message, broken in wrong.items():
        save_file(broken, tmp_path / "w.safetensors")
        with pytest.raises(WeightsError, match=message):
            build_backbone(name, weights=str(tmp_path / "w.safetensors"))


@pytest.mark.parametrize(
    ("wrap", "says"),
    [
        (lambda state: {f"module.{name}": value for name, value in state.items()}, "'module.' is taken off"),
        (lambda state: {"state_dict": state, "epoch": 3}, "taken from 'state_dict'"),
        (lambda state: {"model": state, "optimizer": {"lr": 0.1}}, "taken from 'model'"),
        (
            lambda state: {"epoch": 90, "state_dict": {f"module.{name}": value for name, value in state.items()}},
            "taken from 'state_dict' and 'module.' is taken off",
        ),
        (lambda state: {"model": {"state_dict": state}}, "taken from 'state_dict' in 'model'"),
        (lambda state: {f"_orig_mod.module.{name}": value for name, value in state.items()}, "'_orig_mod.', 'module.'"),
    ],
)
@pytest.mark.parametrize("suffix", [".pt", ".pth.tar"])
def test_plain_containers_are_unwrapped_and_said(tmp_path: Path, suffix: str, wrap: Any, says: str) -> None:
    whole, _ = torchvision_models.build_classifier("torchvision:squeezenet1_1", weights=SEED)
    path = tmp_path / f"w{suffix}"
    torch.save(wrap(whole.state_dict()), path)
    said: list[str] = []
    network, _ = torchvision_models.build_classifier("torchvision:squeezenet1_1", weights=str(path), report=said.append)
    assert all(torch.equal(value, whole.state_dict()[name]) for name, value in network.state_dict().items())
    (line,) = said
    assert line.startswith(f"{path}: ")
    assert says in line


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".safetensors"])
def test_a_broken_download_is_said_to_be_one(tmp_path: Path, suffix: str) -> None:
    whole, _ = torchvision_models.build_classifier("torchvision:squeezenet1_1", weights=SEED)
    path = tmp_path / f"w{suffix}"
    save_file(whole.state_dict(), path) if suffix == ".safetensors" else torch.save(whole.state_dict(), path)
    content = path.read_bytes()
    for broken in (content[: len(content) // 2], content[:10], b"", b"<!DOCTYPE html><html>404", b"not weights at all"):
        path.write_bytes(broken)
        with pytest.raises(WeightsError, match=rf"the file is damaged .*: delete {re.escape(str(path))} and try again"):
            weights.read_weights(path)


def test_python_objects_beside_tensors_are_not_run_and_not_called_damage(tmp_path: Path) -> None:
    torch.save({"state_dict": {"a": torch.zeros(1)}, "args": Malicious()}, tmp_path / "w.pth.tar")
    with pytest.raises(WeightsError, match="holds Python objects beside its tensors, which are not run") as caught:
        weights.read_weights(tmp_path / "w.pth.tar")
    assert "weights_only" not in str(caught.value)


class Malicious:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return exec, ("import pathlib; pathlib.Path('ran').touch()",)


def test_weights_files_that_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"a": Malicious()}, "code.pt")
    torch.save([torch.zeros(1)], "list.pt")
    torch.save({"a": 3}, "numbers.pth")
    Path("w.npz").write_bytes(b"x")
    for name in ("cut.pt", "cut.safetensors", "empty.pt"):
        Path(name).write_bytes(b"" if name == "empty.pt" else b"PK\x03\x04 not whole")
    for path in (*Path().glob("*"), Path("absent.pt"), tmp_path):
        with pytest.raises(WeightsError, match=re.escape(path.name)):
            build_backbone("torchvision:squeezenet1_1", weights=str(path))
    assert not Path("ran").exists()


@pytest.mark.parametrize("error", [OSError("no route to host"), TimeoutError("timed out"), RuntimeError("bad hash")])
def test_a_failing_download_says_how_to_pass_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    seen = []

    def fail(*args: object, **kwargs: object) -> None:
        seen.append(socket.getdefaulttimeout())
        raise error

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", fail)
    with pytest.raises(WeightsError, match=r"alexnet.*--weights FILE"):
        build_backbone("alexnet", weights="pretrained")
    assert seen == [weights.DOWNLOAD_STALL_SECONDS]
    assert socket.getdefaulttimeout() is None


def test_a_failing_hub_says_how_to_pass_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise huggingface_hub.errors.LocalEntryNotFoundError("no connection")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fail)
    with pytest.raises(WeightsError, match=r"tf_efficientnet_lite0.*no connection.*--weights FILE"):
        build_backbone("timm:tf_efficientnet_lite0", weights="pretrained")


def test_pretrained_takes_the_downloaded_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, _ = torchvision_models.build_classifier("torchvision:squeezenet1_1", weights="random:5")
    asked = []

    def fetch(url: str, target: str, digest: str | None, *, progress: bool) -> None:
        asked.append((url, digest))
        torch.save(whole.state_dict(), target)

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", fetch)
    backbones = [build_backbone("torchvision:squeezenet1_1", weights="pretrained") for _ in range(2)]
    url = get_model_weights("squeezenet1_1").DEFAULT.url
    assert asked == [(url, url.rpartition("-")[2].removesuffix(".pth"))], "the second time it is in the cache"
    reference = build_backbone("torchvision:squeezenet1_1", weights="random:5")
    assert torch.equal(run(backbones[1].network, pictures(1)), run(reference.network, pictures(1)))
    timm_state, _ = timm_models.build_classifier("timm:resnet18", weights="random:5")
    save_file(timm_state.state_dict(), tmp_path / "model.safetensors")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda *_, **__: str(tmp_path / "model.safetensors"))
    given = build_backbone("timm:resnet18", weights=str(tmp_path / "model.safetensors"))
    downloaded = build_backbone("timm:resnet18", weights="pretrained")
    assert downloaded.weights_sha256 == given.weights_sha256
    assert torch.equal(run(downloaded.network, pictures(1)), run(given.network, pictures(1)))


def test_older_torchvision_names_are_understood() -> None:
    network = get_model("densenet121", weights=None)
    old = {
        name.replace(".norm1.", ".norm.1.").replace(".conv2.", ".conv.2."): value
        for name, value in network.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    assert old.keys() != network.state_dict().keys()
    assert torchvision_models._renamed(old, network).keys() == network.state_dict().keys()


def test_photographs_get_their_classes(real_data: Path, real_weights: Path) -> None:
    """Weights, preprocessing and order of channels together: the classes and probabilities their README names."""
    file = real_weights / "efficientnet-lite0" / "tf_efficientnet_lite0.safetensors"
    network, digest = timm_models.build_classifier("timm:tf_efficientnet_lite0", weights=str(file))
    backbone = build_backbone("timm:tf_efficientnet_lite0", weights=str(file))
    names = (real_weights / "imagenet_classes.txt").read_text().splitlines()
    assert digest == backbone.weights_sha256
    expected = {"koala": ("koala", 0.71), "frog": ("bullfrog", 0.79), "seal": ("sea lion", 0.58)}
    for picture, (name, probability) in expected.items():
        pixels = load_image(real_data / "neuraltalk-example" / f"{picture}.jpg", backbone.preprocessing)
        batch = normalise(torch.from_numpy(pixels.copy())[None], backbone.preprocessing, CPU)
        scores = run(network, batch).softmax(1)[0]
        head = run(network.classifier, run(backbone.network, batch)).softmax(1)[0]
        best = int(scores.argmax())
        assert name in names[best].lower()
        assert abs(float(scores[best]) - probability) < 0.05
        torch.testing.assert_close(head, scores, rtol=1e-3, atol=1e-5)


def test_real_alexnet_file(real_weights: Path, real_data: Path, tmp_path: Path) -> None:
    """A complete file of AlexNet's shape, real convolutions: fc7 as torchvision's own modules compute it by hand."""
    path = tmp_path / "alexnet.safetensors"
    subprocess.run([sys.executable, real_weights / "make_alexnet.py", path], check=True)
    backbone = build_backbone("alexnet", weights=str(path))
    model = get_model("alexnet", weights=None).eval()
    model.load_state_dict(weights.read_weights(path)[0])
    image = Image.open(sorted((real_data / "flickr8k" / "Flicker8k_original_aspect").glob("*.jpg"))[0])
    batch = get_model_weights("alexnet").DEFAULT.transforms()(image)[None]
    with torch.inference_mode():
        by_hand = model.classifier[:6](torch.flatten(model.avgpool(model.features(batch)), 1))
    pixels = torch.from_numpy(load_image(Path(image.filename), backbone.preprocessing).copy())[None]
    ours = run(backbone.network, normalise(pixels, backbone.preprocessing, CPU))
    image.close()
    torch.testing.assert_close(run(backbone.network, batch), by_hand)
    # The stated tolerance of a feature vector against the library's whole path, relative to its length.
    assert (ours - by_hand).norm() / by_hand.norm() < 0.01

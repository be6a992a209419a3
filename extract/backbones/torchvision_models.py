"""Backbones of torchvision: AlexNet and VGG-16 at fc6 or fc7, any other classifier before its last layer.

torchvision's AlexNet is the one-tower variant of 2014 ("one weird trick"), not Caffe's.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torchvision.models import VGG, AlexNet, SqueezeNet, get_model, get_model_weights, list_models
from torchvision.transforms._presets import ImageClassification

from mrnn.data.progress import silent
from mrnn.extract.backbones.backbone import Backbone
from mrnn.extract.backbones.layers import OUTPUT, SEPARATOR, take_layers
from mrnn.extract.backbones.weights import PRETRAINED, build_random, download, load_strictly, random_seed, read_weights
from mrnn.extract.images import Preprocessing

PENULTIMATE = "penultimate"
# Where to cut `classifier`: after the rectifier of fc6 and of fc7. fc8 is cut off and never computed.
CLASSIFIER_CUTS: dict[str, Mapping[str, int]] = {"alexnet": {"fc6": 3, "fc7": 6}, "vgg16": {"fc6": 2, "fc7": 5}}
# The published weights of these two expect it: they were trained with a different normalisation from torchvision's.
BUILD_OPTIONS = {name: {"transform_input": True, "init_weights": True} for name in ("googlenet", "inception_v3")}
OLD_DENSENET_NAME = re.compile(r"^(.*denselayer\d+\.(?:norm|conv))\.([12]\.\w+)$")


def names() -> list[str]:
    """All classification models of torchvision, as `torchvision:NAME`."""
    import torchvision

    return [f"torchvision:{name}" for name in list_models(module=torchvision.models)]


def default_layer(name: str) -> str:
    """The layer that is taken if nobody names one."""
    return "fc7" if name in CLASSIFIER_CUTS else PENULTIMATE


def build(
    name: str,
    *,
    weights: str,
    layers: Sequence[str],
    preprocessing: Preprocessing,
    report: Callable[[str], None] = silent,
) -> Backbone:
    """alexnet, vgg16 or torchvision:NAME.

    Raises WeightsError if the weights cannot be obtained or do not match, SettingError for a layer that there is not.
    """
    network, digest = build_classifier(name, weights=weights, report=report)
    whole = dict(network.named_modules())
    if name in CLASSIFIER_CUTS:
        assert isinstance(network, AlexNet | VGG)
        own = _cut_classifier(network, CLASSIFIER_CUTS[name], last="fc6" if tuple(layers) == ("fc6",) else "fc7")
    else:
        cut_last_layer(network)
        own = {PENULTIMATE: OUTPUT}
    relu = "post" if all(layer in CLASSIFIER_CUTS.get(name, ()) for layer in layers) else "none"
    taken = take_layers(network, layers, whole=whole, own=own, name=name)
    return Backbone(name, SEPARATOR.join(layers), relu, preprocessing, weights, digest, taken)


def build_classifier(name: str, *, weights: str, report: Callable[[str], None] = silent) -> tuple[nn.Module, str]:
    """The whole network with its class scores, and the SHA-256 of its weights."""
    model = name.removeprefix("torchvision:")

    def construct() -> nn.Module:
        return get_model(model, weights=None, **BUILD_OPTIONS.get(model, {})).eval()

    if (seed := random_seed(weights)) is not None:
        return build_random(construct, seed=seed)
    path = download(get_model_weights(model).DEFAULT.url, name=name) if weights == PRETRAINED else Path(weights)
    state, digest = read_weights(path, report=report)
    network = construct()
    load_strictly(network, _renamed(state, network), where=str(path))
    return network, digest


def default_preprocessing(name: str) -> Preprocessing:
    """The preprocessing of torchvision's default weights for the model."""
    transform = get_model_weights(name.removeprefix("torchvision:")).DEFAULT.transforms()
    assert isinstance(transform, ImageClassification)
    return Preprocessing(
        resize=transform.resize_size[0],
        crop=transform.crop_size[0],
        interpolation=transform.interpolation.value,
        mean=tuple(transform.mean),
        std=tuple(transform.std),
    )


def _cut_classifier(network: AlexNet | VGG, cuts: Mapping[str, int], *, last: str) -> dict[str, str]:
    """Remove what follows the layer `last`; return the modules of the layers that are left."""
    modules = {layer: f"classifier.{end - 1}" for layer, end in cuts.items() if end <= cuts[last]}
    network.classifier = network.classifier[: cuts[last]]
    return {**modules, last: OUTPUT}


def cut_last_layer(network: nn.Module) -> None:
    """Remove the last linear layer, so that the network returns its input."""
    if isinstance(
        network, SqueezeNet
    ):  # it computes scores by a convolution and pools them; pool the input of that convolution instead
        network.classifier = nn.Sequential(nn.AdaptiveAvgPool2d((1, 1)))
        return
    last = [name for name, module in network.named_modules() if isinstance(module, nn.Linear)][-1]
    parent, _, child = last.rpartition(".")
    setattr(network.get_submodule(parent), child, nn.Identity())


def _renamed(state: Mapping[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
    """Tensors of older files under the names of newer code: the layers of DenseNet, and missing batch counters."""
    renamed = {OLD_DENSENET_NAME.sub(r"\1\2", name): value for name, value in state.items()}
    if not any(name.endswith("num_batches_tracked") for name in renamed):
        counters = (name for name in network.state_dict() if name.endswith("num_batches_tracked"))
        renamed.update({name: torch.tensor(0) for name in counters})
    return renamed

"""The backbones by name: alexnet, vgg16, torchvision:NAME, timm:NAME. A new family is a file and a branch here."""

import difflib
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from mrnn.data.errors import SettingError
from mrnn.data.progress import silent
from mrnn.extract.backbones import timm_models, torchvision_models
from mrnn.extract.backbones.backbone import Backbone
from mrnn.extract.backbones.weights import PRETRAINED
from mrnn.extract.images import Preprocessing

__all__ = ["Backbone", "build_backbone", "check_backbone"]


def check_backbone(name: str, *, layer: str | None = None) -> str:
    """The layer that will be used. Raises SettingError for an unknown backbone or layer."""
    known = [*torchvision_models.CLASSIFIER_CUTS, *torchvision_models.names()]
    if name.startswith(timm_models.PREFIX):
        timm_models.check_name(name)
        layers: tuple[str, ...] = (timm_models.PENULTIMATE,)
    elif name in known:
        layers = torchvision_models.layers(name)
    else:
        near = difflib.get_close_matches(name, known, n=1) or difflib.get_close_matches(f"torchvision:{name}", known)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise SettingError(f"there is no backbone {name!r}: give alexnet, vgg16, torchvision:NAME or timm:NAME{hint}")
    if layer is not None and layer not in layers:
        raise SettingError(f"{name} has no layer {layer!r} to take; there is {' or '.join(layers)}")
    return layer or layers[0]


def build_backbone(
    name: str,
    *,
    weights: str = PRETRAINED,
    layer: str | None = None,
    overrides: Mapping[str, Any] | None = None,
    preprocessing: Preprocessing | None = None,
    report: Callable[[str], None] = silent,
) -> Backbone:
    """A backbone ready for use on the CPU.

    weights : 'pretrained', a file, or 'random:SEED'.
    layer : None for the backbone's usual one.
    overrides : fields of Preprocessing to change.
    preprocessing : None for the library's own.
    report : called with a line on a file of weights that had to be unwrapped.

    Raises SettingError for a name, layer, seed or preprocessing that cannot be, WeightsError for weights that cannot
    be obtained or do not match the network.
    """
    layer = check_backbone(name, layer=layer)
    family = timm_models if name.startswith(timm_models.PREFIX) else torchvision_models
    chosen = replace(preprocessing or family.default_preprocessing(name), **(overrides or {}))
    if name.startswith(timm_models.PREFIX):
        return timm_models.build(name, weights=weights, preprocessing=chosen, report=report)
    return torchvision_models.build(name, weights=weights, layer=layer, preprocessing=chosen, report=report)

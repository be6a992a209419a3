"""The backbones by name: alexnet, vgg16, torchvision:NAME, timm:NAME. A new family is a file and a branch here."""

import difflib
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from mrnn.data.errors import SettingError
from mrnn.data.progress import silent
from mrnn.extract.backbones import timm_models, torchvision_models
from mrnn.extract.backbones.backbone import Backbone
from mrnn.extract.backbones.layers import split_layers
from mrnn.extract.backbones.weights import PRETRAINED
from mrnn.extract.config import NO_VIEWS
from mrnn.extract.images import Preprocessing

__all__ = ["Backbone", "build_backbone", "check_backbone"]


def check_backbone(name: str) -> str:
    """The layer that is taken if nobody names one. Raises SettingError for an unknown backbone."""
    known = [*torchvision_models.CLASSIFIER_CUTS, *torchvision_models.names()]
    if name.startswith(timm_models.PREFIX):
        timm_models.check_name(name)
        return timm_models.PENULTIMATE
    if name in known:
        return torchvision_models.default_layer(name)
    near = difflib.get_close_matches(name, known, n=1) or difflib.get_close_matches(f"torchvision:{name}", known)
    hint = f"; did you mean {near[0]}?" if near else ""
    raise SettingError(f"there is no backbone {name!r}: give alexnet, vgg16, torchvision:NAME or timm:NAME{hint}")


def build_backbone(
    name: str,
    *,
    weights: str = PRETRAINED,
    layer: str | None = None,
    views: str = NO_VIEWS,
    overrides: Mapping[str, Any] | None = None,
    preprocessing: Preprocessing | None = None,
    report: Callable[[str], None] = silent,
) -> Backbone:
    """A backbone ready for use on the CPU.

    weights : 'pretrained', a file, or 'random:SEED'.
    layer : as for `--layer`; None for the backbone's usual one.
    views : 'none', or 'flip' for the mean over the image and its mirror image.
    overrides : fields of Preprocessing to change.
    preprocessing : None for the library's own.
    report : called with a line on a file of weights that had to be unwrapped.

    Raises SettingError for a name, layer, seed or preprocessing that cannot be, WeightsError for weights that cannot
    be obtained or do not match the network.
    """
    usual = check_backbone(name)
    layers = split_layers(usual if layer is None else layer)
    family = timm_models if name.startswith(timm_models.PREFIX) else torchvision_models
    chosen = replace(preprocessing or family.default_preprocessing(name), **(overrides or {}))
    built = family.build(name, weights=weights, layers=layers, preprocessing=chosen, report=report)
    built.views = views
    return built

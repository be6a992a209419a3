"""Backbones of timm, any of its models: the pooled features before the class scores. Needs the extra `timm`."""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from mrnn.data.errors import SettingError, WeightsError
from mrnn.data.progress import silent
from mrnn.extract.backbones.backbone import Backbone
from mrnn.extract.backbones.layers import OUTPUT, SEPARATOR, take_layers
from mrnn.extract.backbones.weights import (
    PRETRAINED,
    build_random,
    download,
    download_errors,
    load_strictly,
    random_seed,
    read_weights,
)
from mrnn.extract.images import Preprocessing

PREFIX = "timm:"
PENULTIMATE = "penultimate"
HUB_FILES = ("model.safetensors", "pytorch_model.bin")
MODES = {"center": "crop", "squash": "warp"}


def check_name(name: str) -> None:
    """Raise SettingError if timm has no such model, WeightsError if timm is not installed."""
    model = name.removeprefix(PREFIX)
    timm = _timm()
    if not timm.is_model(model):
        architecture = model.partition(".")[0]
        near = timm.list_models(f"*{architecture}*")[:5] or timm.list_models(f"*{architecture[:6]}*")[:5]
        raise SettingError(f"timm has no model {model!r}{'; did you mean ' + ', '.join(near) if near else ''}")
    try:
        timm.get_pretrained_cfg(model, allow_unregistered=False)
    except RuntimeError as error:
        tags = [name for name in timm.list_pretrained() if name.startswith(f"{model.partition('.')[0]}.")]
        raise SettingError(f"timm has no weights called {model!r}; there are {', '.join(tags) or 'none'}") from error


def build(
    name: str,
    *,
    weights: str,
    layers: Sequence[str],
    preprocessing: Preprocessing,
    report: Callable[[str], None] = silent,
) -> Backbone:
    """timm:NAME.

    Raises WeightsError if the weights cannot be obtained or do not match, SettingError for a layer that there is not.
    """
    network, digest = build_classifier(name, weights=weights, report=report)
    whole = dict(network.named_modules())
    network.reset_classifier(0)
    taken = take_layers(network, layers, whole=whole, own={PENULTIMATE: OUTPUT}, name=name)
    return Backbone(name, SEPARATOR.join(layers), "none", preprocessing, weights, digest, taken)


def build_classifier(name: str, *, weights: str, report: Callable[[str], None] = silent) -> tuple[Any, str]:
    """The whole network with its class scores, and the SHA-256 of its weights."""
    timm, model = _timm(), name.removeprefix(PREFIX)

    def construct() -> nn.Module:
        network: nn.Module = timm.create_model(model, pretrained=False)
        return network.eval()

    if (seed := random_seed(weights)) is not None:
        return build_random(construct, seed=seed)
    if weights == PRETRAINED:
        state, digest = read_weights(_download(name, timm.get_pretrained_cfg(model).to_dict()))
        overlay = {"state_dict": state}  # timm renames what its own file needs renamed
        return timm.create_model(model, pretrained=True, pretrained_cfg_overlay=overlay).eval(), digest
    state, digest = read_weights(weights, report=report)
    network = construct()
    load_strictly(network, state, where=weights)
    return network, digest


def default_preprocessing(name: str) -> Preprocessing:
    """timm's own for evaluating the model. Raises SettingError if it is of an unsupported kind."""
    from timm.data import resolve_data_config

    config: Mapping[str, Any] = resolve_data_config(
        pretrained_cfg=_timm().get_pretrained_cfg(name.removeprefix(PREFIX)).to_dict()
    )
    channels, height, width = config["input_size"]
    if channels != 3 or height != width:
        raise SettingError(f"{name} takes images of {channels} x {height} x {width}; only colour squares are supported")
    if config["crop_mode"] not in MODES:
        raise SettingError(f"{name} frames images with {config['crop_mode']!r}, which is not supported")
    return Preprocessing(
        resize=math.floor(width / config["crop_pct"]),
        crop=width,
        interpolation=config["interpolation"],
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
        mode=MODES[config["crop_mode"]],
    )


def _download(name: str, config: Mapping[str, Any]) -> Path:
    """The file with timm's own weights, from the model hub or a plain URL, in the usual caches."""
    if config.get("hf_hub_id"):
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

        with download_errors(name):
            for file_name in (config.get("hf_hub_filename"), *HUB_FILES):
                try:
                    if file_name:
                        return Path(hf_hub_download(config["hf_hub_id"], file_name, etag_timeout=10))
                except LocalEntryNotFoundError:
                    raise
                except EntryNotFoundError:
                    continue
    if config.get("url"):
        return download(config["url"], name=name)
    raise WeightsError(f"timm offers no weights for {name}; pass a file with --weights FILE")


def _timm() -> ModuleType:
    try:
        import timm
    except ImportError as error:
        raise WeightsError("backbones timm:NAME need timm: pip install 'mrnn[timm]'") from error
    return timm

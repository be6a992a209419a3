"""Features taken from several layers of a network, or from any of its modules, in one forward pass.

A module is named as `named_modules` of its network names it. Its output becomes one vector per image: that of a map is
the mean over the map's places.
"""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from mrnn.data.errors import SettingError

SEPARATOR = "+"
OUTPUT = ""  # the name that named_modules gives to the network itself


class PooledLayers(nn.Module):
    """A network that returns the pooled outputs of some of its modules, side by side.

    network : takes (B, 3, h, w) and is run as a whole.
    modules : names of the modules, in the order of their numbers in a row; OUTPUT is what the network returns.
    sizes : how many numbers come from each, known after the first pass.
    """

    def __init__(self, network: nn.Module, modules: Sequence[str]) -> None:
        super().__init__()
        self.network, self.modules_taken = network, tuple(modules)
        self.sizes: tuple[int, ...] = ()

    def forward(self, batch: Tensor) -> Tensor:
        """(B, 3, h, w) to (B, D) float32. Raises SettingError for a module that does not give one output per image."""
        outputs: dict[str, list[Tensor]] = {name: [] for name in self.modules_taken}
        with ExitStack() as hooks:
            for name, seen in outputs.items():

                def keep(_: nn.Module, __: Any, output: Any, *, name: str = name, seen: list[Tensor] = seen) -> None:
                    # Pooled at once: a rectifier that works in place may overwrite the output.
                    seen.append(pool_output(output, images=len(batch), name=name))

                hooks.enter_context(self.network.get_submodule(name).register_forward_hook(keep))
            self.network(batch)
        for name, seen in outputs.items():
            if len(seen) != 1:
                times = f"runs {len(seen)} times" if seen else "does not run"
                raise SettingError(f"layer {name} {times} when an image is computed; name a module that runs once")
        parts = [outputs[name][0] for name in self.modules_taken]
        self.sizes = tuple(part.shape[1] for part in parts)
        return torch.cat(parts, 1)


def pool_output(output: Any, *, images: int, name: str) -> Tensor:
    """(B, C) float32, a copy, of a module's output.

    output : (B, C); a map (B, C, H, W), or (B, H, W, C) if those are the two equal sides; or tokens (B, places, C).
        Of a map and of tokens (a class token included) the mean over the places is taken.
    images : B.
    name : of the module, for messages.
    Raises SettingError for anything else.
    """
    if not isinstance(output, Tensor) or output.ndim not in (2, 3, 4) or len(output) != images:
        shape = f"an array of shape {tuple(output.shape)}" if isinstance(output, Tensor) else type(output).__name__
        raise SettingError(
            f"layer {name or 'penultimate'} returns {shape} for {images} images, not a vector or a map for each; name "
            "another module"
        )
    values = output.float()
    if values.ndim == 2:
        return values.clone()
    if values.ndim == 3:
        return values.mean(1)
    height, width, last = values.shape[1:]
    return values.mean((1, 2) if height == width != last else (2, 3))


def split_layers(text: str) -> tuple[str, ...]:
    """The parts of `--layer`. Raises SettingError if one is empty or stands there twice."""
    parts = tuple(part.strip() for part in text.split(SEPARATOR))
    if "" in parts:
        raise SettingError(f"layers are written A{SEPARATOR}B, not {text!r}")
    if twice := [part for part in parts if parts.count(part) > 1]:
        raise SettingError(f"layer {twice[0]!r} is named twice in {text!r}")
    return parts


def take_layers(
    network: nn.Module, layers: Sequence[str], *, whole: Mapping[str, nn.Module], own: Mapping[str, str], name: str
) -> nn.Module:
    """What returns the values of some layers: the network itself if they are its output, else a PooledLayers.

    network : cut off in front of the class scores.
    layers : names of its modules, or keys of `own`.
    whole : its modules by name before it was cut.
    own : the names that mrnn has for layers of this network -> their modules.
    name : of the network, for messages.
    Raises SettingError for a layer that there is not, or that has been cut off.
    """
    after = dict(network.named_modules())
    changed = [module for module in whole if after.get(module) is not whole[module] and module]
    left = [module for module in whole if module and not any(f"{cut}.".startswith(f"{module}.") for cut in changed)]
    for layer in layers:
        if layer in whole and layer not in [*own, *left]:
            raise SettingError(
                f"layer {layer} of {name} belongs to the class scores, which are cut off; take {' or '.join(own)}"
            )
        if layer not in [*own, *left]:
            raise SettingError(f"{name} has no layer {layer!r}; {_hint(layer, own, left)}")
    modules = [own.get(layer, layer) for layer in layers]
    return network if modules == [OUTPUT] else PooledLayers(network, modules)


def _hint(layer: str, own: Iterable[str], left: Iterable[str]) -> str:
    if near := difflib.get_close_matches(layer, [*own, *left], n=3):
        return f"did you mean {' or '.join(near)}?"
    parts = ", ".join(module for module in left if "." not in module)
    return f"there is {', '.join(own)}, and any module of the network: {parts}, or one inside these"

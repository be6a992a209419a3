"""Optimisers, learning-rate schedules and the moving average of the weights.

Each optimiser adds the gradient of lambda ||theta||^2 itself, after clipping, through `weight_decay` = 2 lambda: the
coupled L2 of the paper's cost (A3), not AdamW's decoupled decay. With adam it is therefore scaled like any gradient.
"""

from collections.abc import Iterable
from copy import deepcopy
from math import cos, pi

import torch
from torch import nn

from mrnn.train.settings import OPTIMISERS


def build_optimiser(
    name: str, parameters: Iterable[nn.Parameter], *, lr: float, l2: float, momentum: float = 0.9, beta2: float = 0.999
) -> torch.optim.Optimizer:
    """One of OPTIMISERS. l2 : lambda of the cost. momentum : of sgd, and adam's beta1. beta2 : decay of squares."""
    decay = 2 * l2
    if name == "adam":
        return torch.optim.Adam(parameters, lr=lr, betas=(momentum, beta2), weight_decay=decay, fused=True)
    if name == "sgd":
        return torch.optim.SGD(parameters, lr=lr, momentum=momentum, weight_decay=decay)
    if name == "rmsprop":
        return torch.optim.RMSprop(parameters, lr=lr, alpha=beta2, weight_decay=decay)
    raise ValueError(f"the optimiser must be one of {', '.join(OPTIMISERS)}, not {name!r}")


def learning_rate(step: int, *, schedule: str, peak: float, warmup: int, total: int) -> float:
    """The learning rate of step 0, 1, ..., total - 1: a linear rise over `warmup` steps, then constant or down to
    zero along a cosine. A pure function, so there is no state to save."""
    if step < warmup:
        return peak * (step + 1) / (warmup + 1)
    if schedule == "constant":
        return peak
    return peak * 0.5 * (1 + cos(pi * (step - warmup) / max(total - warmup, 1)))


def squared_norm(model: nn.Module) -> float:
    """||theta||^2 over all parameters."""
    norm = torch.nn.utils.get_total_norm([parameter.detach() for parameter in model.parameters()])
    return float(norm) ** 2


def gradient_norm(model: nn.Module) -> torch.Tensor:
    """Norm of the gradient over all parameters: a scalar on their device."""
    return torch.nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None])


class WeightAverage:
    """Exponential moving average of a model's weights; its early steps average over what there is.

    decay : at most this much of the old average is kept a step (0.999 averages over about 1,000 steps).
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.model = deepcopy(model).requires_grad_(False)
        self.decay = decay

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Take in the weights after step number `step` (from 1)."""
        kept = min(self.decay, step / (step + 9))
        torch._foreach_lerp_(list(self.model.parameters()), list(model.parameters()), 1 - kept)

"""Optimisers, learning-rate schedules and the moving average of the weights.

Each optimiser adds the gradient of lambda ||theta||^2 itself, after clipping, through `weight_decay` = 2 lambda. This
is the coupled L2 penalty of the paper's cost (A3), not AdamW's decoupled decay, so adam scales it like any gradient.
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
    """Build an optimiser.

    name : one of OPTIMISERS.
    parameters : parameters to optimise.
    lr : initial learning rate.
    l2 : lambda of the cost.
    momentum : momentum of sgd, and beta1 of adam.
    beta2 : decay of squared gradients in adam and rmsprop.

    Raises ValueError for another name.
    """
    decay = 2 * l2
    if name == "adam":
        return torch.optim.Adam(parameters, lr=lr, betas=(momentum, beta2), weight_decay=decay, fused=True)
    if name == "sgd":
        return torch.optim.SGD(parameters, lr=lr, momentum=momentum, weight_decay=decay)
    if name == "rmsprop":
        return torch.optim.RMSprop(parameters, lr=lr, alpha=beta2, weight_decay=decay)
    raise ValueError(f"the optimiser must be one of {', '.join(OPTIMISERS)}, not {name!r}")


def learning_rate(step: int, *, schedule: str, peak: float, warmup: int, total: int) -> float:
    """The learning rate of one step: a linear warm-up, then constant or falling to zero along a cosine.

    A pure function, so a checkpoint holds no state of it.

    step : 0, 1, ..., total - 1.
    schedule : one of SCHEDULES (mrnn.train.settings).
    peak : highest learning rate.
    warmup : number of steps over which the rate rises.
    total : number of steps of the whole training.
    """
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
    """Exponential moving average of a model's weights.

    model : the model whose weights are averaged; it is copied.
    decay : largest share of the old average kept per step; 0.999 averages over about 1,000 steps.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.model = deepcopy(model).requires_grad_(False)
        self.decay = decay

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Include the weights after step number `step`, counted from 1."""
        # Early on a smaller share is kept, so that the average forgets the initial weights.
        kept = min(self.decay, step / (step + 9))
        torch._foreach_lerp_(list(self.model.parameters()), list(model.parameters()), 1 - kept)

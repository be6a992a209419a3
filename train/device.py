"""The device that a computation runs on."""

import torch

from mrnn.data.errors import TrainingError


def pick_device(name: str, precision: str, *, local: int = 0) -> torch.device:
    """The device of a name.

    name : a torch device, or 'auto' for the GPU if there is one. 'cuda' is GPU number `local` if several are visible.
    precision : 'fp32' or 'bf16', which needs a GPU.
    local : number of this process on its machine.

    Raises TrainingError if the device cannot be used, or not with this precision.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and torch.cuda.device_count() > 1:
        name = f"cuda:{local}"
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise TrainingError(f"the device {name!r} cannot be used ({str(error).splitlines()[0]})") from error
    if precision == "bf16" and device.type != "cuda":
        raise TrainingError(f"--precision bf16 is for GPUs; on {device.type} use fp32")
    return device

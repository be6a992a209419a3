"""Where a backbone's weights come from, loaded without running code from the file and only if they fit exactly.

`pretrained` is the library's own download, a path is a local file, `random:SEED` is seeded noise. None ever stands in
for another.
"""

import hashlib
import re
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlparse

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from mrnn.data.errors import SettingError, WeightsError

PRETRAINED = "pretrained"
RANDOM_PREFIX = "random:"
DOWNLOAD_STALL_SECONDS = 30.0  # a download may take its time, but not stand still for longer
TORCH_SUFFIXES = (".pt", ".pth", ".bin")
MAX_SEED = 2**63 - 1

Network = TypeVar("Network", bound=nn.Module)


def random_seed(weights: str) -> int | None:
    """The seed in 'random:SEED', None for other weights. Raises SettingError if it is no whole number from 0 on."""
    if not weights.startswith(RANDOM_PREFIX):
        return None
    seed = weights.removeprefix(RANDOM_PREFIX)
    if not (seed.isascii() and seed.isdigit()) or int(seed) > MAX_SEED:
        raise SettingError(f"random weights are written random:SEED with a whole number from 0 on, not {weights!r}")
    return int(seed)


def build_random(build: Callable[[], Network], *, seed: int) -> tuple[Network, str]:
    """A network initialised by its library from the seed, and a digest of its values. Leaves torch's generator alone.

    The digest tells apart what another version of the library makes of the same seed.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = build()
    digest = hashlib.sha256()
    for name, value in sorted(network.state_dict().items()):
        digest.update(f"{name} {tuple(value.shape)}\n".encode())
        digest.update(value.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return network, digest.hexdigest()


def read_weights(path: Path, *, wrapped_as: Sequence[str] = ("state_dict",)) -> tuple[dict[str, Tensor], str]:
    """The tensors of a .safetensors, .pt, .pth or .bin file by name, and the file's SHA-256.

    No code in the file is run. wrapped_as : a checkpoint that holds its tensors under one of these is unwrapped.
    Raises WeightsError if there is no such file or it holds anything but tensors.
    """
    try:
        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise WeightsError(f"cannot read the weights {path}: {error.strerror}") from error
    try:
        if path.suffix == ".safetensors":
            return load_file(path), digest
        if path.suffix not in TORCH_SUFFIXES:
            raise WeightsError(f"{path}: weights must be a .safetensors, .pt or .pth file")
        state = torch.load(path, map_location="cpu", weights_only=True)
    except SafetensorError as error:
        raise WeightsError(f"{path} is not a whole safetensors file ({error}); copy it again") from error
    except (WeightsError, MemoryError):
        raise
    except Exception as error:  # from hostile or damaged bytes the restricted unpickler raises nearly anything
        raise WeightsError(
            f"{path} cannot be loaded as plain tensors (it is damaged, or holds Python objects, which are not run): "
            f"{str(error).splitlines()[0] if str(error) else type(error).__name__}"
        ) from error
    if isinstance(state, dict):
        state = next((state[name] for name in wrapped_as if isinstance(state.get(name), dict)), state)
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise WeightsError(f"{path} does not hold a dictionary of tensors by name")
    return dict(state), digest


def load_strictly(network: nn.Module, state: Mapping[str, Tensor], *, where: str) -> None:
    """Copy weights into a network. Raises WeightsError unless names and shapes are exactly those of the network."""
    expected = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    given = {name: tuple(value.shape) for name, value in state.items()}
    problems = []
    if missing := sorted(expected.keys() - given.keys()):
        problems.append(f"{len(missing)} tensors are missing, such as {missing[0]}")
    if surplus := sorted(given.keys() - expected.keys()):
        problems.append(f"{len(surplus)} are unknown to it, such as {surplus[0]}")
    shapes = [name for name in expected if name in given and expected[name] != given[name]]
    if shapes:
        name = shapes[0]
        problems.append(f"{len(shapes)} have another shape, such as {name} ({given[name]}, not {expected[name]})")
    if problems:
        raise WeightsError(f"{where} does not fit the network: {'; '.join(problems)}")
    network.load_state_dict(dict(state))


@contextmanager
def download_errors(name: str) -> Iterator[None]:
    """Bound how long a download may stand still, and turn its failure into a WeightsError that says what to do."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(DOWNLOAD_STALL_SECONDS)
    try:
        yield
    except (OSError, HTTPException, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise WeightsError(
            f"the pretrained weights of {name} cannot be downloaded ({reason}); where there is no network, fetch the "
            "file elsewhere and pass it with --weights FILE (or, for a trial without meaning, --weights random:0)"
        ) from error
    finally:
        socket.setdefaulttimeout(before)


def download(url: str, *, name: str) -> Path:
    """The file behind a URL, in torch's usual cache; checked against the digest in its name where it has one."""
    file_name = Path(urlparse(url).path).name
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    path = folder / file_name
    if not path.exists():
        digest = re.search(r"-([0-9a-f]{8,})\.", file_name)
        with download_errors(name):
            folder.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(url, str(path), digest.group(1) if digest else None, progress=False)
    return path

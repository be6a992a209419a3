"""Where a backbone's weights come from, loaded without running code from the file and only if they fit exactly.

`pretrained` is the library's own download, a path is a local file, `random:SEED` is seeded noise. None ever stands in
for another.
"""

import hashlib
import re
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlparse

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from mrnn.data.errors import SettingError, WeightsError
from mrnn.data.progress import silent

PRETRAINED = "pretrained"
RANDOM_PREFIX = "random:"
DOWNLOAD_STALL_SECONDS = 30.0  # a download may take its time, but not stand still for longer
TORCH_SUFFIXES = (".pt", ".pth", ".pth.tar", ".bin", ".ckpt")
# Keys under which training programs keep the network among other things, and prefixes that wrappers put before names.
CONTAINERS = ("state_dict", "model_state_dict", "model", "net", "network", "weights", "params")
PREFIXES = ("module.", "_orig_mod.", "model.")  # of DataParallel, torch.compile and Lightning
FOREIGN_CODE = ("Unsupported global", "Unsupported class", "Trying to instantiate", "Trying to call")
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


def read_weights(path: str | Path, *, report: Callable[[str], None] = silent) -> tuple[dict[str, Tensor], str]:
    """The tensors of a file by name, and the file's SHA-256.

    No code in the file is run. Tensors that a checkpoint holds under one of CONTAINERS are taken out of it, and one of
    PREFIXES that all names share is taken off.

    path : a .safetensors file, or one of torch (.pt, .pth, .pth.tar, .bin, .ckpt)
    report : called with a line that says what was taken out and off
    Raises WeightsError if there is no such file, it is damaged, or holds anything but tensors.
    """
    path = Path(path)
    try:
        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise WeightsError(f"cannot read the weights {path}: {error.strerror}") from error
    if path.name.endswith(".safetensors"):
        try:
            state: Any = load_file(path)
        except SafetensorError as error:
            raise _damaged(path, error) from error
    elif path.name.endswith(TORCH_SUFFIXES):
        state = _load_torch(path)
    else:
        raise WeightsError(f"{path}: weights must be a .safetensors, .pt or .pth file")
    taken = []
    while isinstance(state, dict) and (key := next((k for k in CONTAINERS if isinstance(state.get(k), dict)), None)):
        state = state[key]
        taken.append(repr(key))
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise WeightsError(f"{path} does not hold a dictionary of tensors by name")
    tensors = {str(name): value for name, value in state.items()}
    off = []
    while prefix := next((p for p in PREFIXES if tensors and all(name.startswith(p) for name in tensors)), None):
        tensors = {name.removeprefix(prefix): value for name, value in tensors.items()}
        off.append(repr(prefix))
    if taken or off:
        parts = [f"the tensors are taken from {' in '.join(reversed(taken))}"] if taken else []
        parts += [f"{', '.join(off)} is taken off their names"] if off else []
        report(f"{path}: {' and '.join(parts)}")
    return tensors, digest


def _load_torch(path: Path) -> Any:
    """What torch's restricted unpickler makes of a file: tensors and plain containers, never code."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    except Exception as error:  # from hostile or damaged bytes the restricted unpickler raises nearly anything
        if any(words in str(error) for words in FOREIGN_CODE):
            raise WeightsError(
                f"{path} holds Python objects beside its tensors, which are not run; save the network's state_dict "
                "alone, where the file comes from, or use the .safetensors file"
            ) from error
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> WeightsError:
    """For a broken download, mostly. Advice of the library to load it with less care is not passed on."""
    with path.open("rb") as stream:
        start = stream.read(64).lstrip().lower()
    web_page = start.startswith((b"<!doctype html", b"<html"))
    reason = "a web page, not weights" if web_page else f"{path.stat().st_size} bytes, {type(error).__name__}"
    return WeightsError(f"the file is damaged ({reason}): delete {path} and try again")


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

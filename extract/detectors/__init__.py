"""The detectors by name: yolox-nano, torchvision:NAME. A new family is one file and a branch here."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.models import detection as models
from torchvision.models import get_model, get_model_weights, list_models

from mrnn.data.errors import SettingError, WeightsError
from mrnn.extract.backbones.weights import PRETRAINED, build_random, download, load_strictly, random_seed, read_weights
from mrnn.extract.detectors import yolox
from mrnn.extract.detectors.detector import Candidates, Detector

__all__ = ["Detector", "build_detector", "parse_detector"]

YOLOX_NANO, TORCHVISION = "yolox-nano", "torchvision:"
GREY = (114, 114, 114)  # what YOLOX fills with where the picture ends
LOWEST_SCORE = 0.01  # torchvision's detectors suppress boxes of each class before we do; below this it takes too long


def parse_detector(text: str) -> tuple[str, str]:
    """'NAME[:WEIGHTS]' as name and weights ('pretrained' where there are none). Raises SettingError for other names."""
    parts = text.split(":")
    used = 2 if text.startswith(TORCHVISION) else 1
    name, weights = ":".join(parts[:used]), ":".join(parts[used:]) or PRETRAINED
    known = [YOLOX_NANO, *(TORCHVISION + model for model in list_models(module=models))]
    if name not in known:
        raise SettingError(f"there is no detector {name!r}: give {', '.join(known)}, with :WEIGHTS behind it")
    random_seed(weights)
    return name, weights


def build_detector(name: str, *, weights: str, device: torch.device) -> Detector:
    """A detector on its device.

    weights : 'pretrained' (torchvision's only), a file, or 'random:SEED'. Raises WeightsError for weights that cannot
    be had or do not fit.
    """
    return _yolox(weights, device) if name == YOLOX_NANO else _torchvision(name, weights, device)


def _yolox(weights: str, device: torch.device) -> Detector:
    if weights == PRETRAINED:
        raise WeightsError(
            "yolox-nano has no weights that are downloaded by themselves: fetch yolox_nano.pth from the releases of "
            "Megvii's YOLOX and pass detector:yolox-nano:FILE"
        )
    if (seed := random_seed(weights)) is not None:
        network, digest = build_random(lambda: yolox.YoloxNano().eval(), seed=seed)
    else:
        state, digest = read_weights(Path(weights))
        network = yolox.YoloxNano().eval()
        load_strictly(network, yolox.folded(state), where=weights)
    network.to(device).requires_grad_(False)

    def candidates(picture: Image.Image) -> Candidates:
        scale = yolox.SIDE / max(picture.size)
        size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
        canvas = Image.new("RGB", (yolox.SIDE, yolox.SIDE), GREY)
        canvas.paste(picture.resize(size, Image.Resampling.BILINEAR))
        pixels = torch.from_numpy(np.asarray(canvas)[:, :, ::-1].copy()).permute(2, 0, 1)[None]
        boxes, scores = yolox.decode(network(pixels.to(device).float())[0])
        best, classes = scores.max(1)
        whole = torch.tensor([picture.width / size[0], picture.height / size[1]]).repeat(2)
        return boxes.cpu() * whole, best.cpu(), classes.cpu()

    return Detector(YOLOX_NANO, weights, digest, yolox.CLASSES, candidates)


def _torchvision(name: str, weights: str, device: torch.device) -> Detector:
    model = name.removeprefix(TORCHVISION)
    offered = get_model_weights(model).DEFAULT

    def construct() -> torch.nn.Module:
        network: torch.nn.Module = get_model(model, weights=None, weights_backbone=None)
        return network.eval()

    if (seed := random_seed(weights)) is not None:
        network, digest = build_random(construct, seed=seed)
    else:
        path = download(offered.url, name=name) if weights == PRETRAINED else Path(weights)
        state, digest = read_weights(path)
        network = construct()
        load_strictly(network, state, where=str(path))
    thresholded = getattr(network, "roi_heads", network)
    thresholded.score_thresh = LOWEST_SCORE
    network.to(device).requires_grad_(False)

    def candidates(picture: Image.Image) -> Candidates:
        pixels = torch.from_numpy(np.asarray(picture).copy()).permute(2, 0, 1).float() / 255
        found: dict[str, Tensor] = network([pixels.to(device)])[0]
        return found["boxes"].cpu(), found["scores"].cpu(), found["labels"].cpu()

    return Detector(name, weights, digest, tuple(offered.meta["categories"]), candidates)

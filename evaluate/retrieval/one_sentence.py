"""Exact scores of one sentence under many images; mrnn.evaluate.retrieval.late_fusion scores many under one.

A sentence has about a dozen states, too few for an efficient matrix product; the states under many images are enough.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from mrnn.evaluate.retrieval.late_fusion import language_half
from mrnn.evaluate.retrieval.prefix_tree import build_prefix_tree
from mrnn.train.features import Features
from mrnn.train.models.captioner import LateFusion
from mrnn.train.products import product

STATES = 256  # pairs of image and state scored at a time: 2.6 MB of logits at V = 2,538
IMAGES_READ = 4096  # images whose features are projected at a time


@torch.inference_mode()
def score_sentence(model: LateFusion, sentence: Sequence[int] | np.ndarray, vectors: Tensor) -> np.ndarray:
    """Natural log P(w | I) of one sentence under many images, END counted.

    model : the model in eval mode.
    sentence : word numbers without START and END.
    vectors : (n, M), V_I I of each image.

    Returns (n,) float64.
    """
    tree = build_prefix_tree([sentence])
    language = language_half(model, tree)
    targets = torch.from_numpy(tree.edge_targets).to(language.device)
    scores = []
    for part in vectors.split(max(1, STATES // len(language))):
        multimodal = model.fuse(language, part.to(language)[:, None]).flatten(0, 1)
        logits = product(multimodal, model.output.weight, model.output.bias)
        totals = logits.logsumexp(1).view(len(part), -1)
        chosen = logits.view(len(part), len(targets), -1).gather(2, targets.expand(len(part), -1)[..., None])
        scores.append((chosen[..., 0] - totals).double().sum(1))
    return torch.cat(scores).cpu().numpy()


@torch.inference_mode()
def image_vectors(model: LateFusion, features: Features, images: np.ndarray) -> Iterator[Tensor]:
    """V_I I of the images with these numbers, in parts of (n, M) on the device of the model."""
    for start in range(0, len(images), IMAGES_READ):
        yield model.image(features[images[start : start + IMAGES_READ]].to(model.output.weight))

"""Rebuilds the backbone that computed the features of a model's training, from what the checkpoint recorded."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from mrnn.data.errors import EvaluationError, WeightsError
from mrnn.extract.backbones import Backbone, build_backbone
from mrnn.extract.images import Preprocessing


def rebuild_backbone(recorded: Mapping[str, Any], weights: str | None, *, feature_size: int, where: str) -> Backbone:
    """The recorded network with its layer, preprocessing and weights.

    recorded : provenance of the features.
    weights : where to take the weights from; None for the recorded origin.
    feature_size : D of the model.
    where : the checkpoint, for messages.

    Raises EvaluationError if the features are of unknown or foreign origin, WeightsError if the weights cannot be
    obtained or are not the recorded ones.
    """
    origin = weights or str(recorded.get("weights", ""))
    try:
        preprocessing = Preprocessing.from_json(str(recorded["preprocessing"]))
        backbone = build_backbone(
            str(recorded["backbone"]), weights=origin, layer=str(recorded["layer"]), preprocessing=preprocessing
        )
    except (KeyError, ValueError) as error:
        raise EvaluationError(
            f"{where} does not record how to compute its features again ({error}); "
            "image files need a model trained on features of extract-features"
        ) from error
    if backbone.weights_sha256 != recorded.get("weights_sha256"):
        raise WeightsError(
            f"the weights {origin} of {backbone.name} are not those the model was trained with (SHA-256 "
            f"{backbone.weights_sha256[:12]}..., recorded is {str(recorded.get('weights_sha256'))[:12]}...); "
            "name the right file with --weights"
        )
    if backbone.feature_size != feature_size:
        raise EvaluationError(
            f"{backbone.name} gives {backbone.feature_size} numbers per image, {where} takes {feature_size}"
        )
    return backbone


def as_recorded(recorded: Mapping[str, Any], features: np.ndarray) -> np.ndarray:
    """Features as float32, rounded as the cache stored them, so that results equal those from the cache."""
    dtype = np.dtype(str(recorded.get("dtype", "float32")))
    return features.astype(dtype).astype(np.float32)

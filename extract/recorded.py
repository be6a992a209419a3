"""The backbone that made the features a model was trained on, rebuilt from what the checkpoint recorded of them."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from mrnn.data.errors import EvaluationError, WeightsError
from mrnn.extract.backbones import Backbone, build_backbone
from mrnn.extract.images import Preprocessing


def rebuild_backbone(recorded: Mapping[str, Any], weights: str | None, *, feature_size: int, where: str) -> Backbone:
    """The recorded network with its layer, preprocessing and weights.

    recorded : provenance of the features. weights : instead of the recorded origin. feature_size : what the model
    takes. where : the checkpoint, for messages. Raises EvaluationError if the features are of unknown or foreign
    origin, WeightsError if the weights cannot be had or are not the recorded ones.
    """
    origin = weights or str(recorded.get("weights", ""))
    try:
        preprocessing = Preprocessing.from_json(str(recorded["preprocessing"]))
        backbone = build_backbone(
            str(recorded["backbone"]), weights=origin, layer=str(recorded["layer"]), preprocessing=preprocessing
        )
    except (KeyError, ValueError) as error:
        raise EvaluationError(
            f"{where} does not say how its features were made in a way that can be repeated ({error}); "
            "picture files need a model trained on features of extract-features"
        ) from error
    if backbone.weights_sha256 != recorded.get("weights_sha256"):
        raise WeightsError(
            f"the weights {origin} of {backbone.name} are not those the model was trained with (SHA-256 "
            f"{backbone.weights_sha256[:12]}..., recorded is {str(recorded.get('weights_sha256'))[:12]}...); "
            "name the right file with --weights"
        )
    if backbone.feature_size != feature_size:
        raise EvaluationError(
            f"{backbone.name} gives {backbone.feature_size} numbers a picture, {where} takes {feature_size}"
        )
    return backbone


def as_recorded(recorded: Mapping[str, Any], features: np.ndarray) -> np.ndarray:
    """Features rounded as the cache stored them, float32, so that answers equal those from the cache."""
    dtype = np.dtype(str(recorded.get("dtype", "float32")))
    return features.astype(dtype).astype(np.float32)

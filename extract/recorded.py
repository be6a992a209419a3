"""Rebuilds what computed the features of a model's training, from the provenance that the checkpoint recorded."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mrnn.data.captions import Corpus, Image
from mrnn.data.errors import EvaluationError, SettingError, WeightsError
from mrnn.data.settings import FEATURE_SETTINGS, REGION_SETTINGS, SAMPLING_SETTINGS
from mrnn.extract.backbones import Backbone, build_backbone
from mrnn.extract.config import ENLARGED, NO_VIEWS, source_names
from mrnn.extract.detectors import build_detector
from mrnn.extract.images import Preprocessing
from mrnn.extract.plan import Plan, plan_regions
from mrnn.extract.regions import Detected, Grid, Joined, RegionSource, open_source
from mrnn.extract.roi import PooledRegions
from mrnn.extract.sampling import CroppedRegions, Sampler, WholePictures

LARGEST_BATCH = 64  # rows, or whole pictures, in the backbone at a time


def recorded_rows(recorded: Mapping[str, Any]) -> int:
    """R of the features: 1, or with regions the whole picture and those of each source."""
    if "regions" not in recorded:
        return 1
    return 1 + int(recorded["regions_per_image"]) * len(source_names(str(recorded["regions"])))


def rebuild_plan(
    recorded: Mapping[str, Any],
    network: Backbone,
    source: RegionSource | None,
    *,
    pictures: int,
    device: torch.device,
    where: str,
) -> Plan:
    """What computes the rows of a picture as those of the training were computed.

    recorded : provenance of the features.
    network : from `rebuild_backbone`.
    source : from `rebuild_source`, for all `recorded_rows`; None where whole pictures are enough.
    pictures : number of pictures to come, which a pass is made for.
    device : where the networks run.
    where : the checkpoint, for messages.

    Raises EvaluationError if this version computes other regions than were recorded.
    """
    if source is None:
        size = max(1, min(pictures, LARGEST_BATCH))
        return Plan(WholePictures(network, batch_size=size, device=device, precision="float32"), None, {})
    features = str(recorded["region_features"])
    every = recorded_rows(recorded)
    sampler = _rebuild_sampler(recorded, network, features, rows=every, pictures=pictures, device=device)
    plan = plan_regions(network, sampler, source, features=features, count=int(recorded["regions_per_image"]))
    _refuse_other_features(recorded, plan, (*FEATURE_SETTINGS, *REGION_SETTINGS), where=where)
    return plan


def plan_for_regions(
    recorded: Mapping[str, Any],
    network: Callable[[], Backbone],
    regions: str,
    names: Sequence[str],
    *,
    count: int,
    device: torch.device,
    where: str,
) -> Plan:
    """What computes the features of other regions of pictures as those of the training were computed.

    network : returns what `rebuild_backbone` does; called once the rest is known to be possible.
    regions : 'grid', 'detector:NAME[:WEIGHTS]' or 'boxes:FILE', or several of them joined by '+'.
    names : of the pictures, by which a file of boxes knows them.
    count : regions of a picture at most, from each source.

    The other arguments are as for `rebuild_plan`. Raises EvaluationError where the training had no regions, and as
    `rebuild_backbone` and `open_source` do.
    """
    if "boxes:annotated" in source_names(regions):
        raise SettingError(
            "boxes:annotated are those of a data set; for image files give grid, a detector or boxes:FILE"
        )
    if "region_features" not in recorded:
        raise EvaluationError(
            f"{where} was trained on whole pictures, and nothing says how to compute the features of a region; give a "
            "model that was trained on a cache with regions (extract-features --regions)"
        )
    backbone = network()
    corpus = Corpus("these files", Path(), tuple(Image(name, name, "", ()) for name in names))
    source = open_source(regions, corpus, count=count, device=device)
    features, rows = str(recorded["region_features"]), 1 + count * len(source_names(regions))
    sampler = _rebuild_sampler(recorded, backbone, features, rows=rows, pictures=len(names), device=device)
    plan = plan_regions(backbone, sampler, source, features=features, count=count)
    _refuse_other_features(recorded, plan, (*FEATURE_SETTINGS, *SAMPLING_SETTINGS), where=where)
    return plan


def _refuse_other_features(recorded: Mapping[str, Any], plan: Plan, names: Sequence[str], *, where: str) -> None:
    """Raise EvaluationError if what a plan computes differs in some of the settings from what was recorded."""
    if different := [name for name in names if recorded.get(name) != plan.provenance.get(name)]:
        pairs = "; ".join(f"{name}: {recorded.get(name)}, now {plan.provenance.get(name)}" for name in different)
        raise EvaluationError(
            f"this version of mrnn computes other regions than {where} was trained on ({pairs}); train it again on a "
            "cache of this version"
        )


def rebuild_source(
    recorded: Mapping[str, Any], weights: str | None, *, device: torch.device, where: str
) -> RegionSource:
    """What finds regions as those of the training were found; the arguments are those of `rebuild_backbone`.

    Raises EvaluationError for boxes that a new picture lacks, WeightsError as `rebuild_backbone` does.
    """
    count = int(recorded["regions_per_image"])
    sources: list[RegionSource] = []
    for name in source_names(str(recorded["regions"])):
        kind, _, rest = name.partition(":")
        if kind == "boxes":
            raise EvaluationError(
                f"{where} was trained on boxes that came with its images ({name}), which a new picture does not have; "
                "image files need a model trained on the regions of a grid or a detector"
            )
        if kind == "grid":
            sources.append(Grid(count))
            continue
        origin = weights or str(recorded["region_weights"])
        detector = build_detector(rest, weights=origin, device=device)
        if detector.weights_sha256 != recorded["region_weights_sha256"]:
            raise WeightsError(
                f"the weights {origin} of {rest} are not those that found the regions of the training (SHA-256 "
                f"{detector.weights_sha256[:12]}..., recorded is {str(recorded['region_weights_sha256'])[:12]}...); "
                "name the right file with --region-weights"
            )
        sources.append(Detected(detector, count=count))
    return sources[0] if len(sources) == 1 else Joined(sources)


def _rebuild_sampler(
    recorded: Mapping[str, Any], network: Backbone, features: str, *, rows: int, pictures: int, device: torch.device
) -> Sampler:
    if features == "crop":
        size = min(pictures * rows, LARGEST_BATCH)
        return CroppedRegions(network, rows=rows, batch_size=size, device=device, precision="float32")
    # The backbone has the preprocessing of the large picture; its map at its own input is recorded.
    sampling = json.loads(str(recorded["region_sampling"]))
    height, width = sampling["map"]
    return PooledRegions(
        network,
        rows=rows,
        side=int(sampling["side"]),
        batch_size=min(pictures * ENLARGED, LARGEST_BATCH),
        device=device,
        precision="float32",
        cells=(height, width),
    )


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
            str(recorded["backbone"]),
            weights=origin,
            layer=str(recorded["layer"]),
            views=str(recorded.get("views", NO_VIEWS)),
            preprocessing=preprocessing,
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

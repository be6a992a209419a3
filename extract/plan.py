"""From settings to what does the work: a sampler, a source of regions, and what both add to the provenance."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from mrnn.data.captions import Corpus
from mrnn.extract.backbones import Backbone
from mrnn.extract.config import ExtractionConfig
from mrnn.extract.network import choose_device
from mrnn.extract.regions import RegionSource, open_source
from mrnn.extract.roi import PooledRegions, default_side
from mrnn.extract.sampling import CroppedRegions, Sampler, WholePictures

DEFAULT_REGIONS, DEFAULT_FEATURES = "grid", "crop"


@dataclass(frozen=True)
class Plan:
    """sampler, source : as for `mrnn.extract.runner.extract`. provenance : of the network, the regions and both."""

    sampler: Sampler
    source: RegionSource | None
    provenance: Mapping[str, str | int]


def plan_extraction(corpus: Corpus, network: Backbone, config: ExtractionConfig) -> Plan:
    """What the settings ask for. Raises as `open_source` does, and SettingError for what a network cannot do."""
    device = choose_device(config.device)
    if config.rows_per_image == 1:
        whole = WholePictures(network, batch_size=config.batch_size, device=device, precision=config.precision)
        return Plan(whole, None, network.provenance())
    features = config.region_features or DEFAULT_FEATURES
    source = open_source(config.regions or DEFAULT_REGIONS, corpus, count=config.regions_per_image, device=device)
    sampler = _region_sampler(network, config, features, device)
    return plan_regions(network, sampler, source, features=features, count=config.regions_per_image)


def plan_regions(network: Backbone, sampler: Sampler, source: RegionSource, *, features: str, count: int) -> Plan:
    """The plan of a sampler of regions. features : 'crop' or 'roi'. count : regions of an image from each source."""
    provenance: dict[str, str | int] = {
        **network.provenance(),
        "preprocessing": sampler.preprocessing.to_json(),
        "regions_per_image": count,
        "region_features": features,
        "region_sampling": json.dumps(dict(sampler.settings)),
        **source.provenance(),
    }
    if os.path.exists(weights := str(provenance.get("region_weights", ""))):
        provenance["region_weights"] = os.path.abspath(weights)  # a later stage may run in another folder
    return Plan(sampler, source, provenance)


def _region_sampler(network: Backbone, config: ExtractionConfig, features: str, device: torch.device) -> Sampler:
    rows, batch_size, precision = config.rows_per_image, config.batch_size, config.precision
    if features == "crop":
        return CroppedRegions(network, rows=rows, batch_size=batch_size, device=device, precision=precision)
    side = config.roi_size or default_side(network)
    return PooledRegions(network, rows=rows, side=side, batch_size=batch_size, device=device, precision=precision)

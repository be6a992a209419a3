"""The features of pictures that are in no cache, computed as those that a model was trained on.

The only module of evaluate/ beside the commands that may import mrnn.extract.
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from mrnn.data.errors import ImageError
from mrnn.data.pictures import refuse_address
from mrnn.data.regions import Regions
from mrnn.data.settings import FEATURE_SETTINGS
from mrnn.evaluate.search.once import Once
from mrnn.extract.backbones import Backbone
from mrnn.extract.images import Source as Picture
from mrnn.extract.recorded import (
    as_recorded,
    plan_for_regions,
    rebuild_backbone,
    rebuild_plan,
    rebuild_source,
    recorded_rows,
)
from mrnn.extract.regions import RegionSource
from mrnn.extract.runner import rows_of_pictures
from mrnn.train.checkpoint import TrainedModel

REGIONS_PER_IMAGE = 19  # as extract-features has it

__all__ = ["REGIONS_PER_IMAGE", "ImageRows", "Picture", "PictureReader", "RegionsOfPictures", "name_pictures"]


@dataclass(frozen=True)
class ImageRows:
    """The rows of the m pictures that could be read, in their order; a mrnn.train.features.RegionRows.

    names : of the m pictures, see `name_pictures`
    features : (m, R, D) float32, computed and rounded as those that the model was trained on
    places : the regions of the m * R rows
    unreadable : the names of the other pictures, each with the reason
    """

    names: list[str]
    features: Tensor
    places: Regions
    unreadable: list[tuple[str, str]]

    def __getitem__(self, images: np.ndarray) -> Tensor:
        """See `mrnn.train.features.RegionRows`."""
        return self.features[images, 0]

    def regions(self, images: np.ndarray) -> tuple[Tensor, Tensor]:
        """See `mrnn.train.features.RegionRows`."""
        valid = torch.from_numpy(self.places.valid.reshape(self.features.shape[:2]) > 0)
        return self.features[images], valid[images]


@dataclass(frozen=True)
class RegionsOfPictures:
    """The regions of pictures, found by a source of one's own choice.

    names, ids : of the m pictures, for people, and for the source and the seed
    rectangles : (m, R, 4) float32, left, top, width, height in pixels of the upright picture; row 0 the whole picture
    chosen : (n, 2) int64, number of the picture and row of each region that there is, without whole pictures
    features : (n, D) float32, of those regions
    reasons : why a picture could not be read, by its number
    provenance : what decided on the regions
    """

    names: list[str]
    ids: list[str]
    rectangles: np.ndarray
    chosen: np.ndarray
    features: Tensor
    reasons: dict[int, str]
    provenance: dict[str, Any]


class PictureReader:
    """Computes the rows of pictures that a model looks at. The networks are read at first use, then kept.

    Threads may share it: the networks work for one of them at a time, and use all of torch's threads.
    """

    def __init__(
        self,
        trained: TrainedModel,
        *,
        weights: str | None = None,
        region_weights: str | None = None,
        workers: int = 2,
        networks: Once | None = None,
    ) -> None:
        """
        trained : the model, whose device is used
        weights : of the backbone, a file or 'pretrained'; None for where the weights of the training features came from
        region_weights : of the detector of regions; None likewise
        workers : threads that decode pictures
        networks : where readers of several models keep their backbones, so that equal ones are read once
        """
        self.trained = trained
        self._weights, self._region_weights, self._workers = weights, region_weights, workers
        self._device = next(trained.model.parameters()).device
        self._lock = threading.Lock()
        self._networks = networks or Once()

    @property
    def _network(self) -> Backbone:
        recorded, size = self.trained.features, self.trained.model.config.features
        made_of = (self._weights, size, *(str(recorded.get(name)) for name in ("weights", *FEATURE_SETTINGS)))
        return self._networks(
            made_of,
            lambda: rebuild_backbone(recorded, self._weights, feature_size=size, where=str(self.trained.file)),
        )

    @cached_property
    def _source(self) -> RegionSource:
        recorded, where = self.trained.features, str(self.trained.file)
        return rebuild_source(recorded, self._region_weights, device=self._device, where=where)

    def rows(self, pictures: Sequence[Picture], *, strict: bool = False) -> ImageRows:
        """The rows of pictures that the model looks at: the whole picture, for some models its regions too.

        pictures : files, as paths or as their bytes; images of Pillow; arrays of uint8, (height, width, 3) or
            (height, width)
        strict : whether a picture that cannot be read is an error, and not listed

        Raises EvaluationError where the training features are of unknown or foreign origin, or their regions were
        given; WeightsError where weights cannot be had or are not the recorded ones; CorpusError for an address on the
        web; ImageError for what is no picture at all, and if it is `strict` for one that cannot be read.
        """
        names, recorded = name_pictures(pictures), self.trained.features
        rows = self.trained.model.config.rows(recorded_rows(recorded))
        with self._lock:
            network = self._network
            plan = rebuild_plan(
                recorded,
                network,
                self._source if rows > 1 else None,
                pictures=len(pictures),
                device=self._device,
                where=str(self.trained.file),
            )
            found = rows_of_pictures(plan.sampler, pictures, ids=names, source=plan.source, workers=self._workers)
        if strict and found.reasons:
            number, reason = min(found.reasons.items())
            raise ImageError(f"{names[number]}: {reason}")
        good = np.array([number for number in range(len(pictures)) if number not in found.reasons], dtype=np.int64)
        places = (good[:, None] * plan.sampler.rows + np.arange(rows)).ravel()
        return ImageRows(
            [names[number] for number in good],
            torch.from_numpy(as_recorded(recorded, found.features[good, :rows])),
            found.regions[places],
            [(names[number], reason) for number, reason in sorted(found.reasons.items())],
        )

    def regions(
        self, pictures: Sequence[Picture], regions: str, *, count: int = REGIONS_PER_IMAGE
    ) -> RegionsOfPictures:
        """The features of regions of pictures, for a model that was trained on a cache with regions.

        pictures : as for `rows`
        regions : where they are, as for extract-features: 'grid', 'detector:NAME[:WEIGHTS]' or 'boxes:FILE'; a file of
            boxes knows a picture by the name of its file
        count : largest number of regions of a picture, from each source

        Raises as mrnn.extract.recorded.plan_for_regions and `rows` do.
        """
        names = name_pictures(pictures)
        ids = [Path(name).name for name in names] if "boxes:" in regions else names
        with self._lock:
            plan = plan_for_regions(
                self.trained.features,
                lambda: self._network,
                regions,
                ids,
                count=count,
                device=self._device,
                where=str(self.trained.file),
            )
            found = rows_of_pictures(plan.sampler, pictures, ids=ids, source=plan.source, workers=self._workers)
        rows = plan.sampler.rows
        valid = found.regions.valid.reshape(len(pictures), rows) > 0
        valid[:, 0] = False  # the whole picture is no region
        chosen = np.argwhere(valid)
        return RegionsOfPictures(
            names=names,
            ids=ids,
            rectangles=found.regions.rectangles.reshape(len(pictures), rows, 4),
            chosen=chosen,
            features=torch.from_numpy(as_recorded(self.trained.features, found.features[chosen[:, 0], chosen[:, 1]])),
            reasons=found.reasons,
            provenance=dict(plan.provenance),
        )


def name_pictures(pictures: Sequence[Picture]) -> list[str]:
    """What each picture is called: its path, the file that Pillow opened it from, or its place, as 'picture 1'.

    Raises ImageError for anything that is no picture, CorpusError for an address on the web.
    """
    names = []
    for number, picture in enumerate(pictures, start=1):
        if isinstance(picture, str | Path):
            refuse_address(picture)
            names.append(str(picture))
        elif isinstance(picture, bytes | Image.Image | np.ndarray):
            names.append(str(getattr(picture, "filename", "")) or f"picture {number}")
        else:
            raise ImageError(
                f"picture {number} is of the type {type(picture).__name__}; give the path of a file, its bytes, an "
                "image of Pillow, or an array of uint8 with the shape (height, width, 3) or (height, width)"
            )
    return names

"""The features of image files, computed as those that a model was trained on.

The only module of evaluate/ beside the commands that may import mrnn.extract.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mrnn.data.errors import ImageError
from mrnn.data.pictures import refuse_address
from mrnn.data.regions import Regions
from mrnn.extract.recorded import as_recorded, plan_for_regions, rebuild_plan, recorded_rows
from mrnn.extract.runner import rows_of_files
from mrnn.train.checkpoint import TrainedModel

REGIONS_PER_IMAGE = 19  # as extract-features has it


@dataclass(frozen=True)
class ImageRows:
    """The rows of the m image files that could be read, in their order; a mrnn.train.features.RegionRows.

    files : the m files
    features : (m, R, D) float32, computed and rounded as those that the model was trained on
    places : the regions of the m * R rows
    unreadable : the other files, each with the reason
    """

    files: list[Path]
    features: Tensor
    places: Regions
    unreadable: list[tuple[Path, str]]

    def regions(self, images: np.ndarray) -> tuple[Tensor, Tensor]:
        """See `mrnn.train.features.RegionRows`."""
        valid = torch.from_numpy(self.places.valid.reshape(self.features.shape[:2]) > 0)
        return self.features[images], valid[images]


def rows_of_images(
    trained: TrainedModel,
    files: Sequence[str | Path],
    *,
    weights: str | None = None,
    region_weights: str | None = None,
    workers: int = 2,
) -> ImageRows:
    """The rows of image files that a model looks at: the whole picture, for some models its regions too.

    trained : the model, whose device is used
    files : of the images
    weights : of the backbone, a file or 'pretrained'; None for where the weights of the training features came from
    region_weights : of the detector of regions; None likewise
    workers : threads that decode images

    Raises EvaluationError where the training features are of unknown or foreign origin, or their regions were given;
    WeightsError where weights cannot be had or are not the recorded ones.
    """
    paths = [Path(file) for file in files]
    config, recorded = trained.model.config, trained.features
    rows = config.rows(recorded_rows(recorded))
    plan = rebuild_plan(
        recorded,
        rows=rows,
        pictures=len(paths),
        feature_size=config.features,
        device=next(trained.model.parameters()).device,
        where=str(trained.file),
        weights=weights,
        region_weights=region_weights,
    )
    found = rows_of_files(plan.sampler, paths, source=plan.source, workers=workers)
    good = np.array([number for number in range(len(paths)) if number not in found.reasons], dtype=np.int64)
    places = (good[:, None] * plan.sampler.rows + np.arange(rows)).ravel()
    return ImageRows(
        [paths[number] for number in good],
        torch.from_numpy(as_recorded(recorded, found.features[good, :rows])),
        found.regions[places],
        [(paths[number], reason) for number, reason in sorted(found.reasons.items())],
    )


def rows_of_image(
    trained: TrainedModel, file: str | Path, *, weights: str | None = None, region_weights: str | None = None
) -> ImageRows:
    """The rows of one image file, see `rows_of_images`.

    Raises ImageError if the file cannot be read, CorpusError for an address on the web.
    """
    refuse_address(file)
    rows = rows_of_images(trained, [file], weights=weights, region_weights=region_weights, workers=1)
    if rows.unreadable:
        raise ImageError(f"{file}: {rows.unreadable[0][1]}")
    return rows


@dataclass(frozen=True)
class RegionsOfFiles:
    """The regions of image files, found by a source of one's own choice.

    files, ids : the m files, and by what id the source and the seed know them
    rectangles : (m, R, 4) float32, left, top, width, height in pixels of the upright picture; row 0 the whole picture
    chosen : (n, 2) int64, number of the file and row of each region that there is, without whole pictures
    features : (n, D) float32, of those regions
    reasons : why a file could not be read, by its number
    provenance : what decided on the regions
    """

    files: list[Path]
    ids: list[str]
    rectangles: np.ndarray
    chosen: np.ndarray
    features: Tensor
    reasons: dict[int, str]
    provenance: dict[str, Any]


def rows_of_regions(
    trained: TrainedModel,
    files: Sequence[str | Path],
    regions: str,
    *,
    count: int = REGIONS_PER_IMAGE,
    weights: str | None = None,
    workers: int = 2,
) -> RegionsOfFiles:
    """The features of regions of image files, for a model that was trained on a cache with regions.

    regions : where they are, as for extract-features: 'grid', 'detector:NAME[:WEIGHTS]' or 'boxes:FILE'; a file of
        boxes knows an image by the name of its file
    count : largest number of regions of an image, from each source
    trained, files, weights, workers : as for `rows_of_images`

    Raises as mrnn.extract.recorded.plan_for_regions does.
    """
    paths = [Path(file) for file in files]
    ids = [path.name for path in paths] if "boxes:" in regions else [str(path) for path in paths]
    plan = plan_for_regions(
        trained.features,
        regions,
        ids,
        count=count,
        feature_size=trained.model.config.features,
        device=next(trained.model.parameters()).device,
        where=str(trained.file),
        weights=weights,
    )
    found = rows_of_files(plan.sampler, paths, ids=ids, source=plan.source, workers=workers)
    rows = plan.sampler.rows
    valid = found.regions.valid.reshape(len(paths), rows) > 0
    valid[:, 0] = False  # the whole picture is no region
    chosen = np.argwhere(valid)
    return RegionsOfFiles(
        files=paths,
        ids=ids,
        rectangles=found.regions.rectangles.reshape(len(paths), rows, 4),
        chosen=chosen,
        features=torch.from_numpy(as_recorded(trained.features, found.features[chosen[:, 0], chosen[:, 1]])),
        reasons=found.reasons,
        provenance=dict(plan.provenance),
    )

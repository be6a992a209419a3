"""How an extraction is run; the command takes its defaults from here. Free of torch, so that `--help` is quick."""

import os
import re
from dataclasses import dataclass
from typing import Any

from mrnn.data.errors import SettingError
from mrnn.data.settings import FEATURE_DTYPES, check_settings, setting

# An image of twice the width and height, as region_features roi takes it, is as much work as four.
ENLARGED = 4
VIEWS = NO_VIEWS, FLIP = "none", "flip"
Colour = tuple[float, float, float]


def available_cpus() -> int:
    """CPUs that this process may use; fewer than the machine has in most batch jobs. macOS knows only the machine's."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True)
class ExtractionConfig:
    """The network, its preprocessing and the way of computing. Raises SettingError for what cannot be.

    mean, std : per channel R, G, B, on a scale where white is 1; None for the library's values.
    device : 'auto' (a GPU if there is one), 'cpu', 'cuda' or 'cuda:N'.
    Batch size and the number of network threads are recorded in the cache, since the last bits of features depend on
    them; a cache is resumed with the recorded number unless `threads` says otherwise.
    """

    backbone: str = setting("alexnet", "Network: alexnet, vgg16, torchvision:NAME or timm:NAME (needs the extra timm).")
    weights: str = setting(
        "pretrained", "Weights: pretrained (downloaded once), a .safetensors, .pt or .pth file, or random:SEED."
    )
    layer: str | None = setting(
        None,
        "Layer whose values are the features: fc7 or fc6 of alexnet and vgg16, penultimate of other networks, or any "
        "module of the network by name, such as blocks.4, a map being averaged over its places; several joined by + "
        "are put side by side.  [default: fc7; penultimate for other networks]",
        kind=str,
    )
    views: str = setting(
        NO_VIEWS,
        "Views of an image whose features are averaged: flip takes the image and its mirror image, in twice the time.",
        choices=VIEWS,
    )
    resize: int | None = setting(
        None, "Length in pixels to which the short side is resized.  [default: the library's]", kind=int, at_least=1
    )
    crop: int | None = setting(
        None, "Side in pixels of the square cut from the centre.  [default: the library's]", kind=int, at_least=1
    )
    interpolation: str | None = setting(
        None, "Interpolation for resizing.  [default: the library's]", kind=str, choices=("bilinear", "bicubic")
    )
    warp: bool = setting(
        False, "Resize both sides to the same length, losing the aspect ratio, as Caffe and neuraltalk did."
    )
    mean: Colour | None = None
    std: Colour | None = None
    dtype: str = setting("float16", "Number format in which the features are stored.", choices=FEATURE_DTYPES)
    batch_size: int = setting(
        64,
        "Number of images per forward pass (of regions for --region-features crop; a quarter as many images for roi); "
        "recorded. More is not faster on a CPU.",
        at_least=1,
    )
    workers: int | None = setting(
        None, "Number of threads that decode images.  [default: one per available CPU]", kind=int, at_least=1
    )
    threads: int | None = setting(
        None,
        "Number of CPU threads for the network.  [default: as recorded when resuming, else one per available CPU]",
        kind=int,
        at_least=1,
    )
    device: str = "auto"
    precision: str = setting(
        "float32",
        "Arithmetic of the network; bfloat16 (CUDA only) is faster and less accurate.",
        choices=("float32", "bfloat16"),
    )
    regions: str | None = setting(
        None,
        "Regions to describe beside the whole image: grid, detector:yolox-nano:WEIGHTS, "
        "detector:torchvision:NAME[:WEIGHTS], boxes:annotated (those of the data set) or boxes:FILE (COCO results "
        "JSON, or CSV); several joined by +.  [default: none; grid with --region-features]",
        kind=str,
    )
    regions_per_image: int = setting(
        19, "Largest number of regions per image from each source, the best ones.", at_least=1
    )
    region_features: str | None = setting(
        None,
        "How a region is described: crop runs the network on each region cut out with its surroundings; roi runs the "
        "convolutions once and pools each region from their map, which is several times faster.  [default: crop]",
        kind=str,
        choices=("crop", "roi"),
    )
    roi_size: int | None = setting(
        None,
        "Length in pixels to which both sides of an image are resized for --region-features roi.  [default: twice the "
        "network's own for alexnet and vgg16, else 10/7 of it]",
        kind=int,
        at_least=1,
    )
    on_error: str = setting(
        "skip",
        "What to do with an image that cannot be decoded: skip lists it and continues, fail stops.",
        choices=("skip", "fail"),
    )

    def __post_init__(self) -> None:
        check_settings(self)
        if self.roi_size is not None and self.region_features != "roi":
            raise SettingError("roi_size is for region_features roi")

    @property
    def rows_per_image(self) -> int:
        """R: 1, or with regions the whole image and those."""
        if self.regions is None and self.region_features is None:
            return 1
        return 1 + self.regions_per_image * len(source_names(self.regions or ""))

    @property
    def images_per_pass(self) -> int:
        """Images of one pass through the network; batches and shards are cut at its multiples."""
        if self.rows_per_image > 1 and self.region_features == "roi":
            return images_of_pass(self.batch_size, ENLARGED)
        return images_of_pass(self.batch_size, self.rows_per_image)

    def preprocessing(self) -> dict[str, Any]:
        """The fields of mrnn.extract.images.Preprocessing that differ from the library's."""
        names = ("resize", "crop", "interpolation", "mean", "std")
        chosen = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        return chosen | ({"mode": "warp"} if self.warp else {})


def images_of_pass(batch_size: int, rows: int) -> int:
    """Images of a pass of about batch_size rows, where each is as much work as `rows`; at least one."""
    return max(1, batch_size // rows)


def source_names(text: str) -> list[str]:
    """The parts of `--regions`: a '+' separates them where the next source begins, for a path may hold one."""
    return re.split(r"\+(?=grid|detector:|boxes:)", text)


def parse_shard(text: str) -> tuple[int, int]:
    """'I/N' as (I, N). Raises SettingError unless 0 <= I < N."""
    index, slash, count = text.partition("/")
    digits = all(part.isascii() and part.isdigit() for part in (index, count))
    if not (slash and digits) or int(index) >= int(count):
        raise SettingError(f"a shard is written I/N with I from 0 to N-1, not {text!r}")
    return int(index), int(count)


def shard_range(total: int, *, batch_size: int, index: int, count: int) -> tuple[int, int]:
    """Begin and end of one of several contiguous parts that together make up a data set.

    total : number of images.
    batch_size : parts are cut only between batches, so that a shard has the same batches as the whole.
    index, count : the number of this part, from 0, and of all parts.
    Raises SettingError if there are more parts than batches.
    """
    batches = -(-total // batch_size)
    if count > batches:
        raise SettingError(
            f"{total} images in batches of {batch_size} make at most {batches} shards, not {count}; "
            "use fewer shards or a smaller --batch-size"
        )
    return batches * index // count * batch_size, min(batches * (index + 1) // count * batch_size, total)

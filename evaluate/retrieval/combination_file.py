"""combination.json: which models retrieve together, on which caches, and how each is weighted.

`evaluate-mrnn --combine` writes it beside metrics.json; `search-images --combination` and `open_combination` search
with it. Checkpoints and caches are known by their digests, so a model that was trained further is not taken for the one
that the weights were chosen for. A path is looked for as it was recorded, then where it lies if the file and what it
names were moved together. A path that a user writes may be relative to the file.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from os.path import relpath
from pathlib import Path
from typing import Any

from mrnn.data.errors import EvaluationError
from mrnn.evaluate.settings import RetrievalConfig
from mrnn.evaluate.stages import Evaluation
from mrnn.train.exported import WEIGHTS
from mrnn.train.run_files import BEST

FILE = "combination.json"
FORMAT, VERSION = "mrnn-combination", 1


@dataclass(frozen=True)
class Member:
    """One model of a combination.

    run : run folder, or a checkpoint file
    model : its kind
    checkpoint_sha256 : of the checkpoint
    features : its feature cache
    cache_sha256 : of the cache, as `mrnn.evaluate.fit.cache_digest` gives it
    weight, scale : its part of the sum is weight / scale * value
    """

    run: Path
    model: str
    checkpoint_sha256: str
    features: Path
    cache_sha256: str
    weight: float
    scale: float


@dataclass(frozen=True)
class Recipe:
    """What a combination consists of.

    members : those with a weight, at least one
    normaliser_images, seed : how many training images values are normalised over, and the seed that draws them
    local_scaling : how models that match are standardised (mrnn.evaluate.retrieval.two_towers)
    """

    members: tuple[Member, ...]
    normaliser_images: int
    seed: int
    local_scaling: bool

    def to_json(self, folder: Path) -> str:
        """The content of FILE in a folder."""
        content = {
            "format": FORMAT,
            "version": VERSION,
            "folder": str(folder.resolve()),
            "normaliser_images": self.normaliser_images,
            "seed": self.seed,
            "local_scaling": self.local_scaling,
            "members": [
                {**vars(member), "run": str(member.run.resolve()), "features": str(member.features.resolve())}
                for member in self.members
            ],
        }
        return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def recipe_of(members: Sequence[Evaluation], summary: Mapping[str, Any], config: RetrievalConfig) -> Recipe:
    """The combination that an evaluation measured.

    members : the models, with `parts` that know their digests
    summary : `combined` of metrics.json, with the weight and the scale of each
    config : of the evaluation
    """
    found = [
        Member(
            run=each.trained.run if each.trained.file.name in (BEST, WEIGHTS) else each.trained.file,
            model=each.trained.name,
            checkpoint_sha256=each.parts.settings["checkpoint_sha256"],
            features=each.cache.path,
            cache_sha256=each.parts.settings["cache_sha256"],
            weight=said["weight"],
            scale=said["scale"],
        )
        for each, said in zip(members, summary["members"], strict=True)
    ]
    weighted = tuple(member for member in found if member.weight)
    return Recipe(weighted, summary["normaliser_images"], config.seed, config.local_scaling)


def read_recipe(file: Path) -> Recipe:
    """The combination of a file, its paths as they can be opened now.

    Raises EvaluationError if there is none in the file, or one of another version of mrnn.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        if content["format"] != FORMAT:
            raise ValueError("another file")
        if content["version"] != VERSION:
            raise EvaluationError(
                f"{file}: combination version {content['version']!r}; this mrnn reads version {VERSION}; make it again "
                "with evaluate-mrnn --combine"
            )
        folder = Path(content["folder"])
        members = tuple(
            Member(
                **{
                    **each,
                    "run": _place(Path(each["run"]), folder, file),
                    "features": _place(Path(each["features"]), folder, file),
                    "weight": _number(each["weight"]),
                    "scale": _number(each["scale"], above=0),
                }
            )
            for each in content["members"]
        )
        local_scaling = bool(content.get("local_scaling"))  # absent in files of before it existed
        recipe = Recipe(members, int(content["normaliser_images"]), int(content["seed"]), local_scaling)
        if not members or recipe.normaliser_images < 0:
            raise ValueError("no members")
    except OSError as error:
        raise EvaluationError(f"{file}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise EvaluationError(
            f"{file} holds no combination of models; give the {FILE} that evaluate-mrnn --combine writes"
        ) from None
    return recipe


def _number(value: Any, *, above: float = float("-inf")) -> float:
    """A finite number. Raises ValueError or TypeError for anything else."""
    if isinstance(value, bool) or not isfinite(value) or value <= above:
        raise ValueError(f"{value!r} is out of bounds")
    return float(value)


def _place(recorded: Path, folder: Path, file: Path) -> Path:
    """Where a recorded path is now: as recorded, or as far from the file as it was from the folder of the file."""
    if not recorded.is_absolute():
        return file.parent / recorded
    moved = file.parent / relpath(recorded, folder)
    return moved if not recorded.exists() and moved.exists() else recorded

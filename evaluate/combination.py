"""Several trained runs that search together, ready to be used from Python.

    combination = open_combination("runs/lite0-mrnn/evaluation-val-combined/combination.json")
    print(combination.gallery(split="test").find_pictures("a dog in the snow")[0])

`evaluate-mrnn --combine` writes the file. search-images --combination does its work through this; see mrnn.evaluate.run
for a single run.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mrnn.data.cache import FeatureCache, open_cache
from mrnn.data.errors import EvaluationError
from mrnn.evaluate.fit import cache_digest, sha256_of
from mrnn.evaluate.image_rows import Picture, PictureReader
from mrnn.evaluate.retrieval.combination_file import Recipe, read_recipe
from mrnn.evaluate.search.once import Once
from mrnn.evaluate.search.search import Search
from mrnn.evaluate.search.together import Together, open_together
from mrnn.train.checkpoint import load_trained
from mrnn.train.device import pick_device


def open_combination(
    file: str | Path,
    *,
    device: str = "auto",
    weights: str | None = None,
    region_weights: str | None = None,
    workers: int = 2,
    allow_partial: bool = False,
) -> "Combination":
    """Open the runs and the feature caches that a combination consists of.

    file : combination.json of an evaluation with --combine
    device, weights, region_weights, workers : as for `mrnn.evaluate.open_run`, for all runs
    allow_partial : whether caches with pending images are accepted

    Raises EvaluationError if the file holds no combination, or if a run or a cache is missing or is not what it was;
    CheckpointError, CacheError and SettingError as `open_run` and `open_cache` do.
    """
    file = Path(file)
    recipe = read_recipe(file)
    for path, what in [(m.run, "run") for m in recipe.members] + [
        (m.features, "feature cache") for m in recipe.members
    ]:
        if not path.exists():
            raise EvaluationError(f"{file} names the {what} {path}, which is missing; put it back, or correct the file")
    caches, readers, networks = dict[Path, FeatureCache](), [], Once()
    for member in recipe.members:
        trained = load_trained(member.run, device=pick_device(device, "fp32"))
        if sha256_of(trained.file) != member.checkpoint_sha256:
            raise EvaluationError(_changed(file, f"the checkpoint {trained.file}"))
        if member.features not in caches:
            caches[member.features] = open_cache(member.features, allow_partial=allow_partial)
        if cache_digest(caches[member.features]) != member.cache_sha256:
            raise EvaluationError(_changed(file, f"the feature cache {member.features}"))
        readers.append(
            PictureReader(trained, weights=weights, region_weights=region_weights, workers=workers, networks=networks)
        )
    return Combination(file, recipe, tuple(readers), tuple(caches[member.features] for member in recipe.members))


def _changed(file: Path, what: str) -> str:
    return (
        f"{what} is not the one that {file} was made with; choose the weights again with evaluate-mrnn --combine, or "
        "correct the file"
    )


@dataclass(frozen=True)
class Combination:
    """Runs that search together; from `open_combination`.

    file, recipe : what they are, and how they are weighted
    readers : what reads pictures for each of them
    caches : the feature cache of each
    """

    file: Path
    recipe: Recipe
    readers: tuple[PictureReader, ...]
    caches: tuple[FeatureCache, ...]

    def __repr__(self) -> str:
        return f"Combination({str(self.file)!r}, {' + '.join(reader.trained.name for reader in self.readers)})"

    def gallery(self, *, split: str | None = None, index: str | Path | None = None) -> "CombinationGallery":
        """The pictures and sentences of the caches, ready to be searched.

        split : search only its pictures and sentences; None for all
        index : folder that keeps what was computed once for the next process; None to keep it in memory only

        Raises EvaluationError for a model that cannot search, or caches that do not fit together.
        """
        models = [(reader.trained, cache) for reader, cache in zip(self.readers, self.caches, strict=True)]
        together = open_together(models, self.recipe, split=split, index=None if index is None else Path(index))
        return CombinationGallery(self.readers, together)


@dataclass(frozen=True)
class CombinationGallery:
    """Pictures and sentences that several runs search together; from `Combination.gallery`.

    It has the methods of `mrnn.evaluate.run.RunGallery`. What is computed once is kept in memory.
    """

    readers: tuple[PictureReader, ...]
    together: Together

    @property
    def priors(self) -> np.ndarray:
        """(J,) int64, numbers in the first cache of the training images that values are normalised over."""
        return self.together.members[0].priors

    def __repr__(self) -> str:
        gallery = self.together.gallery
        return f"CombinationGallery(split={gallery.split!r}, {len(gallery.images)} pictures)"

    def find_pictures(self, sentence: str, *, top: int = 10, percent: float | None = None) -> Search:
        """The pictures that a sentence describes best, by the weighted sum (mrnn.evaluate.search.together).

        top : number of pictures to return
        percent : share of the pictures that all models score, in (0, 100], chosen by the captioners; None for all where
            that takes seconds, else 10

        Raises EvaluationError if a model knows no word of the sentence.
        """
        return self.together.by_sentence(sentence, top=top, percent=percent)

    def find_sentences(self, picture: Picture, *, top: int = 10, percent: float | None = None) -> Search:
        """The sentences that describe a picture best, by the weighted sum.

        top, percent : as for `find_pictures`, of the sentences, with 20 in place of 10

        Raises ImageError for a picture that cannot be read, EvaluationError if the caches have no sentences.
        """
        rows = [reader.rows([picture], strict=True) for reader in self.readers]
        return self.together.by_image(rows, [0] * len(rows), top=top, percent=percent)

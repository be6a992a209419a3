"""Retrieval by a matrix of scores that any program may have written: recalls, ranks and their intervals."""

from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from mrnn.evaluate.metrics import names
from mrnn.evaluate.metrics.bootstrap import LEVEL, RESAMPLES, interval, ratio, resample
from mrnn.evaluate.per_image import headline_statistics
from mrnn.evaluate.retrieval.matrix import MatrixRanks, check_shape, matrix_ranks, open_matrix
from mrnn.evaluate.studies.reference_files import References

MAP = "mAP@R"
DEFINITIONS = {
    "rank": "of a query's best right answer, 1 is the first; wrong answers with the same score count as ahead of it, "
    "in best_of_ties as behind it",
    MAP: "percent; mean over images of 1/R times the sum of the precisions at the ranks up to R at which a right "
    "sentence is, R the number of right sentences of the image; of sentence_to_image it would be R@1",
}


@dataclass(frozen=True)
class Owners:
    """Which sentence belongs to which image.

    source : where that is from, for messages
    images : number of images, N
    owners : (S,) int64, the row of each sentence's image
    """

    source: str
    images: int
    owners: np.ndarray

    @classmethod
    def of(cls, references: References) -> "Owners":
        """Images in the order in which they occur first, sentences in the order of the source."""
        rows: dict[str, int] = {}
        owners = [rows.setdefault(image, len(rows)) for image, _ in references.pairs]
        return cls(references.source, len(rows), np.array(owners))

    @classmethod
    def each(cls, count: int, images: int) -> "Owners":
        """`count` sentences of each image, image after image."""
        return cls(f"a matrix with {count} sentences for each row", images, np.repeat(np.arange(images), count))


def score_matrix(
    path: str | Path, owners: References | int, *, seed: int = 0, resamples: int = RESAMPLES
) -> dict[str, Any]:
    """Retrieval in both directions by the matrix of a .npy file, images x sentences, higher is better.

    path : of the matrix; it is mapped and read block by block
    owners : the sentences that its columns stand for, in order, the images in the order of their first sentence; or
        the number of sentences of each image, if the columns are grouped by image
    seed, resamples : of the bootstrap over images

    Returns what score-retrieval writes; keys as under `retrieval` in metrics.json. Raises EvaluationError for a file
    that is not such a matrix.
    """
    matrix = open_matrix(path)
    known = Owners.each(owners, len(matrix)) if isinstance(owners, int) else Owners.of(owners)
    check_shape(path, matrix, (known.images, len(known.owners)), source=known.source)
    found = matrix_ranks(matrix, known.owners)
    recalls, tied = ({name: each.to_json() for name, each in part.items()} for part in found.ranks.recalls())
    worst, best = (100 * float(each.mean()) for each in found.precision)
    recalls["image_to_sentence"][MAP] = worst
    if "image_to_sentence" in tied:
        tied["image_to_sentence"][MAP] = best
    definitions = {row.key: row.definition for row in names.retrieval_metrics() if row.definition}
    return {
        **recalls,
        names.RSUM: names.rsum(recalls),
        **({"best_of_ties": {**tied, names.RSUM: names.rsum({**recalls, **tied})}} if tied else {}),
        "images": known.images,
        "sentences": len(known.owners),
        "intervals": intervals(found, known.owners, seed=seed, resamples=resamples),
        "bootstrap": {"resamples": resamples, "level": LEVEL, "seed": seed},
        "matrix": str(path),
        "captions": known.source,
        "definitions": {**DEFINITIONS, **definitions},
        "mrnn": version("mrnn"),
    }


def intervals(found: MatrixRanks, owners: np.ndarray, *, seed: int, resamples: int) -> dict[str, tuple[float, float]]:
    """Bootstrap interval of every number, ties against the matrix, by the keys of names.retrieval_metrics.

    owners : (S,) int, the row of each sentence's image
    seed, resamples : of the bootstrap
    """
    by_image, _ = found.ranks.by_image["image_to_sentence"]
    by_sentence, _ = found.ranks.by_sentence["sentence_to_image"]
    order = np.argsort(owners, kind="stable")
    groups = np.split(by_sentence[order], np.searchsorted(owners[order], np.arange(1, len(by_image))))
    records = [
        {"ranks": {"image_to_sentence": int(rank), "sentence_to_image": group.tolist()}}
        for rank, group in zip(by_image, groups, strict=True)
    ]
    statistics = headline_statistics(records, "ranks")
    statistics[f"image_to_sentence {MAP}"] = ratio(100 * found.precision[0], np.ones(len(records)))
    values = resample(statistics, len(records), generator=np.random.default_rng(seed), resamples=resamples)
    return {name: interval(each) for name, each in values.items()}

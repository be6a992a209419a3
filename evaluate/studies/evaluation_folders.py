"""Folders that evaluate-mrnn wrote: their metrics.json, and the comparison of two of them."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from mrnn.data.errors import EvaluationError
from mrnn.evaluate.metrics.bootstrap import RESAMPLES
from mrnn.evaluate.per_image import FILE, read_records
from mrnn.evaluate.studies.comparison import Comparison, compare


def read_metrics(folder: str | Path) -> dict[str, Any]:
    """The content of metrics.json in a folder that evaluate-mrnn wrote. Raises EvaluationError if it is not one."""
    path = Path(folder) / "metrics.json"
    try:
        metrics = json.loads(path.read_text())
    except FileNotFoundError:
        raise EvaluationError(f"there is no {path}; give a folder that evaluate-mrnn wrote") from None
    except ValueError as error:
        raise EvaluationError(f"{path} is damaged ({error}); run evaluate-mrnn into {folder} again") from error
    if not isinstance(metrics, dict) or not {"dataset", "split", "checkpoint", "vocabulary_size"} <= metrics.keys():
        raise EvaluationError(f"{path} is not a metrics file of evaluate-mrnn; give a folder that it wrote")
    return metrics


def name_of(folder: str | Path) -> str:
    """The name of an evaluation: that of the run where the folder lies in a run folder, else that of the folder."""
    folder = Path(folder).resolve()
    return folder.parent.name if folder.name.startswith("evaluation-") else folder.name


def compare_folders(
    a: str | Path, b: str | Path, *, resamples: int = RESAMPLES, seed: int = 0, examples: int = 5
) -> Comparison:
    """Compare the evaluations in two folders that evaluate-mrnn wrote.

    a, b : the folders; differences are b - a
    resamples : number of bootstrap resamples
    seed : of the bootstrap
    examples : number of images to name for each measure

    Raises EvaluationError where a file is missing or damaged, or the evaluations are not of the same images.
    """
    a, b = Path(a), Path(b)
    metrics_a, metrics_b = read_metrics(a), read_metrics(b)
    for what, name in (("data sets", "dataset"), ("splits", "split")):
        if metrics_a[name] != metrics_b[name]:
            raise EvaluationError(
                f"the {what} differ: {a} is of {metrics_a[name]}, {b} of {metrics_b[name]}; compare evaluations of the "
                "same images"
            )
    records = read_records(a / FILE), read_records(b / FILE)
    generator = np.random.default_rng(seed)
    without = incomparable(metrics_a, metrics_b)
    try:
        found = compare(*records, generator=generator, resamples=resamples, examples=examples, without=without)
    except ValueError as error:
        raise EvaluationError(f"{a} and {b} cannot be compared: {error}") from error
    return replace(found, notes=[*found.notes, *caveats(metrics_a, metrics_b)])


def incomparable(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, str]:
    """Groups of numbers that two metrics.json define differently, with the reason; see `compare`."""
    found = {}
    pools = [tuple(metrics.get("retrieval", {}).get(name) for name in ("images", "sentences")) for metrics in (a, b)]
    if pools[0] != pools[1] and None not in (*pools[0], *pools[1]):
        of = [f"{images:,} images x {sentences:,} sentences" for images, sentences in pools]
        found["ranks"] = f"A ranked among {of[0]}, B among {of[1]}"
    tokens = [metrics.get("definitions", {}).get("tokens") for metrics in (a, b)]
    if tokens[0] != tokens[1]:
        found["scores"] = "their captions were tokenised differently"
    return found


def caveats(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[str]:
    """Settings that differ between two metrics.json and that the differences may come from, a sentence each."""
    found = []
    if a.get("vocabulary_size") != b.get("vocabulary_size"):
        sizes = f"{a.get('vocabulary_size')} words for A, {b.get('vocabulary_size')} for B"
        found.append(f"the vocabularies differ ({sizes}), and with them what counts as <unk> in the perplexities")
    decodings = [metrics.get("decoding", {}) for metrics in (a, b)]
    for name in decodings[0].keys() | decodings[1].keys():
        values = [decoding.get(name) for decoding in decodings]
        if values[0] != values[1]:
            found.append(f"captions were decoded differently: {name} {values[0]} for A, {values[1]} for B")
    drawn = [metrics.get("retrieval", {}).get("normaliser_images") for metrics in (a, b)]
    if drawn[0] != drawn[1] and None not in drawn:
        found.append(f"P(w) of the retrieval is over {drawn[0]} training images for A, {drawn[1]} for B")
    scaled = [metrics["retrieval"].get("local_scaling", False) for metrics in (a, b) if "retrieval" in metrics]
    if len(set(scaled)) > 1:
        found.append(f"only {'A' if scaled[0] else 'B'} was measured with --local-scaling")
    return sorted(found)

"""How sure a model is of a caption, and what captions that sure were worth on the dev split.

The confidence of a caption is its log-probability per word, END counted. By itself it is no quality: it is comparable
between captions of one model and one way of decoding only. So the evaluation of the dev split makes a table of it:

1. Captions are sorted by confidence and divided into at most BINS bins of equal size, of BIN captions or more.
2. Each bin has the mean CIDEr of its captions.
3. Neighbouring bins of which the surer one did not score higher are pooled (pool adjacent violators; Ayer et al. 1955,
   An Empirical Distribution Function for Sampling with Incomplete Information). So CIDEr rises with confidence.

What is left is a staircase, and the CIDEr of a step is a plain mean over captions of the dev split. A smooth curve, or
steps of single captions, would promise more than CIDEr of single captions can hold: it is 0 for many of them.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mrnn.data.errors import EvaluationError
from mrnn.evaluate.ensemble import checkpoint_digest
from mrnn.evaluate.metrics.bootstrap import interval, ratio, resample
from mrnn.train.checkpoint import TrainedModel

FILE = "confidence.json"
SPLIT = "val"  # whose evaluation writes it
BINS, BIN = 10, 50
SAMPLING = ("seed", "temperature", "top_k")  # settings of decoding that a search does not depend on
DEFINITION = (
    "confidence of a caption: natural log-probability per word, END counted; rank_correlation: Spearman's, of it and "
    "CIDEr of the caption alone, on plain words (null where one of them is constant); steps: mean CIDEr of captions "
    "of the dev split by confidence, pooled until it rises; bins: captions of this split by confidence, predicted from "
    "steps and measured; mean_difference: of predicted and measured, absolute, by captions"
)


@dataclass(frozen=True)
class Step:
    """Captions of the dev split that the model was about equally sure of.

    lower : their lowest confidence. captions : how many. cider : their mean CIDEr.
    """

    lower: float
    captions: int
    cider: float


@dataclass(frozen=True)
class Calibration:
    """What confidence is worth. steps : by rising confidence and rising CIDEr, at least one."""

    steps: tuple[Step, ...]

    def steps_of(self, confidences: np.ndarray) -> np.ndarray:
        """Number of the step of each confidence: (n,) int64; below the lowest one it is the first."""
        lower = np.array([step.lower for step in self.steps])
        return np.maximum(np.searchsorted(lower, confidences, side="right") - 1, 0)

    def predict(self, confidences: np.ndarray) -> np.ndarray:
        """Mean CIDEr of the captions of the dev split that were about as sure: (n,)."""
        return np.array([step.cider for step in self.steps])[self.steps_of(confidences)]

    def step(self, confidence: float) -> Step:
        """The step of one confidence."""
        return self.steps[int(self.steps_of(np.array([confidence]))[0])]


def bin_numbers(confidences: np.ndarray) -> np.ndarray:
    """The bin of each of n >= 1 captions, (n,) int64, by rising confidence; equal ones share a bin."""
    count = max(1, min(BINS, len(confidences) // BIN))
    lower = np.unique([part[0] for part in np.array_split(np.sort(confidences), count)])
    return np.searchsorted(lower, confidences, side="right") - 1


def fit_calibration(confidences: np.ndarray, ciders: np.ndarray) -> Calibration:
    """The staircase of (n,) confidences and CIDErs, n >= 1; see the module's docstring."""
    bins = bin_numbers(confidences)
    steps: list[Step] = []
    for number in np.unique(bins):
        mine = bins == number
        steps.append(Step(float(confidences[mine].min()), int(mine.sum()), float(ciders[mine].mean())))
        while len(steps) > 1 and steps[-1].cider <= steps[-2].cider:
            surer, other = steps.pop(), steps.pop()
            captions = other.captions + surer.captions
            total = other.captions * other.cider + surer.captions * surer.cider
            steps.append(Step(other.lower, captions, total / captions))
    return Calibration(tuple(steps))


def reliability(
    calibration: Calibration, confidences: np.ndarray, ciders: np.ndarray, *, generator: np.random.Generator
) -> dict[str, Any]:
    """Predicted against measured CIDEr of (n,) captions, n >= 1: `mean_difference` and `bins` of metrics.json.

    generator : of the bootstrap, over the captions of each bin
    """
    bins, predicted = bin_numbers(confidences), calibration.predict(confidences)
    found: list[dict[str, Any]] = []
    for number in np.unique(bins):
        mine = bins == number
        mean = {"mean": ratio(ciders[mine], np.ones(mine.sum()))}
        found.append(
            {
                "lower": float(confidences[mine].min()),
                "captions": int(mine.sum()),
                "predicted": float(predicted[mine].mean()),
                "measured": float(ciders[mine].mean()),
                "interval": interval(resample(mean, int(mine.sum()), generator=generator)["mean"]),
            }
        )
    difference = sum(each["captions"] * abs(each["predicted"] - each["measured"]) for each in found)
    return {"mean_difference": difference / len(ciders), "bins": found}


def rank_correlation(one: np.ndarray, other: np.ndarray) -> float | None:
    """Spearman's: the correlation of ranks, the mean rank for equal values. None where one of the two is constant."""
    if np.ptp(one) == 0 or np.ptp(other) == 0:
        return None
    return float(np.corrcoef(_mean_ranks(one), _mean_ranks(other))[0, 1])


def _mean_ranks(values: np.ndarray) -> np.ndarray:
    _, which, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks: np.ndarray = counts.cumsum() - (counts - 1) / 2
    return ranks[which]


def calibration_json(steps: Sequence[Mapping[str, Any]], *, checkpoint_sha256: str, decoding: Mapping[str, Any]) -> str:
    """The content of FILE.

    steps : of the calibration, as `Step` names them
    checkpoint_sha256 : of the model, as `checkpoint_digest` gives it
    decoding : what the captions depend on (mrnn.evaluate.generation.stage.decoding_settings)
    """
    content = {"steps": list(steps), "split": SPLIT, "checkpoint_sha256": checkpoint_sha256, "decoding": dict(decoding)}
    return json.dumps(content, indent=1)


def read_calibration(file: Path, trained: TrainedModel, decoding: Mapping[str, Any]) -> Calibration:
    """The calibration of a file, for captions of this model that are decoded like this.

    Raises EvaluationError if there is none in the file, or one of another checkpoint or other decoding settings.
    """
    again = "make it again with evaluate-mrnn --split val --only generation"
    try:
        content = json.loads(file.read_text())
        calibration = Calibration(tuple(Step(**step) for step in content["steps"]))
        checkpoint, fitted = content["checkpoint_sha256"], _that_count(content["decoding"])
        if not calibration.steps:
            raise ValueError("no steps")
        calibration.predict(np.zeros(1))
    except OSError as error:
        raise EvaluationError(f"{file}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise EvaluationError(
            f"{file} holds no calibration of confidence; give the {FILE} that evaluate-mrnn --split val writes"
        ) from None
    if checkpoint != checkpoint_digest(trained):
        raise EvaluationError(f"{file} was made for another checkpoint than {trained.file}; {again}")
    mine = _that_count(decoding)
    if names := [name for name in fitted | mine if fitted.get(name) != mine.get(name)]:
        there = ", ".join(f"{name} {_shown(fitted.get(name))} there, {_shown(mine.get(name))} here" for name in names)
        raise EvaluationError(
            f"{file} was made of captions that were decoded with other settings ({there}); decode with the same "
            f"settings, or {again} and yours"
        )
    return calibration


def _that_count(decoding: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of decoding that captions depend on."""
    sampled = decoding["sample"]
    return {name: value for name, value in decoding.items() if sampled or name not in SAMPLING}


def _shown(value: Any) -> str:
    return "none" if value in (None, []) else " ".join(value) if isinstance(value, list) else str(value)

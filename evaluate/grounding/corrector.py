"""The corrections that an evaluation chose, applied to the words of any sentence: what `mrnn align --correct` uses.

evaluate-mrnn chooses them for phrases on the dev split (mrnn.evaluate.grounding.correction) and writes them, with the
mean word that they take off, to correction.json.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from mrnn.data.errors import EvaluationError
from mrnn.evaluate.fit import sha256_of
from mrnn.evaluate.grounding.boxes import WORTH
from mrnn.evaluate.grounding.correction import Correction, correct, region_terms, vote
from mrnn.evaluate.grounding.phrases import Candidates
from mrnn.train.checkpoint import TrainedModel

FILE = "correction.json"
MEASURE = "iou"  # segments end in rectangles, so what was chosen for their overlap


@dataclass(frozen=True)
class Corrector:
    """Corrections for one alignment model.

    correction : the coefficients.
    mean_word : (h,) float64, the mean of s_t.
    checkpoint_sha256 : of the model's file.
    """

    correction: Correction
    mean_word: np.ndarray
    checkpoint_sha256: str

    def __call__(self, scores: np.ndarray, regions: np.ndarray, places: Candidates) -> np.ndarray:
        """Corrected scores of words with the regions of an image: (T, R) float64, -inf for a row without a region.

        With a temperature, a score is the overlap with the true region that a word expects, in [0, 1].

        scores : (T, R), v_i . s_t. regions : (R, h), v_i. places : of the one image.
        """
        valid = places.valid[0]
        terms = region_terms(places, self.correction)[0]
        found = correct(scores, regions.astype(np.float64) @ self.mean_word, terms, valid, self.correction)
        if self.correction.temperature:
            rectangles = places.rectangles[0]
            worth = WORTH[MEASURE](rectangles[:, None], rectangles[None])
            found = np.where(valid, vote(found, worth, self.correction.temperature), -np.inf)
        return found

    def to_json(self) -> str:
        """The content of FILE."""
        return json.dumps(
            {
                "checkpoint_sha256": self.checkpoint_sha256,
                "measure": MEASURE,
                "coefficients": asdict(self.correction),
                "mean_word": self.mean_word.tolist(),
            }
        )


def read_corrector(file: Path, trained: TrainedModel) -> Corrector:
    """The corrections of a file. Raises EvaluationError if it has none, or those of another checkpoint."""
    try:
        content = json.loads(file.read_text())
        corrector = Corrector(
            Correction(**content["coefficients"]),
            np.array(content["mean_word"], dtype=np.float64),
            content["checkpoint_sha256"],
        )
    except OSError as error:
        raise EvaluationError(f"{file}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError):
        raise EvaluationError(
            f"{file} holds no corrections; give the {FILE} that evaluate-mrnn writes beside the metrics of grounding"
        ) from None
    if corrector.checkpoint_sha256 != sha256_of(trained.file):
        raise EvaluationError(
            f"the corrections in {file} were chosen for another checkpoint than {trained.file}; measure its grounding "
            "with evaluate-mrnn --only grounding"
        )
    return corrector

"""How often the region that an alignment model chooses for a phrase is the right one, beside other ways to choose.

Measures: `iou`, the share of phrases whose region overlaps the true box by at least half (intersection over union), and
`pointing`, the share whose region has its centre in the true box.
"""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from mrnn.data.captions import Image
from mrnn.data.progress import Progress
from mrnn.evaluate.grounding.alignments import alignment_model
from mrnn.evaluate.grounding.boxes import RIGHT
from mrnn.evaluate.grounding.correction import GRID, PLAIN, Correction, choose, search
from mrnn.evaluate.grounding.corrector import MEASURE, Corrector
from mrnn.evaluate.grounding.phrases import Phrases, mean_word, score_phrases
from mrnn.evaluate.stages import Evaluation

CHOSEN_ON = "val"
NAME = "grounding"
SEARCHED = "grounding-coefficients"
DEFINITION = (
    "percent of the phrases with a box whose region is right; iou: their intersection over union is at least 0.5; "
    "pointing: the region's centre lies in the box; several boxes of a phrase are joined into their hull; plain: the "
    "region with the largest sum of v.s over the phrase's words (Eq. 8); corrected_iou, corrected_pointing: with the "
    f"coefficients under search, chosen for that measure on the split {CHOSEN_ON}; wordless_iou, "
    "wordless_pointing: the same with every score 0, under search_wordless; random: a random region, the expectation; "
    "whole: the whole picture; best_scored: the detector's best box; ceiling: any region is right"
)


def grounding_stage(evaluation: Evaluation, *, run: bool = True) -> dict[str, Any] | None:
    """Shares of the phrases that choose a right region, of all and by kind, as in metrics.json; what they rest on.

    `search`, `search_wordless` and `mean_word` are for `corrector_of`, `per_image` for per_image.jsonl.

    evaluation : of an alignment model and a cache that mrnn.evaluate.fit.why_no_grounding has no objection to
    run : as for mrnn.evaluate.stages.perplexity_stage

    The coefficients of the corrections are chosen on the dev split, and kept once they are. Returns None where run is
    False and an earlier call did not finish.
    """
    settings = {"grid": GRID, "keeps": ["mean_word"]}
    stored: dict[str, Any] | None = evaluation.parts.load(NAME, settings)
    if stored is not None or not run:
        return stored
    model, cache, vocabulary = alignment_model(evaluation.trained), evaluation.cache, evaluation.trained.vocabulary
    dev = cache.done(CHOSEN_ON)
    mean = mean_word(model, cache, dev, vocabulary)

    def measured(images: np.ndarray, label: str) -> Phrases:
        with Progress(label, len(images), unit="images") as progress:

            def after_batch(count: int) -> None:
                progress.add(count)
                evaluation.check_stop()

            return score_phrases(
                model, cache, evaluation.features, images, vocabulary, mean=mean, after_batch=after_batch
            )

    found: dict[str, Any] = evaluation.parts.load(SEARCHED, settings) or {}
    if not found:
        evaluation.report(f"grounding: choosing coefficients on the split {CHOSEN_ON}")
        phrases = measured(dev, f"phrases, {CHOSEN_ON}")
        for name, each in (("search", phrases), ("search_wordless", phrases.wordless())):
            found[name] = {measure: asdict(search(each, measure, check=evaluation.check_stop)) for measure in RIGHT}
        found["mean_word"] = mean.tolist()
        evaluation.parts.save(SEARCHED, settings, found)
    phrases = measured(evaluation.images, f"phrases, {evaluation.split}")
    corrected, wordless = (
        {measure: Correction(**each["coefficients"]) for measure, each in found[name].items()}
        for name in ("search", "search_wordless")
    )
    images = [cache.images[i] for i in evaluation.images]
    stored = {**summarise(phrases, choices(phrases, corrected, wordless), images), **found}
    evaluation.parts.save(NAME, settings, stored)
    return stored


def corrector_of(grounding: Mapping[str, Any], checkpoint_sha256: str) -> Corrector:
    """The corrections that `grounding_stage` chose, for the words of any sentence."""
    coefficients = grounding["search"][MEASURE]["coefficients"]
    return Corrector(Correction(**coefficients), np.array(grounding["mean_word"]), checkpoint_sha256)


def choices(
    phrases: Phrases, corrected: Mapping[str, Correction], wordless: Mapping[str, Correction]
) -> dict[str, dict[str, np.ndarray]]:
    """How well each way to choose a region does: choice -> measure -> (P,) float64, the chance to be right.

    corrected : measure -> what was chosen for it
    wordless : the same for a choice that does not look at the phrase
    """
    candidates, every = phrases.candidates, np.arange(len(phrases.scores))
    valid = candidates.valid[phrases.image]
    rows = {"plain": choose(phrases, PLAIN, "iou")}
    for measure, correction in corrected.items():
        rows[f"corrected_{measure}"] = choose(phrases, correction, measure)
    for measure, correction in wordless.items():
        rows[f"wordless_{measure}"] = choose(phrases.wordless(), correction, measure)
    rows["whole"] = np.zeros(len(phrases.scores), dtype=np.int64)
    if candidates.detected.any():
        # The whole picture, row 0, where a picture has no detected region.
        best = np.where(candidates.detected, candidates.scores, -np.inf).argmax(axis=1)
        rows["best_scored"] = best[phrases.image]
    right = {measure: found & valid for measure, found in phrases.right.items()}
    found = {
        choice: {measure: each[every, chosen].astype(np.float64) for measure, each in right.items()}
        for choice, chosen in rows.items()
    }
    found["random"] = {measure: each.sum(axis=1) / valid.sum(axis=1) for measure, each in right.items()}
    found["ceiling"] = {measure: each.any(axis=1).astype(np.float64) for measure, each in right.items()}
    return found


def summarise(phrases: Phrases, chances: Mapping[str, Mapping[str, np.ndarray]], images: list[Image]) -> dict[str, Any]:
    """`grounding` of metrics.json but for the search, and for each image that has phrases how many were right.

    chances : from `choices`
    images : of the phrases
    """
    # A phrase of several kinds counts in each of them.
    kinds = [kind for each in phrases.kinds for kind in each.split("/") if kind]
    members = {"all": np.ones(len(phrases.kinds), dtype=bool)}
    for kind in sorted(set(kinds), key=lambda kind: (-kinds.count(kind), kind)):
        members[kind] = np.array([kind in each.split("/") for each in phrases.kinds])
    annotated = sum(len({(box.sentence, box.words, box.phrase) for box in image.boxes}) for image in images)
    by_image = {
        choice: {measure: np.bincount(phrases.image, each, len(images)) for measure, each in chance.items()}
        for choice, chance in chances.items()
    }
    counts = np.bincount(phrases.image, minlength=len(images))
    return {
        "phrases": {name: int(chosen.sum()) for name, chosen in members.items()},
        "left_out": annotated - len(phrases.kinds),
        "images": int((counts > 0).sum()),
        "regions": phrases.scores.shape[1],
        "choices": {
            choice: {
                measure: {name: 100 * float(each[chosen].mean()) for name, chosen in members.items()}
                for measure, each in chance.items()
            }
            for choice, chance in chances.items()
        },
        "per_image": {
            images[row].id: {
                "phrases": int(counts[row]),
                **{
                    choice: {measure: float(sums[row]) for measure, sums in each.items()}
                    for choice, each in by_image.items()
                },
            }
            for row in np.flatnonzero(counts)
        },
    }

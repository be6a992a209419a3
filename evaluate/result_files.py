"""The files of an evaluation, and what makes the content of each:

metrics.json                              mrnn.evaluate.results
captions.json, nbest.json, region_*.json  mrnn.evaluate.caption_lists
per_image.jsonl                           mrnn.evaluate.per_image
retrieved_*.jsonl                         mrnn.evaluate.retrieval.answers
confidence.json                           mrnn.evaluate.generation.confidence
correction.json                           mrnn.evaluate.grounding.corrector
combination.json                          mrnn.evaluate.retrieval.combination_file
report.html, figures/                     mrnn.evaluate.report
"""

from pathlib import Path
from typing import Any

from mrnn.data.files import write_json, write_whole
from mrnn.evaluate.caption_lists import best_list, caption_list, region_lists
from mrnn.evaluate.generation.confidence import FILE as CONFIDENCE
from mrnn.evaluate.generation.confidence import calibration_json
from mrnn.evaluate.grounding.corrector import FILE as CORRECTION
from mrnn.evaluate.grounding.stage import corrector_of
from mrnn.evaluate.per_image import FILE as RECORDS
from mrnn.evaluate.per_image import write_records
from mrnn.evaluate.report.evaluation import evaluation_page
from mrnn.evaluate.report.figures import save_figures
from mrnn.evaluate.report.page import render
from mrnn.evaluate.report.pictures import Pictures
from mrnn.evaluate.results import Results, build_metrics
from mrnn.evaluate.retrieval.answers import write_answers
from mrnn.evaluate.retrieval.combination_file import FILE as COMBINATION
from mrnn.evaluate.stages import Evaluation
from mrnn.train.run_files import read_log

OUTPUTS = (
    "metrics.json",
    "captions.json",
    "nbest.json",
    RECORDS,
    "retrieved_*.jsonl",
    CONFIDENCE,
    CORRECTION,
    COMBINATION,
    "region_*.json",
    "report.html",
    "figures/*",
)


def write_results(
    evaluation: Evaluation,
    results: Results,
    output: Path,
    *,
    settings: dict[str, Any],
    n_best: int | None,
    pictures: Pictures,
    figures: bool,
) -> dict[str, Any]:
    """Write the files of an evaluation to a folder; returns the content of metrics.json.

    settings : what the results depend on beside the model and the cache, for metrics.json
    n_best, figures : as in `evaluate`
    pictures : where the report finds the pictures
    """
    metrics, records = build_metrics(evaluation, results, settings=settings)
    write_json(output / "metrics.json", metrics)
    write_records(output / RECORDS, records)
    if results.captions is not None:
        write_json(output / "captions.json", caption_list(evaluation, results.captions))
    if results.beams is not None and n_best:
        write_json(output / "nbest.json", best_list(evaluation, results.beams, n_best))
    confidence = metrics.get("confidence", {})
    if confidence.get("fitted_here"):
        sha256 = settings["checkpoint"]["sha256"]
        made = calibration_json(confidence["steps"], checkpoint_sha256=sha256, decoding=settings["decoding"])
        write_whole(output / CONFIDENCE, made.encode())
    if results.regions is not None:
        captions, references = region_lists(results.regions)
        write_json(output / "region_captions.json", captions)
        write_json(output / "region_references.json", references)
    if results.retrieval is not None:
        write_answers(output, results.retrieval)
    if results.recipe is not None:
        write_whole(output / COMBINATION, results.recipe.to_json(output).encode())
    corrector = None
    if results.grounding is not None:
        corrector = corrector_of(results.grounding, settings["checkpoint"]["sha256"])
        write_whole(output / CORRECTION, corrector.to_json().encode())
    page = evaluation_page(evaluation, results, metrics, records, corrector=corrector, pictures=pictures)
    write_whole(output / "report.html", render(page).encode())
    if figures:
        log = read_log(evaluation.trained.run, lenient=True)
        cost = evaluation.trained.cost
        save_figures(output / "figures", log=log, metrics=metrics, records=records, cost=cost)
    return metrics

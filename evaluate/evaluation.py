"""An evaluation: from a checkpoint and a feature cache to a folder of results.

The stages (mrnn.evaluate.stages, mrnn.evaluate.retrieval.stage, mrnn.evaluate.grounding.stage) measure and keep what
they have finished; from that the files of the folder are written, every time whole (mrnn.evaluate.result_files).
"""

from collections.abc import Collection, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mrnn.data.cache import FeatureCache, open_cache
from mrnn.data.captions import SPLITS
from mrnn.data.errors import SettingError
from mrnn.data.outputs import is_json_with, refuse_foreign_folder
from mrnn.data.progress import silent
from mrnn.data.stopping import StopRequest
from mrnn.evaluate.ensemble import TrainedEnsemble, checkpoint_digest, describe, load_together
from mrnn.evaluate.fit import cache_digest, check_fit, features_for, known_prefix, possible_stages
from mrnn.evaluate.generation.confidence import SPLIT as CALIBRATED
from mrnn.evaluate.generation.confidence import read_calibration
from mrnn.evaluate.generation.consensus import check_consensus
from mrnn.evaluate.generation.region_captions import regions_stage
from mrnn.evaluate.generation.stage import (
    best_of,
    caption_warnings,
    consensus_stage,
    decoding_settings,
    generation_stage,
    greedy_config,
)
from mrnn.evaluate.generation.words import explain
from mrnn.evaluate.grounding.stage import grounding_stage
from mrnn.evaluate.parts import LOCK, PARTS, Parts, only_one
from mrnn.evaluate.report.figures import check_matplotlib
from mrnn.evaluate.report.pictures import Pictures
from mrnn.evaluate.result_files import OUTPUTS, write_results
from mrnn.evaluate.results import Results
from mrnn.evaluate.retrieval.combination import averaged_stage, combined_stage
from mrnn.evaluate.retrieval.combination_file import recipe_of
from mrnn.evaluate.retrieval.stage import retrieval_stage
from mrnn.evaluate.retrieval.two_towers import check_local_scaling
from mrnn.evaluate.settings import STAGES, ConsensusConfig, DecodingConfig, RetrievalConfig, check_beam
from mrnn.evaluate.stages import Evaluation, Report, perplexity_stage
from mrnn.train.checkpoint import TrainedModel, load_trained
from mrnn.train.device import pick_device
from mrnn.train.models.alignment import Alignment
from mrnn.train.segment_files import read_segments


def evaluate(
    checkpoint: str | Path | Sequence[str | Path],
    features: str | Path,
    *,
    output: str | Path | None = None,
    split: str = "test",
    stages: Collection[str] = STAGES,
    perplexity_splits: Collection[str] = SPLITS,
    decoding: DecodingConfig | None = None,
    prefix: str = "",
    n_best: int | None = None,
    consensus: ConsensusConfig | None = None,
    confidence: str | Path | None = None,
    retrieval: RetrievalConfig | None = None,
    combine: Sequence[tuple[str | Path, str | Path]] = (),
    segments: str | Path | None = None,
    figures: bool = False,
    images: str | Path | None = None,
    device: str = "auto",
    allow_partial: bool = False,
    overwrite: bool = False,
    stop: StopRequest | None = None,
    report: Report = silent,
) -> dict[str, Any]:
    """Measure a trained model on a split and write the results; returns the content of metrics.json.

    Finished measurements are kept in the output folder and used again, so an interrupted evaluation resumes.

    checkpoint : run folder, whose best checkpoint is used, or a checkpoint file; several of them for an ensemble
        (mrnn.evaluate.ensemble), which needs `output`
    features : feature cache
    output : folder to write to; None for evaluation-<split> in the run folder, evaluation-<split>-combined with combine
    split : images to measure on: 'train', 'val' or 'test'
    stages : measurements to make, some of STAGES; of the others, the results of an earlier call are used
    perplexity_splits : splits to measure perplexity on beside `split`
    decoding, retrieval : settings, None for the defaults; the bootstrap's seed is that of decoding
    prefix : words that every caption begins with
    n_best : number of captions per image to write to nbest.json, at most the beam width; None for no such file
    consensus : how captions are ranked again by those of similar training images; None to leave them as the search did
    confidence : confidence.json that the evaluation of the dev split wrote, which is measured on this one
        (mrnn.evaluate.generation.confidence); None for no such measurement
    combine : further models, each with a cache of the same pictures, that retrieve together with this one
        (mrnn.evaluate.retrieval.combination); no other stage is run then
    segments : file that align-sentences wrote for the training split, from which an alignment model takes the captions
        of regions (mrnn.evaluate.generation.region_captions)
    figures : whether to draw figures for papers, which takes matplotlib
    images : folder of the pictures for the report; None for the folder recorded in the cache
    device : 'auto', 'cpu', 'cuda', 'cuda:1', ...
    allow_partial : whether a cache with pending images is accepted
    overwrite : whether finished measurements are discarded first
    stop : may ask to stop between batches; None if nothing does
    report : called with a line about what is measured, and how long it takes

    Raises SettingError, CheckpointError, CacheError or EvaluationError before anything is measured where the inputs do
    not fit together, and Stopped where `stop` asks for it.
    """
    decoding, retrieval = decoding or DecodingConfig(), retrieval or RetrievalConfig()
    if n_best and n_best > decoding.beam:
        raise SettingError(f"--n-best {n_best} needs a beam at least as wide, not --beam {decoding.beam}")
    if consensus:
        check_beam(decoding)
    if combine and (retrieval.per_word or "retrieval" not in stages):
        raise SettingError(
            "--combine measures retrieval, by one sum of scores: leave out --per-word, and --only without it"
        )
    if confidence and split == CALIBRATED:
        raise SettingError("--confidence is for another split than val, whose evaluation makes such a file itself")
    if confidence and (combine or "generation" not in stages):
        raise SettingError("--confidence is measured on captions: leave out --combine, and have generation in --only")
    if figures:
        check_matplotlib()
    checkpoints = [checkpoint] if isinstance(checkpoint, str | Path) else checkpoint
    if len(checkpoints) > 1:
        _check_ensemble_request(output, retrieval, combine)
    trained = load_together(checkpoints, device=pick_device(device, "fp32"))
    cache = open_cache(Path(features), allow_partial=allow_partial)
    chosen = check_fit(trained, cache, split, other_regions=set(stages) == {"regions"})
    stages = possible_stages(
        trained, cache, split, ["retrieval"] if combine else stages, segments=segments is not None, report=report
    )
    if consensus and "generation" in stages:
        check_consensus(trained, cache)
    pairs = None
    if segments:
        if not isinstance(trained.model, Alignment):
            raise SettingError(f"--segments are for an alignment model to choose from, not for the kind {trained.name}")
        pairs = read_segments(segments, cache, any_regions=True)
        pairs.of("train")  # raises if there are none
    words = known_prefix(trained, prefix)
    settings = decoding_settings(decoding, words, consensus)
    calibration = read_calibration(Path(confidence), trained, settings) if confidence else None
    others = [(load_trained(run, device=pick_device(device, "fp32")), Path(file)) for run, file in combine]
    caches = [open_cache(file, allow_partial=allow_partial) for _, file in others]
    members = [(trained, cache), *zip((other for other, _ in others), caches, strict=True)]
    if retrieval.local_scaling:
        check_local_scaling([each.model for each, _ in members])
    output = Path(output or default_folder(trained.run, split, combined=bool(combine)))
    names = OUTPUTS if (output / LOCK).exists() else (*OUTPUTS, f"{PARTS}/*")
    refuse_foreign_folder(
        output, names, is_ours=lambda folder: is_json_with("mrnn", "checkpoint")(folder / "metrics.json")
    )
    open_part = partial(_open, output, stop=stop or StopRequest(), report=report)
    with only_one(output):
        evaluation = open_part(trained, cache, split, chosen)
        if overwrite:
            evaluation.parts.clear()
        report(f"{trained.file} on {cache.path}, {split}: {len(chosen)} images")
        results = Results(calibration=calibration)
        results.perplexity = perplexity_stage(evaluation, run="perplexity" in stages)
        for other in perplexity_splits:
            if other != split and (found := perplexity_stage(evaluation, other, run="perplexity" in stages)):
                results.perplexity_splits[other] = found
        plain, run = greedy_config(decoding), "generation" in stages
        results.beams = greedy = generation_stage(evaluation, decoding, prefix=words, run=run)
        if plain != decoding:
            greedy = generation_stage(evaluation, plain, prefix=words, name="greedy", run=run)
        if consensus:
            results.beams = consensus_stage(
                evaluation, results.beams, consensus, decoding=decoding, prefix=words, run=run
            )
        results.captions, results.greedy = best_of(results.beams), best_of(greedy)
        if results.captions is not None:
            results.words = explain(trained, evaluation.features[chosen], results.captions)
        for warning in caption_warnings(evaluation, results.captions):
            report(warning)
        if combine:
            measured = [open_part(*member, split, check_fit(*member, split)) for member in members]
            dev = [open_part(*member, "val", check_fit(*member, "val")[: retrieval.dev_images]) for member in members]
            together = combined_stage(measured, dev, retrieval)
            results.retrieval, results.combined = together.result, together.summary
            results.recipe = recipe_of(measured, together.summary, retrieval)
        elif isinstance(trained, TrainedEnsemble):
            results.retrieval = averaged_stage(
                [_of_member(evaluation, member) for member in trained.members], retrieval, run="retrieval" in stages
            )
        else:
            results.retrieval = retrieval_stage(evaluation, retrieval, run="retrieval" in stages)
        results.grounding = grounding_stage(evaluation, run="grounding" in stages)
        results.regions = regions_stage(evaluation, decoding, prefix=words, segments=pairs, run="regions" in stages)
        described = {
            "decoding": settings,
            "seed": decoding.seed,
            "checkpoint": describe(trained),
        }
        pictures = Pictures(Path(images or cache.root), named=images is not None)
        if warning := pictures.warning([cache.images[i].path for i in chosen]):
            report(warning)
        return write_results(
            evaluation, results, output, settings=described, n_best=n_best, pictures=pictures, figures=figures
        )


def _check_ensemble_request(
    output: str | Path | None, retrieval: RetrievalConfig, combine: Sequence[tuple[str | Path, str | Path]]
) -> None:
    """Raise SettingError for what an ensemble cannot do, or for a folder that is not named."""
    if output is None:
        raise SettingError("an ensemble has no run folder of its own: name a folder for its results with --output")
    if retrieval.per_word or combine:
        raise SettingError(
            "an ensemble retrieves by the mean of its members' scores: leave out --per-word and --combine"
        )


def default_folder(run: Path, split: str, *, combined: bool) -> Path:
    """Where the results of a run go unless a folder is named."""
    return run / f"evaluation-{split}{'-combined' if combined else ''}"


def _open(
    output: Path,
    trained: TrainedModel,
    cache: FeatureCache,
    split: str,
    images: np.ndarray,
    *,
    stop: StopRequest,
    report: Report,
) -> Evaluation:
    """An evaluation of a model on images of a split, whose finished work is kept in the output folder."""
    settings = {"checkpoint_sha256": checkpoint_digest(trained), "cache_sha256": cache_digest(cache), "split": split}
    return Evaluation(
        trained,
        cache,
        split,
        images,
        features_for(trained, cache),
        Parts(output, settings),
        stop,
        threads=torch.get_num_threads(),
        report=report,
    )


def _of_member(evaluation: Evaluation, member: TrainedModel) -> Evaluation:
    """The same evaluation of one member of its ensemble."""
    settings = {**evaluation.parts.settings, "checkpoint_sha256": checkpoint_digest(member)}
    return replace(evaluation, trained=member, parts=Parts(evaluation.parts.folder.parent, settings))

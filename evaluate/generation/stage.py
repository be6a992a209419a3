"""Captions as a stage of an evaluation: the search for each image, and on request its ranking by consensus."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from time import monotonic
from typing import Any

import numpy as np

from mrnn.data.progress import Progress
from mrnn.evaluate.generation.consensus import Consensus, by_consensus
from mrnn.evaluate.generation.decode import Caption, Decoder
from mrnn.evaluate.metrics.captions import ONE_IMAGE
from mrnn.evaluate.metrics.tokenizers import script_warnings
from mrnn.evaluate.parts import MARK_SECONDS
from mrnn.evaluate.settings import ConsensusConfig, DecodingConfig
from mrnn.evaluate.stages import Evaluation
from mrnn.train.features import Features

Work = Callable[[slice], list[Any]]  # rows of the images -> a result for each

DECODE_IMAGES = 128  # images decoded at a time: enough for the matrix products to dominate the running time


def decoding_settings(
    config: DecodingConfig, prefix: Sequence[str], consensus: ConsensusConfig | None = None
) -> dict[str, Any]:
    """The settings that captions depend on, for metrics.json and to recognise finished captions."""
    settings = {**asdict(config), "prefix": list(prefix)}
    return settings | asdict(consensus) if consensus else settings


def generation_stage(
    evaluation: Evaluation,
    config: DecodingConfig,
    *,
    prefix: Sequence[str] = (),
    name: str = "captions",
    run: bool = True,
) -> list[list[Caption]] | None:
    """All captions that the search of each image ended with, best first.

    evaluation : what to caption
    config : how
    prefix : words that every caption begins with
    name : of the finished work in `Parts`
    run : as for `mrnn.evaluate.stages.perplexity_stage`

    Finished captions are stored every MARK_SECONDS. Returns None where run is False and an earlier call did not finish.
    """
    label = "greedy captions" if name == "greedy" else "captions"
    ids = [evaluation.cache.images[i].id for i in evaluation.images]
    return decode_all(
        evaluation,
        config,
        evaluation.features,
        evaluation.images,
        ids=ids,
        prefix=prefix,
        name=name,
        label=label,
        run=run,
    )


def decode_all(
    evaluation: Evaluation,
    config: DecodingConfig,
    features: Features,
    numbers: np.ndarray,
    *,
    ids: Sequence[str],
    prefix: Sequence[str],
    name: str,
    label: str,
    run: bool,
) -> list[list[Caption]] | None:
    """All captions that the search for each image, or for whatever else has features, ended with.

    features : by number
    numbers : (n,) of those to caption. ids : of each
    label : of the progress

    The other arguments, and None, are as for `generation_stage`.
    """

    def begin() -> Work:
        decoder, words = Decoder(evaluation.trained.model), evaluation.trained.vocabulary.encode(list(prefix))

        def decode(rows: slice) -> list[Any]:
            found = decoder(features[numbers[rows]], config, ids=ids[rows], prefix=words)
            return [[(c.words, c.log_probs, c.complete) for c in each] for each in found]

        return decode

    settings = {**decoding_settings(config, prefix), "kept": config.beam}
    stored = _each_image(evaluation, name, settings, begin, count=len(numbers), label=label, run=run)
    if stored is None:
        return None
    return [[Caption(tuple(words), tuple(logs), complete) for words, logs, complete in each] for each in stored]


def consensus_stage(
    evaluation: Evaluation,
    beams: list[list[Caption]] | None,
    config: ConsensusConfig,
    *,
    decoding: DecodingConfig,
    prefix: Sequence[str] = (),
    run: bool = True,
) -> list[list[Caption]] | None:
    """The captions of each beam ranked again by consensus (mrnn.evaluate.generation.consensus).

    evaluation : whose cache has the training images
    beams : what `generation_stage` returned
    config : how they are ranked
    decoding, prefix : what the beams depend on
    run : as for `mrnn.evaluate.stages.perplexity_stage`

    Returns None without beams, or where run is False and an earlier call did not finish.
    """
    if beams is None:
        return None

    def begin() -> Work:
        consensus = Consensus(evaluation.trained, evaluation.cache, evaluation.features, config)

        def score(rows: slice) -> list[list[float]]:
            images = evaluation.images[rows]
            return consensus.scores(evaluation.features[images], beams[rows], images=images)

        return score

    settings = decoding_settings(decoding, prefix, config)
    scores = _each_image(evaluation, "consensus", settings, begin, count=len(beams), label="consensus", run=run)
    return None if scores is None else [by_consensus(*each) for each in zip(beams, scores, strict=True)]


def _each_image(
    evaluation: Evaluation,
    name: str,
    settings: dict[str, Any],
    begin: Callable[[], Work],
    *,
    count: int,
    label: str,
    run: bool,
) -> list[Any] | None:
    """A result for each of `count` images, stored every MARK_SECONDS.

    name, settings : as for `Parts`
    begin : called if there is something left to do; returns the function that finds the results of some rows of the
        images, of plain types
    label : of the progress
    run : as for `mrnn.evaluate.stages.perplexity_stage`

    Returns None where run is False and an earlier call did not finish.
    """
    done: list[Any] = evaluation.parts.load(name, settings) or []
    if len(done) == count or not run:
        return done if len(done) == count else None
    work, saved = begin(), monotonic()
    with Progress(label, count, unit="images", done=len(done)) as progress:
        for start in range(len(done), count, DECODE_IMAGES):
            found = work(slice(start, start + DECODE_IMAGES))
            done += found
            progress.add(len(found))
            if evaluation.stop.reason or monotonic() - saved > MARK_SECONDS:
                evaluation.parts.save(name, settings, done)
                saved = monotonic()
            evaluation.check_stop()
    evaluation.parts.save(name, settings, done)
    return done


def greedy_config(config: DecodingConfig) -> DecodingConfig:
    """The same settings with greedy search."""
    return DecodingConfig(
        beam=1, block_ngrams=config.block_ngrams, max_steps=config.max_steps, suppress_unknown=config.suppress_unknown
    )


def caption_warnings(evaluation: Evaluation, captions: Sequence[Caption] | None) -> list[str]:
    """What makes the numbers of generated captions mean less than they seem to; captions as in `Results`."""
    if captions is None:
        return []
    cache = evaluation.cache
    sentences = [sentence for i in evaluation.images for sentence in cache.images[i].sentences]
    warnings = script_warnings(sentences, tokenizer="ptb")
    if len(captions) == 1:
        warnings.append(ONE_IMAGE)
    if not any(caption.words for caption in captions):
        warnings.append(
            f"warning: every caption is empty, so all their scores are 0; the model knows "
            f"{len(evaluation.trained.vocabulary)} words: train it on more sentences, or with a lower --cutoff"
        )
    return warnings


def best_of(beams: list[list[Caption]] | None) -> list[Caption] | None:
    """The best caption of each image."""
    return None if beams is None else [best for best, *_ in beams]

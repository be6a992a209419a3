"""Two stages of an evaluation, perplexity and generation.

For the others see `stage` of retrieval and of grounding, and generation.region_captions.

A stage keeps its finished work in `Parts`, so that an interrupted evaluation resumes.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from time import monotonic
from typing import Any

import numpy as np

from mrnn.data.cache import FeatureCache
from mrnn.data.progress import Progress, silent
from mrnn.data.stopping import StopRequest
from mrnn.evaluate.generation.decode import Caption, Decoder, DecodingConfig
from mrnn.evaluate.metrics.perplexity import perplexity_per_image, perplexity_summary
from mrnn.evaluate.parts import MARK_SECONDS, Parts
from mrnn.evaluate.pool import Pool, build_pool
from mrnn.train.checkpoint import TrainedModel
from mrnn.train.features import Features
from mrnn.train.sentences import sentences_of
from mrnn.train.tasks.captioning import sentence_bits

Report = Callable[[str], None]

DECODE_IMAGES = 128  # images decoded at a time: enough for the matrix products to dominate the running time


@dataclass
class Evaluation:
    """What every stage needs.

    trained : the model with its vocabulary
    cache, split : the data that it is measured on
    images : (N,) int64 numbers of the images of the split that have features
    features : of the cache
    parts : where finished work is kept
    stop : may ask to stop between batches
    threads : number of images scored at a time in retrieval, on a CPU
    report : called with a line about what is measured, or how long it takes
    """

    trained: TrainedModel
    cache: FeatureCache
    split: str
    images: np.ndarray
    features: Features
    parts: Parts
    stop: StopRequest
    threads: int = 1
    report: Report = silent

    @cached_property
    def pool(self) -> Pool:
        """The images with their sentences that have a word, listed once for all stages and reports."""
        return build_pool(self.cache, self.images)

    def check_stop(self) -> None:
        """Raise Stopped if `stop` asks for it."""
        if self.stop.reason:
            raise self.stop.stopped(f"what is finished is in {self.parts.folder}")


def perplexity_stage(evaluation: Evaluation, split: str | None = None, *, run: bool = True) -> dict[str, Any] | None:
    """Perplexity of the captions of a split under their images, of all and by caption length.

    evaluation : what to measure
    split : None for the split that is evaluated, whose result also has the bits of each image
    run : whether to measure what is not finished yet; every stage has this argument

    Returns None for a split without captions, or where run is False and an earlier call did not finish.
    """
    split = split or evaluation.split
    stored: dict[str, Any] | None = evaluation.parts.load(f"perplexity-{split}", {})
    if stored is not None or not run:
        return stored
    trained = evaluation.trained
    sentences = sentences_of(evaluation.cache, split, trained.vocabulary)
    if not len(sentences):
        return None
    with Progress(f"perplexity, {split}", len(sentences), unit="sentences") as progress:

        def after_batch(count: int) -> None:
            progress.add(count)
            evaluation.check_stop()

        bits = sentence_bits(trained.model, sentences, evaluation.features, after_batch=after_batch)
    stored = {**perplexity_summary(bits, sentences.lengths), "sentences_without_words": sentences.skipped}
    if split == evaluation.split:
        ids = [evaluation.cache.images[i].id for i in sentences.image]
        stored["per_image"] = perplexity_per_image(bits, ids)
    evaluation.parts.save(f"perplexity-{split}", {}, stored)
    return stored


def decoding_settings(config: DecodingConfig, prefix: Sequence[str]) -> dict[str, Any]:
    """The settings that captions depend on, for metrics.json and to recognise finished captions."""
    return {**asdict(config), "prefix": list(prefix)}


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
    run : as for `perplexity_stage`

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
    vocabulary = evaluation.trained.vocabulary
    settings = {**decoding_settings(config, prefix), "kept": config.beam}
    stored = evaluation.parts.load(name, settings) or []
    captions = [[Caption(tuple(words), tuple(logs), complete) for words, logs, complete in each] for each in stored]
    if len(captions) == len(numbers) or not run:
        return captions if len(captions) == len(numbers) else None
    decoder = Decoder(evaluation.trained.model)

    def save() -> None:
        evaluation.parts.save(name, settings, [[(c.words, c.log_probs, c.complete) for c in each] for each in captions])

    saved = monotonic()
    with Progress(label, len(numbers), unit="images", done=len(captions)) as progress:
        for start in range(len(captions), len(numbers), DECODE_IMAGES):
            part = slice(start, start + DECODE_IMAGES)
            found = decoder(features[numbers[part]], config, ids=ids[part], prefix=vocabulary.encode(list(prefix)))
            captions += found
            progress.add(len(found))
            if evaluation.stop.reason or monotonic() - saved > MARK_SECONDS:
                save()
                saved = monotonic()
            evaluation.check_stop()
    save()
    return captions


def greedy_config(config: DecodingConfig) -> DecodingConfig:
    """The same settings with greedy search."""
    return replace(config, beam=1, sample=False, temperature=1.0, top_k=0, length_norm=False)

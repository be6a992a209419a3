"""What every stage of an evaluation needs, and the first stage, perplexity.

For the others see `stage` of generation, of retrieval and of grounding, and generation.region_captions. A stage keeps
its finished work in `Parts`, so that an interrupted evaluation resumes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from mrnn.data.cache import FeatureCache
from mrnn.data.progress import Progress, silent
from mrnn.data.stopping import StopRequest
from mrnn.evaluate.metrics.perplexity import perplexity_per_image, perplexity_summary
from mrnn.evaluate.parts import Parts
from mrnn.evaluate.pool import Pool, build_pool
from mrnn.train.checkpoint import TrainedModel
from mrnn.train.features import Features
from mrnn.train.sentences import sentences_of
from mrnn.train.tasks.captioning import sentence_bits

Report = Callable[[str], None]


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

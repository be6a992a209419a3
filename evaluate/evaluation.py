"""Two of the measurements of an evaluation, perplexity and captions; the third is mrnn.evaluate.retrieval.stage.

`Parts` keeps what each has finished.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from time import monotonic
from typing import Any

import numpy as np

from mrnn.data.cache import FeatureCache
from mrnn.data.progress import Progress
from mrnn.data.stopping import StopRequest
from mrnn.evaluate.generation.decode import Caption, Decoder, DecodingConfig
from mrnn.evaluate.metrics.perplexity import perplexity_per_image, perplexity_summary
from mrnn.evaluate.parts import MARK_SECONDS, Parts
from mrnn.train.checkpoint import TrainedModel
from mrnn.train.features import Features
from mrnn.train.sentences import sentences_of
from mrnn.train.tasks.captioning import sentence_bits

DECODE_IMAGES = 128  # images decoded at a time: enough for the matrix products to be what takes the time


@dataclass
class Evaluation:
    """What all stages work on.

    trained : the model with its vocabulary. cache, split : what it is measured on. images : (N,) int64 numbers of the
    split's images that have features. threads : images scored at a time in retrieval, on a CPU.
    """

    trained: TrainedModel
    cache: FeatureCache
    split: str
    images: np.ndarray
    features: Features
    parts: Parts
    stop: StopRequest
    threads: int = 1

    def check_stop(self) -> None:
        """End here if asked to. Raises Stopped."""
        if self.stop.reason:
            raise self.stop.stopped(f"what is finished lies in {self.parts.folder}")


def perplexity_stage(evaluation: Evaluation, split: str | None = None, *, run: bool = True) -> dict[str, Any] | None:
    """Perplexity of a split's sentences under their images, in all and by caption length.

    split : None for the one that is evaluated, whose result also has the bits of each image. None is returned for a
    split without a sentence to measure.
    Of every stage: run=False returns what an earlier run finished, or None.
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
    """What captions depend on, for metrics.json and for recognising finished ones."""
    return {**asdict(config), "prefix": list(prefix)}


def generation_stage(
    evaluation: Evaluation,
    config: DecodingConfig,
    *,
    prefix: Sequence[str] = (),
    name: str = "captions",
    run: bool = True,
) -> list[list[Caption]] | None:
    """The captions of each image that its beam ended with, best first.

    Finished ones are stored every so often and taken up again.
    """
    vocabulary, images = evaluation.trained.vocabulary, evaluation.images
    settings = {**decoding_settings(config, prefix), "kept": config.beam}
    stored = evaluation.parts.load(name, settings) or []
    captions = [[Caption(tuple(words), tuple(logs), complete) for words, logs, complete in each] for each in stored]
    if len(captions) == len(images) or not run:
        return captions if len(captions) == len(images) else None
    decoder = Decoder(evaluation.trained.model)

    def save() -> None:
        evaluation.parts.save(name, settings, [[(c.words, c.log_probs, c.complete) for c in each] for each in captions])

    label, saved = "greedy captions" if name == "greedy" else "captions", monotonic()
    with Progress(label, len(images), unit="images", done=len(captions)) as progress:
        for start in range(len(captions), len(images), DECODE_IMAGES):
            batch = images[start : start + DECODE_IMAGES]
            ids = [evaluation.cache.images[i].id for i in batch]
            found = decoder(evaluation.features[batch], config, ids=ids, prefix=vocabulary.encode(list(prefix)))
            captions += found
            progress.add(len(batch))
            if evaluation.stop.reason or monotonic() - saved > MARK_SECONDS:
                save()
                saved = monotonic()
            evaluation.check_stop()
    save()
    return captions


def greedy_config(config: DecodingConfig) -> DecodingConfig:
    """The greedy counterpart of a way to decode."""
    return replace(config, beam=1, sample=False, temperature=1.0, top_k=0, length_norm=False)

"""Captions from a trained model: greedy, beam search and sampling, in one loop over the steps of many images.

Every image has K hypotheses (K is the beam width, and 1 for greedy decoding and sampling). A step reads the last word
of each, computes log P(next word | words, I), and lets the strategy choose K of the K x V continuations. Finished
hypotheses keep their place and score and compete with the others, as in NeuralTalk; an image is done when all of its K
hypotheses are. Scores are sums of natural log-probabilities over all words and END, including prefix words; they are
not normalised by length during the search.

By default `<unk>` is not generated, since it means nothing to a reader. Its probability is not redistributed:
log-probabilities are the model's own. Exact ties are broken as by torch.topk.

A caption depends on its own image only. But rounding depends on the batch, so a float32 model may choose differently
where two continuations are almost equally probable. `Decoder`, which the commands use, therefore searches in float32,
and repeats the search in float64 for the few images where a choice was that close.
"""

import hashlib
from collections.abc import Sequence
from copy import deepcopy

import numpy as np
import torch
from torch import Tensor

from mrnn.data.vocabulary import UNKNOWN_ID
from mrnn.evaluate.generation.hypotheses import Caption, Hypotheses
from mrnn.evaluate.settings import DecodingConfig
from mrnn.train.models.captioner import Predictor, select

# A choice with a smaller lead, in nats, is decided in float64. The error of a float32 score, a sum of up to about 30
# log-probabilities, stays below a tenth of this (tests/evaluate/generation/test_decode.py).
MARGIN = 3e-4


class Decoder:
    """Finds the captions that `generate` finds for a float64 model, in a fraction of the time.

    Log-probabilities are computed in float64 for images with a choice closer than MARGIN, and in float32 for the
    others.
    """

    def __init__(self, model: Predictor) -> None:
        self._fast, self._sure = model.float(), deepcopy(model).double()

    def __call__(
        self, features: Tensor, config: DecodingConfig, *, ids: Sequence[str] = (), prefix: Sequence[int] = ()
    ) -> list[list[Caption]]:
        """See `generate`."""
        if config.sample:  # a draw can fall on the boundary between two words, however different their probabilities
            return generate(self._sure, features, config, ids=ids, prefix=prefix)
        # Where every lead exceeds the rounding error, float64 would make the same choices. The other images are
        # searched again from the start, since one different choice changes everything after it.
        captions, margins = _search(self._fast, features, config, ids=ids, prefix=prefix)
        close = [number for number, margin in enumerate(margins) if margin < MARGIN]
        for number, sure in zip(close, generate(self._sure, features[close], config, prefix=prefix), strict=True):
            captions[number] = sure
        return captions


def generate(
    model: Predictor,
    features: Tensor,
    config: DecodingConfig,
    *,
    ids: Sequence[str] = (),
    prefix: Sequence[int] = (),
) -> list[list[Caption]]:
    """Captions of each image, best first.

    model : the model in eval mode; the search uses its device and precision.
    features : (B, D), stored features of the images.
    config : strategy, beam width and limits.
    ids : ids of the images, needed for sampling.
    prefix : word numbers that every caption starts with.

    Returns B lists of 1 to `beam` captions. Raises ValueError in training mode, for a beam wider than the vocabulary,
    a prefix of max_steps words or more, or sampling without ids.
    """
    return _search(model, features, config, ids=ids, prefix=prefix)[0]


@torch.inference_mode()
def _search(
    model: Predictor, features: Tensor, config: DecodingConfig, *, ids: Sequence[str], prefix: Sequence[int]
) -> tuple[list[list[Caption]], list[float]]:
    """The captions of `generate`, and for each image the smallest lead by which a choice in its search was decided."""
    if model.training:
        raise ValueError("captions need the model in eval mode")
    width, vocabulary = config.beam, model.config.vocabulary
    if width > vocabulary or len(prefix) >= config.max_steps:
        raise ValueError(
            f"a beam of {width} with {vocabulary} words, or a prefix of {len(prefix)} with at most {config.max_steps}"
        )
    if config.sample and len(ids) != len(features):
        raise ValueError(f"sampling needs the id of each of the {len(features)} images, not {len(ids)}")
    if not len(features):
        return [], []
    weight = next(model.parameters())  # of the precision and on the device of the search
    draws = _draws(ids, config).to(weight.device) if config.sample else None
    waiting = torch.arange(len(features), device=weight.device)  # numbers of the unfinished images
    search = Hypotheses.start(model.start(features.to(weight)), config, weight)
    results: list[list[Caption]] = [[] for _ in range(len(features))]
    margins = [np.inf] * len(features)
    for step in range(config.max_steps):
        active = search.active  # A of the B x K hypotheses
        logits, state = model.next_words(search.last_words(), select(search.state, active))  # (A, V)
        for part, new in zip(search.state, state, strict=True):
            part[active] = new
        normaliser = logits.logsumexp(-1)  # before `<unk>` is suppressed, so that probabilities stay the model's own
        if step < len(prefix):
            search.force(prefix[step], logits[:, prefix[step]] - normaliser)
        else:
            if config.suppress_unknown:
                logits[:, UNKNOWN_ID] = -torch.inf
            if config.block_ngrams:
                search.block_repeats(logits, config.block_ngrams)
            if draws is None:
                search.take_best(logits, normaliser, groups=config.beam_groups, diversity=config.diversity)
            else:
                search.draw(logits - normaliser[:, None], draws[waiting, step], config)
        done = search.finished.all(1)
        if step == config.max_steps - 1:
            done[:] = True
        if done.any():
            for number, (captions, margin) in zip(waiting[done].tolist(), search.captions(done, config), strict=True):
                results[number], margins[number] = captions, margin
            search.keep(~done)
            waiting = waiting[~done]
            if not len(waiting):
                break
    return results, margins


def _draws(ids: Sequence[str], config: DecodingConfig) -> Tensor:
    """Uniform numbers in [0, 1) for every image and step: (B, max_steps).

    They depend on the seed and the image's id only, so a caption does not depend on batches or on other images.
    """
    streams = []
    for image in ids:
        digest = hashlib.sha256(f"{config.seed}:{image}".encode()).digest()
        generator = np.random.default_rng(np.frombuffer(digest, dtype=np.uint32))
        streams.append(generator.random(config.max_steps))
    return torch.from_numpy(np.stack(streams))

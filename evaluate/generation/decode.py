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
from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from mrnn.data.vocabulary import BOUNDARY_ID, UNKNOWN_ID
from mrnn.evaluate.settings import DecodingConfig
from mrnn.train.models.captioner import Predictor, State, select

# A choice with a smaller lead, in nats, is decided in float64. The error of a float32 score, a sum of up to about 30
# log-probabilities, stays below a tenth of this (tests/evaluate/generation/test_decode.py).
MARGIN = 3e-4


@dataclass(frozen=True)
class Caption:
    """One hypothesis.

    words : word numbers without END.
    log_probs : natural log P of each word and, if complete, of the END that follows.
    complete : whether the model ended it with END.
    consensus : what it was ranked by if that was done by consensus (mrnn.evaluate.generation.consensus).
    """

    words: tuple[int, ...]
    log_probs: tuple[float, ...]
    complete: bool
    consensus: float | None = None

    @property
    def log_prob(self) -> float:
        """log P(words | I), the sum of log_probs."""
        return sum(self.log_probs)

    def order(self, *, length_norm: bool) -> tuple[bool, float]:
        """Sort key for the hypotheses of an image: complete ones first, then by decreasing score."""
        return not self.complete, -self.log_prob / (len(self.log_probs) if length_norm else 1)


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
    search = _Hypotheses.start(model.start(features.to(weight)), width, weight)
    results: list[list[Caption]] = [[] for _ in range(len(features))]
    margins = [np.inf] * len(features)
    for step in range(config.max_steps):
        active = search.active  # A of the B x K hypotheses
        last = search.tokens[..., -1][active] if step else active.new_full((len(waiting),), BOUNDARY_ID).long()
        logits, state = model.next_words(last, select(search.state, active))  # (A, V)
        for part, new in zip(search.state, state, strict=True):
            part[active] = new
        normaliser = logits.logsumexp(-1)  # before `<unk>` is suppressed, so that probabilities stay the model's own
        if step < len(prefix):
            search.force(prefix[step], logits[:, prefix[step]] - normaliser)
        else:
            if config.suppress_unknown:
                logits[:, UNKNOWN_ID] = -torch.inf
            if draws is None:
                search.take_best(logits, normaliser)
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


@dataclass
class _Hypotheses:
    """The search for B images with K hypotheses each.

    state : state of the model, each part (B, K, ...).
    scores : (B, K), sums of log-probabilities; -inf for a place that is not taken yet.
    finished : (B, K) bool.
    tokens : (B, K, t) int64, words so far.
    log_probs : (B, K, t), their log-probabilities.
    margin : (B,), the smallest difference so far between the last chosen and the first rejected continuation.
    """

    state: State
    scores: Tensor
    finished: Tensor
    tokens: Tensor
    log_probs: Tensor
    margin: Tensor

    @classmethod
    def start(cls, state: State, width: int, like: Tensor) -> "_Hypotheses":
        images = len(state[0])
        scores = like.new_full((images, width), -torch.inf)
        scores[:, 0] = 0
        nothing = like.new_zeros(images, width, 0)
        finished = torch.zeros_like(scores, dtype=torch.bool)
        margin = like.new_full((images,), torch.inf)
        state = tuple(part[:, None].repeat(1, width, *[1] * (part.ndim - 1)) for part in state)
        return cls(state, scores, finished, nothing.long(), nothing, margin)

    @property
    def active(self) -> Tensor:
        """(B, K) bool: the A places that are taken and not finished."""
        return ~self.finished & ~self.scores.isneginf()

    def take_best(self, logits: Tensor, normaliser: Tensor) -> None:
        """Continue with the K best of all K x V continuations: logits (A, V), normaliser (A,)."""
        # The K best continuations, and the best rejected one that the margin needs, are all among the K + 1 best of
        # their own hypotheses. So the search never sorts K x V scores.
        width, active = self.scores.shape[1], self.active
        best = logits.topk(min(width + 1, logits.shape[1]))
        log_probs = logits.new_full((*active.shape, best.values.shape[1]), -torch.inf)
        # A finished hypothesis has one continuation, itself, at no cost; so it keeps its score and competes.
        log_probs[..., 0] = 0
        tokens = torch.full_like(log_probs, BOUNDARY_ID, dtype=torch.int64)
        log_probs[active], tokens[active] = best.values - normaliser[:, None], best.indices
        flat = (self.scores[..., None] + log_probs).flatten(1)
        order = flat.topk(width + 1) if flat.shape[1] > width else flat.topk(width)
        chosen = order.indices[:, :width]
        if flat.shape[1] > width:
            # NaN is -inf minus -inf: both places are empty, and no choice was made.
            lead = order.values[:, width - 1] - order.values[:, width]
            self.margin = torch.minimum(self.margin, lead.nan_to_num(nan=torch.inf))
        parents = chosen // log_probs.shape[-1]
        self._extend(parents, tokens.flatten(1).gather(1, chosen), log_probs.flatten(1).gather(1, chosen))

    def draw(self, log_probs: Tensor, draws: Tensor, config: DecodingConfig) -> None:
        """Continue the only hypothesis of each image by a random word: log_probs (B, V), draws (B,) in [0, 1)."""
        # By inversion of the cumulative distribution rather than torch.multinomial, so that the word depends on the
        # image's own draw and not on the other images of the batch.
        weights = log_probs.double() / config.temperature
        if config.top_k:
            bound = weights.topk(min(config.top_k, weights.shape[1])).values[:, -1:]
            weights = weights.masked_fill(weights < bound, -torch.inf)
        sums = weights.softmax(-1).cumsum(-1)
        tokens = torch.searchsorted(sums, (draws * sums[:, -1])[:, None], right=True)
        self._extend(torch.zeros_like(tokens), tokens, log_probs.gather(1, tokens))

    def force(self, token: int, gained: Tensor) -> None:
        """Continue every hypothesis by the same prefix word, of log-probability `gained` (A,)."""
        parents = torch.arange(self.scores.shape[1], device=self.scores.device).expand(self.scores.shape)
        added = torch.zeros_like(self.scores)
        added[self.active] = gained
        self._extend(parents, torch.full_like(parents, token), added)

    def _extend(self, parents: Tensor, tokens: Tensor, gained: Tensor) -> None:
        """Replace the hypotheses by continuations.

        parents : (B, K) int64, the hypothesis that each one continues.
        tokens : (B, K) int64, the word that is added.
        gained : (B, K), its log-probability.
        """
        rows = torch.arange(len(parents), device=parents.device)[:, None]
        was_finished = self.finished[rows, parents]
        self.scores = self.scores[rows, parents] + gained
        # An empty place (-inf) can remain only if the vocabulary is hardly wider than the beam.
        self.finished = was_finished | (tokens == BOUNDARY_ID) | self.scores.isneginf()
        self.state = tuple(part[rows, parents] for part in self.state)
        self.tokens = torch.cat([self.tokens[rows, parents], tokens[..., None]], -1)
        self.log_probs = torch.cat([self.log_probs[rows, parents], gained[..., None]], -1)

    def keep(self, chosen: Tensor) -> None:
        """Keep the images selected by `chosen`, (B,) bool."""
        self.state = select(self.state, chosen)
        for name in ("scores", "finished", "tokens", "log_probs", "margin"):
            setattr(self, name, getattr(self, name)[chosen])

    def captions(self, chosen: Tensor, config: DecodingConfig) -> Iterator[tuple[list[Caption], float]]:
        """The hypotheses of the chosen images, best first, and the margin, including that of their final order."""
        columns = (values[chosen].tolist() for values in (self.tokens, self.log_probs, self.scores, self.margin))
        for tokens, log_probs, scores, margin in zip(*columns, strict=True):
            captions = []
            for words, logs, score in zip(tokens, log_probs, scores, strict=True):
                if score == -np.inf:
                    continue
                complete = BOUNDARY_ID in words
                length = words.index(BOUNDARY_ID) if complete else len(words)
                captions.append(Caption(tuple(words[:length]), tuple(logs[: length + complete]), complete))
            keys = [caption.order(length_norm=config.length_norm) for caption in captions]
            ranked = sorted(range(len(captions)), key=keys.__getitem__)
            leads = [keys[b][1] - keys[a][1] for a, b in pairwise(ranked) if keys[a][0] == keys[b][0]]
            yield [captions[number] for number in ranked], min([margin, *leads])


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

"""Captions from a trained model: greedy, beam search and sampling, in one stepping loop over many images.

Every image has K hypotheses (beam K; sampling and greedy have one). A step feeds the last word of each, takes
log P(next word | words, I), and lets the strategy choose K continuations among the K x V. Finished hypotheses keep
their place and score and compete with the others, as in NeuralTalk; an image is done when all of its K are. Scores are
sums of natural log-probabilities over all words and END, prefix words included, never normalised by length while
searching.

`<unk>` is not written unless asked for: a caption with it is of no use to a reader. Its probability is not given to
other words: log-probabilities are the model's own. Exactly equal scores are taken in the order of torch.topk.

A caption depends on its own image only. Rounding still differs with the batch, so where two continuations are as good
as equal a float32 model may choose differently. `Decoder`, which the commands use, therefore searches in float32 and,
for the few images where a choice was as close as that, once more in float64.
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
from mrnn.train.models.captioner import Captioner, State, select
from mrnn.train.products import product

# Of two scores in float32, sums of up to some 30 log-probabilities, the error stays below a tenth of this
# (tests/evaluate/generation/test_decode.py).
MARGIN = 3e-4


@dataclass(frozen=True)
class DecodingConfig:
    """How captions are written.

    beam : hypotheses kept; 1 is greedy. sample : draw words at random instead (beam is then 1).
    temperature : log-probabilities are divided by it before drawing; top_k : draw among the k likeliest words only,
    0 for all. seed : of the draws; each image has its own stream, made of the seed and its id.
    max_steps : words (prefix included) and END; a caption that has not ended by then is cut and marked incomplete.
    length_norm : rank an image's hypotheses at the end by score / (words + END) instead of score.
    """

    beam: int = 5
    sample: bool = False
    temperature: float = 1.0
    top_k: int = 0
    seed: int = 0
    max_steps: int = 30
    length_norm: bool = False
    suppress_unknown: bool = True

    def __post_init__(self) -> None:
        if self.beam < 1 or self.max_steps < 1:
            raise ValueError(f"beam and max_steps must be at least 1, not {self.beam} and {self.max_steps}")
        if self.sample and self.beam != 1:
            raise ValueError("sampling keeps one hypothesis: use a beam of 1")
        if self.temperature <= 0 or self.top_k < 0:
            raise ValueError(f"temperature must be above 0 ({self.temperature}) and top_k at least 0 ({self.top_k})")


@dataclass(frozen=True)
class Caption:
    """One hypothesis.

    words : word numbers without END. log_probs : natural log P of each word and, if complete, of END behind them.
    complete : it ended by itself. log_prob : their sum, log P(words | I).
    """

    words: tuple[int, ...]
    log_probs: tuple[float, ...]
    complete: bool

    @property
    def log_prob(self) -> float:
        return sum(self.log_probs)

    def order(self, *, length_norm: bool) -> tuple[bool, float]:
        """Sorting key of an image's hypotheses: complete ones first, then the highest score."""
        return not self.complete, -self.log_prob / (len(self.log_probs) if length_norm else 1)


class Decoder:
    """The captions that `generate` gives for a model in float64, in a fraction of the time.

    Log-probabilities are those of float32 where its choices were clear of MARGIN, else of float64.
    """

    def __init__(self, model: Captioner) -> None:
        self._fast, self._sure = model.float(), deepcopy(model).double()

    def __call__(
        self, features: Tensor, config: DecodingConfig, *, ids: Sequence[str] = (), prefix: Sequence[int] = ()
    ) -> list[list[Caption]]:
        """As `generate`, for its model."""
        if config.sample:  # a draw between two words can fall on the border however far apart they are
            return generate(self._sure, features, config, ids=ids, prefix=prefix)
        captions, margins = _search(self._fast, features, config, ids=ids, prefix=prefix)
        close = [number for number, margin in enumerate(margins) if margin < MARGIN]
        for number, sure in zip(close, generate(self._sure, features[close], config, prefix=prefix), strict=True):
            captions[number] = sure
        return captions


def generate(
    model: Captioner,
    features: Tensor,
    config: DecodingConfig,
    *,
    ids: Sequence[str] = (),
    prefix: Sequence[int] = (),
) -> list[list[Caption]]:
    """Captions of each image, best first: (B, D) features -> B lists of 1 to `beam` captions.

    model : in eval mode; computes where and in what precision its weights are. ids : of the images, for sampling.
    prefix : word numbers that every caption begins with.
    Raises ValueError in training mode, for a beam wider than the vocabulary, a prefix as long as max_steps, or
    sampling without ids.
    """
    return _search(model, features, config, ids=ids, prefix=prefix)[0]


@torch.inference_mode()
def _search(
    model: Captioner, features: Tensor, config: DecodingConfig, *, ids: Sequence[str], prefix: Sequence[int]
) -> tuple[list[list[Caption]], list[float]]:
    """What `generate` returns, and for each image by how much the closest choice in its search was decided."""
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
    weight = model.output.weight
    draws = _draws(ids, config).to(weight.device) if config.sample else None
    waiting = torch.arange(len(features), device=weight.device)  # numbers of the images that are not done
    search = _Hypotheses.start(model.start(features.to(weight)), width, weight)
    results: list[list[Caption]] = [[] for _ in range(len(features))]
    margins = [np.inf] * len(features)
    for step in range(config.max_steps):
        active = search.active  # A of the B x K hypotheses
        last = search.tokens[..., -1][active] if step else active.new_full((len(waiting),), BOUNDARY_ID).long()
        hidden, state = model.step(last, select(search.state, active))
        for part, new in zip(search.state, state, strict=True):
            part[active] = new
        logits = product(hidden, weight, model.output.bias)  # (A, V)
        normaliser = logits.logsumexp(-1)  # over all words
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
    """The search of B images with K hypotheses each.

    state : the model's, each part (B, K, ...).
    scores : (B, K), -inf for a place not yet taken.
    finished : (B, K) bool.
    tokens, log_probs : (B, K, t).
    margin : (B,), the smallest lead so far of the last one taken over the first one left.
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
        """(B, K) bool: places that are taken and not finished. A of them."""
        return ~self.finished & ~self.scores.isneginf()

    def take_best(self, logits: Tensor, normaliser: Tensor) -> None:
        """Go on with the K best of all K x V continuations: logits (A, V), normaliser (A,).

        None of them, nor the first one left, is beyond the K + 1 best of its own hypothesis.
        """
        width, active = self.scores.shape[1], self.active
        best = logits.topk(min(width + 1, logits.shape[1]))
        log_probs = logits.new_full((*active.shape, best.values.shape[1]), -torch.inf)
        log_probs[..., 0] = 0  # a finished one goes on only as itself
        tokens = torch.full_like(log_probs, BOUNDARY_ID, dtype=torch.int64)
        log_probs[active], tokens[active] = best.values - normaliser[:, None], best.indices
        flat = (self.scores[..., None] + log_probs).flatten(1)
        order = flat.topk(width + 1) if flat.shape[1] > width else flat.topk(width)
        chosen = order.indices[:, :width]
        if flat.shape[1] > width:
            lead = order.values[:, width - 1] - order.values[:, width]
            self.margin = torch.minimum(self.margin, lead.nan_to_num(nan=torch.inf))
        parents = chosen // log_probs.shape[-1]
        self._extend(parents, tokens.flatten(1).gather(1, chosen), log_probs.flatten(1).gather(1, chosen))

    def draw(self, log_probs: Tensor, draws: Tensor, config: DecodingConfig) -> None:
        """Continue each image's only hypothesis by a random word: log_probs (B, V), draws (B,) in [0, 1)."""
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
        """Replace the hypotheses: the new ones come from `parents` by `tokens`, which adds `gained`; all (B, K)."""
        rows = torch.arange(len(parents), device=parents.device)[:, None]
        was_finished = self.finished[rows, parents]
        self.scores = self.scores[rows, parents] + gained
        # A place never taken (-inf) can only remain where the vocabulary is hardly wider than the beam.
        self.finished = was_finished | (tokens == BOUNDARY_ID) | self.scores.isneginf()
        self.state = tuple(part[rows, parents] for part in self.state)
        self.tokens = torch.cat([self.tokens[rows, parents], tokens[..., None]], -1)
        self.log_probs = torch.cat([self.log_probs[rows, parents], gained[..., None]], -1)

    def keep(self, chosen: Tensor) -> None:
        """Go on with the images that `chosen` (B,) bool says."""
        self.state = select(self.state, chosen)
        for name in ("scores", "finished", "tokens", "log_probs", "margin"):
            setattr(self, name, getattr(self, name)[chosen])

    def captions(self, chosen: Tensor, config: DecodingConfig) -> Iterator[tuple[list[Caption], float]]:
        """The hypotheses of the chosen images, best first, and the margin, their order included."""
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
    """Uniform numbers in [0, 1) for every image and step, from the seed and the image's id alone: (B, max_steps)."""
    streams = []
    for image in ids:
        digest = hashlib.sha256(f"{config.seed}:{image}".encode()).digest()
        generator = np.random.default_rng(np.frombuffer(digest, dtype=np.uint32))
        streams.append(generator.random(config.max_steps))
    return torch.from_numpy(np.stack(streams))

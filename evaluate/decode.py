"""Captions from a trained model: greedy, beam search and sampling, in one stepping loop over many images.

Every image has K hypotheses (beam K; sampling and greedy have one). A step feeds the last word of each, takes
log P(next word | words, I), and lets the strategy choose K continuations among the K x V. Finished hypotheses keep
their place and score and compete with the others, as in NeuralTalk; an image is done when all of its K are. Scores are
sums of natural log-probabilities over all words and END, prefix words included, never normalised by length while
searching.

`<unk>` is not written unless asked for: a caption with it is of no use to a reader. Its probability is not given to
other words: log-probabilities are the model's own. Exactly equal scores are taken in the order of torch.topk.

A caption depends on its own image only. Rounding still differs with the batch, so where two words are as good as equal
a float32 model may choose differently; given in float64 (as the commands do) that does not happen in practice.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mrnn.data.vocabulary import BOUNDARY_ID, UNKNOWN_ID
from mrnn.train.models.mrnn import MRNN


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


@torch.inference_mode()
def generate(
    model: MRNN,
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
        return []
    weight = model.output.weight
    draws = _draws(ids, config).to(weight.device) if config.sample else None
    image = model.image(features.to(weight))
    waiting = torch.arange(len(features), device=weight.device)  # numbers of the images that are not done
    search = _Hypotheses.start(len(features), width, model.config.recurrent, weight)
    results: list[list[Caption]] = [[] for _ in range(len(features))]
    for step in range(config.max_steps):
        last = search.tokens[..., -1] if step else waiting.new_full((len(waiting), width), BOUNDARY_ID)
        words = model.words(last)
        search.state = model.recur(words, search.state)
        multimodal = model.multimodal(model.language(words, search.state), image[waiting, None])
        log_probs = model.output(multimodal).log_softmax(-1)  # (B, K, V)
        if step < len(prefix):
            parents, tokens = _force(search, prefix[step])
        else:
            if config.suppress_unknown:
                log_probs[..., UNKNOWN_ID] = -torch.inf
            if draws is None:
                parents, tokens = _best(search, log_probs)
            else:
                parents, tokens = _drawn(log_probs, draws[waiting, step], config)
        search.extend(parents, tokens, log_probs)
        done = search.finished.all(1)
        if done.any():
            for number, captions in zip(waiting[done].tolist(), search.captions(done, config), strict=True):
                results[number] = captions
            search.keep(~done)
            waiting = waiting[~done]
            if not len(waiting):
                return results
    for number, captions in zip(
        waiting.tolist(), search.captions(torch.ones_like(waiting, dtype=torch.bool), config), strict=True
    ):
        results[number] = captions
    return results


@dataclass
class _Hypotheses:
    """The search of B images with K hypotheses each.

    state (B, K, H); scores (B, K), -inf for a place not yet taken; finished (B, K) bool; tokens, log_probs (B, K, t).
    """

    state: Tensor
    scores: Tensor
    finished: Tensor
    tokens: Tensor
    log_probs: Tensor

    @classmethod
    def start(cls, images: int, width: int, recurrent: int, like: Tensor) -> "_Hypotheses":
        scores = like.new_full((images, width), -torch.inf)
        scores[:, 0] = 0
        nothing = like.new_zeros(images, width, 0)
        finished = torch.zeros_like(scores, dtype=torch.bool)
        return cls(like.new_zeros(images, width, recurrent), scores, finished, nothing.long(), nothing)

    def extend(self, parents: Tensor, tokens: Tensor, log_probs: Tensor) -> None:
        """Replace the K hypotheses: the new ones come from `parents` (B, K) by `tokens` (B, K); log_probs (B, K, V)."""
        rows = torch.arange(len(parents), device=parents.device)[:, None]
        was_finished = self.finished[rows, parents]
        gained = log_probs[rows, parents, tokens].masked_fill(was_finished, 0)
        self.scores = self.scores[rows, parents] + gained
        # A place never taken (-inf) can only remain where the vocabulary is hardly wider than the beam.
        self.finished = was_finished | (tokens == BOUNDARY_ID) | self.scores.isneginf()
        self.state = self.state[rows, parents]
        self.tokens = torch.cat([self.tokens[rows, parents], tokens[..., None]], -1)
        self.log_probs = torch.cat([self.log_probs[rows, parents], gained[..., None]], -1)

    def keep(self, chosen: Tensor) -> None:
        """Go on with the images that `chosen` (B,) bool says."""
        for name in ("state", "scores", "finished", "tokens", "log_probs"):
            setattr(self, name, getattr(self, name)[chosen])

    def captions(self, chosen: Tensor, config: DecodingConfig) -> list[list[Caption]]:
        """The hypotheses of the chosen images, best first."""
        found = []
        columns = (values[chosen].tolist() for values in (self.tokens, self.log_probs, self.scores))
        for tokens, log_probs, scores in zip(*columns, strict=True):
            captions = []
            for words, logs, score in zip(tokens, log_probs, scores, strict=True):
                if score == -np.inf:
                    continue
                complete = BOUNDARY_ID in words
                length = words.index(BOUNDARY_ID) if complete else len(words)
                captions.append(Caption(tuple(words[:length]), tuple(logs[: length + complete]), complete))
            captions.sort(key=lambda caption: caption.order(length_norm=config.length_norm))
            found.append(captions)
        return found


def _best(search: _Hypotheses, log_probs: Tensor) -> tuple[Tensor, Tensor]:
    """The K best continuations of all K x V of each image: parents and tokens, both (B, K)."""
    images, width, vocabulary = log_probs.shape
    log_probs = log_probs.masked_fill(search.finished[..., None], -torch.inf)
    log_probs[..., BOUNDARY_ID].masked_fill_(search.finished, 0)  # a finished one goes on only as itself
    flat = (search.scores[..., None] + log_probs).reshape(images, width * vocabulary)
    best = flat.topk(width).indices
    return best // vocabulary, best % vocabulary


def _drawn(log_probs: Tensor, draws: Tensor, config: DecodingConfig) -> tuple[Tensor, Tensor]:
    """Continue each image's only hypothesis by a random word: log_probs (B, 1, V), draws (B,) in [0, 1)."""
    weights = log_probs[:, 0].double() / config.temperature
    if config.top_k:
        bound = weights.topk(min(config.top_k, weights.shape[1])).values[:, -1:]
        weights = weights.masked_fill(weights < bound, -torch.inf)
    sums = weights.softmax(-1).cumsum(-1)
    tokens = torch.searchsorted(sums, (draws * sums[:, -1])[:, None], right=True)
    return torch.zeros_like(tokens), tokens


def _force(search: _Hypotheses, token: int) -> tuple[Tensor, Tensor]:
    """Continue every hypothesis by the same prefix word."""
    parents = torch.arange(search.scores.shape[1], device=search.scores.device).expand(search.scores.shape)
    return parents, torch.full_like(parents, token)


def _draws(ids: Sequence[str], config: DecodingConfig) -> Tensor:
    """Uniform numbers in [0, 1) for every image and step, from the seed and the image's id alone: (B, max_steps)."""
    streams = []
    for image in ids:
        digest = hashlib.sha256(f"{config.seed}:{image}".encode()).digest()
        generator = np.random.default_rng(np.frombuffer(digest, dtype=np.uint32))
        streams.append(generator.random(config.max_steps))
    return torch.from_numpy(np.stack(streams))

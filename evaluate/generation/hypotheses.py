"""The hypotheses of a search for captions, and the ways to continue them: the best words, a drawn one, a given one.

Two things may keep a word from being chosen; they change no log-probability, which are always the model's own:

    n-gram blocking     a word that would repeat an n-gram of its hypothesis is not chosen (Paulus et al. 2018,
                        arXiv 1705.04304)
    diverse beam        the beam is split into groups, which choose one after the other; a word loses `diversity` nats
                        for every hypothesis of an earlier group that has just taken it (Vijayakumar et al. 2018,
                        arXiv 1610.02424, Algorithm 1 with Hamming diversity). END loses nothing
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from mrnn.data.vocabulary import BOUNDARY_ID
from mrnn.evaluate.settings import DecodingConfig
from mrnn.train.models.captioner import State, select


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


@dataclass
class Hypotheses:
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
    def start(cls, state: State, config: DecodingConfig, like: Tensor) -> "Hypotheses":
        """One empty hypothesis in each group of the beam. state : of B images. like : gives precision and device."""
        images, width = len(state[0]), config.beam
        scores = like.new_full((images, width), -torch.inf)
        scores[:, :: width // config.beam_groups] = 0
        nothing = like.new_zeros(images, width, 0)
        finished = torch.zeros_like(scores, dtype=torch.bool)
        margin = like.new_full((images,), torch.inf)
        state = tuple(part[:, None].repeat(1, width, *[1] * (part.ndim - 1)) for part in state)
        return cls(state, scores, finished, nothing.long(), nothing, margin)

    @property
    def active(self) -> Tensor:
        """(B, K) bool: the A places that are taken and not finished."""
        return ~self.finished & ~self.scores.isneginf()

    def last_words(self) -> Tensor:
        """The last word of each active hypothesis: (A,) int64."""
        active = self.active
        if not self.tokens.shape[-1]:
            return active.new_full((int(active.sum()),), BOUNDARY_ID, dtype=torch.int64)
        return self.tokens[..., -1][active]

    def block_repeats(self, logits: Tensor, length: int) -> None:
        """Set to -inf the words that would complete an n-gram of `length` words a second time: logits (A, V)."""
        words = self.tokens[self.active]  # (A, t)
        if words.shape[1] < length:
            return
        ngrams = words.unfold(1, length, 1)  # (A, t - length + 1, length)
        last = words[:, None, words.shape[1] - length + 1 :]
        rows, places = (ngrams[..., :-1] == last).all(-1).nonzero(as_tuple=True)
        logits[rows, ngrams[rows, places, -1]] = -torch.inf

    def take_best(self, logits: Tensor, normaliser: Tensor, *, groups: int = 1, diversity: float = 0.0) -> None:
        """Continue with the K best of all K x V continuations: logits (A, V), normaliser (A,).

        With several groups, each keeps the best K / groups continuations of its own hypotheses.
        """
        active = self.active
        images, width = active.shape[0], active.shape[1] // groups
        found: list[tuple[Tensor, Tensor, Tensor]] = []
        for group in range(groups):
            places = slice(group * width, (group + 1) * width)
            mine, rows = active[:, places], torch.zeros_like(active)
            rows[:, places] = mine
            inside = rows[active]  # (A,), the hypotheses of this group
            scores = logits[inside] if groups > 1 else logits
            if found and diversity:
                taken = logits.new_zeros(images, logits.shape[1])
                tokens = torch.cat([tokens for _, tokens, _ in found], 1)
                taken.scatter_add_(1, tokens, torch.full_like(tokens, diversity, dtype=taken.dtype))
                taken[:, BOUNDARY_ID] = 0
                scores = scores - taken[mine.nonzero()[:, 0]]
            parents, tokens, gained, lead = _best(
                self.scores[:, places], mine, scores, logits[inside] if groups > 1 else logits, normaliser[inside]
            )
            self.margin = torch.minimum(self.margin, lead)
            found.append((parents + places.start, tokens, gained))
        self._extend(*(torch.cat(column, 1) for column in zip(*found, strict=True)))

    def draw(self, log_probs: Tensor, draws: Tensor, config: DecodingConfig) -> None:
        """Continue the only hypothesis of each image by a random word: log_probs (B, V), draws (B,) in [0, 1)."""
        # By inversion of the cumulative distribution rather than torch.multinomial, so that the word depends on the
        # image's own draw and not on the other images of the batch.
        weights = log_probs.double() / config.temperature
        if config.top_k:
            bound = weights.topk(min(config.top_k, weights.shape[1])).values[:, -1:]
            weights = weights.masked_fill(weights < bound, -torch.inf)
        if config.top_p:
            ranked = weights.softmax(-1).sort(descending=True)
            beyond = ranked.values.cumsum(-1) - ranked.values >= config.top_p  # the words before it are enough
            weights = weights.masked_fill(beyond.scatter(1, ranked.indices, beyond), -torch.inf)
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


def _best(
    scores: Tensor, active: Tensor, chosen_by: Tensor, logits: Tensor, normaliser: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The K best continuations of K hypotheses of each of B images.

    scores : (B, K), the log-probabilities so far. active : (B, K) bool, the A places that can be continued.
    chosen_by : (A, V), what continuations are ranked by. logits : (A, V), the model's own. normaliser : (A,), of them.

    Returns parents, tokens and log-probabilities of the K chosen continuations, each (B, K), and the lead of the last
    chosen over the first rejected one, (B,).
    """
    # The K best continuations, and the best rejected one that the margin needs, are all among the K + 1 best of their
    # own hypotheses. So the search never sorts K x V scores.
    width = scores.shape[1]
    best = chosen_by.topk(min(width + 1, chosen_by.shape[1]))
    ranked_by = chosen_by.new_full((*active.shape, best.values.shape[1]), -torch.inf)
    # A finished hypothesis has one continuation, itself, at no cost; so it keeps its score and competes.
    ranked_by[..., 0] = 0
    log_probs, tokens = ranked_by.clone(), torch.full_like(ranked_by, BOUNDARY_ID, dtype=torch.int64)
    ranked_by[active], tokens[active] = best.values - normaliser[:, None], best.indices
    log_probs[active] = logits.gather(1, best.indices) - normaliser[:, None]
    flat = (scores[..., None] + ranked_by).flatten(1)
    order = flat.topk(min(width + 1, flat.shape[1]))
    chosen = order.indices[:, :width]
    lead = scores.new_full((len(scores),), torch.inf)
    if flat.shape[1] > width:
        # NaN is -inf minus -inf: both places are empty, and no choice was made.
        lead = (order.values[:, width - 1] - order.values[:, width]).nan_to_num(nan=torch.inf)
    parents = chosen // ranked_by.shape[-1]
    return parents, tokens.flatten(1).gather(1, chosen), log_probs.flatten(1).gather(1, chosen), lead

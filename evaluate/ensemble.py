"""Several captioners that predict together: the mixture of their probabilities.

    P(w_{t+1} | w_1..w_t, I) = 1/M sum_m P_m(w_{t+1} | w_1..w_t, I)

Every member keeps a state of its own and reads the words that were chosen together. The members have the same words and
the same kind of features, and share nothing else: they may be of different kinds. The papers that mrnn follows have no
ensembles; averaging probabilities, not their logarithms, keeps the sum over all words at 1, so the perplexity of the
mixture is defined. Retrieval averages scores instead (mrnn.evaluate.retrieval.combination).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import log, log2
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from mrnn.data.cache import matching_settings
from mrnn.data.errors import EvaluationError
from mrnn.evaluate.fit import check_captioner, sha256_of
from mrnn.train.batches import CaptionBatch
from mrnn.train.checkpoint import TrainedModel, load_trained
from mrnn.train.losses import LN2
from mrnn.train.measures import Cost
from mrnn.train.models.captioner import Predictor, State

NAME = "ensemble"  # instead of the name of a kind
DEFINITION = "the members of `checkpoint` predict each word by the mean of their probabilities"


class Ensemble(Predictor):
    """The mixture of M predictors with equal weights. Its state is those of the members, one after another."""

    def __init__(self, members: Sequence[Predictor]) -> None:
        super().__init__()
        self._members = nn.ModuleList(members)
        self.config = members[0].config
        self.sees_images = any(member.sees_images for member in members)
        self.train(any(member.training for member in members))
        none = torch.zeros(0, self.config.features).to(next(self.parameters()))
        self._parts = [len(member.start(none)) for member in members]  # tensors in the state of each

    @property
    def members(self) -> list[Predictor]:
        """The M predictors."""
        return [cast(Predictor, member) for member in self._members]

    def start(self, features: Tensor) -> State:
        """See `Predictor`."""
        return tuple(part for member in self.members for part in member.start(features))

    def next_words(self, words: Tensor, state: State) -> tuple[Tensor, State]:
        """See `Predictor`; the logits are log P."""
        log_probs, new, rest = [], list[Tensor](), list(state)
        for member, parts in zip(self.members, self._parts, strict=True):
            logits, after = member.next_words(words, tuple(rest[:parts]))
            log_probs.append(logits.log_softmax(-1))
            new += after
            del rest[:parts]
        return torch.stack(log_probs).logsumexp(0) - log(len(log_probs)), tuple(new)

    def target_bits(self, batch: CaptionBatch) -> Tensor:
        """See `Predictor`."""
        bits = torch.stack([member.target_bits(batch) for member in self.members])
        return log2(len(bits)) - (-LN2 * bits).logsumexp(0) / LN2

    def image_vector(self, features: Tensor) -> Tensor:
        """See `Predictor`: the members' vectors, one after another."""
        return torch.cat([member.image_vector(features) for member in self.members], dim=-1)


@dataclass
class TrainedEnsemble(TrainedModel):
    """An ensemble. What describes it is what describes its members, with " + " between; `run` is a name, no folder.

    members : the models, in the order given.
    """

    members: tuple[TrainedModel, ...]

    @property
    def cost(self) -> Cost:
        """What the training of the members minimised."""
        return self.members[0].cost


def load_together(runs: Sequence[str | Path], *, device: torch.device | str = "cpu") -> TrainedModel:
    """The model of one run, or the ensemble of several, as from `mrnn.train.checkpoint.load_trained`.

    Raises CheckpointError as that does, and EvaluationError if one of several is no captioner, or does not have the
    words and the features of the first.
    """
    first, *others = members = [load_trained(run, device=device) for run in runs]
    if not others:
        return first
    for member in members:
        check_captioner(member)
    for other in others:
        _check_alike(first, other)
    return TrainedEnsemble(
        model=Ensemble([member.model for member in members]),
        name=NAME,
        vocabulary=first.vocabulary,
        features=first.features,
        settings={str(member.file): member.settings for member in members},
        run=Path(_joined(member.run.resolve().name for member in members)),
        file=Path(_joined(member.file for member in members)),
        progress={name: _joined(member.progress.get(name) for member in members) for name in ("epoch", "step")},
        members=tuple(members),
    )


def members_of(trained: TrainedModel) -> tuple[TrainedModel, ...]:
    """The models of an ensemble, or the model itself."""
    return trained.members if isinstance(trained, TrainedEnsemble) else (trained,)


def checkpoint_digest(trained: TrainedModel) -> str:
    """The SHA-256 of the checkpoint, in hex; of an ensemble those of its members."""
    return _joined(sha256_of(member.file) for member in members_of(trained))


def describe(trained: TrainedModel) -> dict[str, Any]:
    """Which checkpoint was evaluated, for metrics.json; of an ensemble, "members" describes each."""
    found = {
        "run": str(trained.run),
        "file": trained.file.name,
        "sha256": checkpoint_digest(trained),
        "model": trained.name,
        "epoch": trained.progress.get("epoch"),
        "step": trained.progress.get("step"),
    }
    members = [describe(member) for member in members_of(trained) if member is not trained]
    return {**found, "members": members} if members else found


def _joined(values: Iterable[object]) -> str:
    return " + ".join(map(str, values))


def _check_alike(first: TrainedModel, other: TrainedModel) -> None:
    if other.vocabulary.words != first.vocabulary.words:
        raise EvaluationError(
            f"{other.file} knows other words than {first.file} ({len(other.vocabulary)} and {len(first.vocabulary)} "
            "words); the members of an ensemble need the same vocabulary: train them on one cache with one --cutoff"
        )
    different = matching_settings(first.features, other.features)
    if other.model.config.features != first.model.config.features:
        different.append("size")
    if different:
        raise EvaluationError(
            f"{other.file} was trained on other features than {first.file} ({', '.join(different)}); the members of "
            "an ensemble are given the same features: train them on one cache"
        )

"""Settings that alter the result of training (TrainSettings), and those that do not (RunOptions).

This module does not import torch.
"""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from mrnn.data.errors import SettingError
from mrnn.data.settings import check_settings, setting
from mrnn.train.measures import SELECTIONS
from mrnn.train.models.config import ModelConfig
from mrnn.train.models.kinds import CAPTIONERS, KINDS, LATE_FUSION, kind_of
from mrnn.train.presets import MODEL, PRESETS

PRECISIONS = ("fp32", "bf16")
OPTIMISERS = ("adam", "sgd", "rmsprop")
SCHEDULES = ("cosine", "constant")


@dataclass(frozen=True)
class TrainSettings:
    """Everything that alters the result. Checkpoints hold it, and a run resumes only with equal settings.

    `network` holds the model's own settings by name, where they differ from the defaults of its config
    (mrnn.train.models.kinds). docs/experiments.md describes how the defaults were chosen.
    """

    model: str = setting("mrnn", "Kind of model to train; rnn-base is mrnn without the image.", choices=tuple(KINDS))
    preset: str = setting(
        "paper",
        "Settings to start from, which other options override. paper: the defaults, with the m-RNN of 2014. retrieval: "
        "those that retrieve best. best: those of the lowest perplexity. Both are listed below.",
        choices=tuple(PRESETS),
    )
    epochs: int = setting(8, "Number of passes over the training sentences.", at_least=1)
    batch_size: int = setting(100, "Sentences per batch.", at_least=1)
    lr: float = setting(2e-3, "Highest learning rate.", above=0)
    seed: int = setting(0, "Seed of the weights, the order of sentences and dropout.", at_least=0)
    cutoff: int = setting(5, "Minimum count for a word to enter the vocabulary; rarer words become <unk>.", at_least=1)
    l2: float = setting(0.0, "Weight of the L2 penalty: cost = bits per word + l2 * ||weights||^2.", at_least=0)
    clip: float = setting(5.0, "Largest global norm of the gradient; 0 disables clipping.", at_least=0)
    clip_values: float = setting(
        0.0, "Largest absolute value of each element of the gradient, after --clip; 0 disables it.", at_least=0
    )
    optimiser: str = setting("adam", "Optimisation method.", choices=OPTIMISERS)
    momentum: float = setting(0.9, "Momentum of sgd, and beta1 of adam.", at_least=0, below=1)
    beta2: float = setting(0.999, "Decay of squared gradients in adam and rmsprop.", at_least=0, below=1)
    schedule: str = setting(
        "cosine", "Learning rate after the warm-up: falling to 0 over --epochs, or constant.", choices=SCHEDULES
    )
    warmup: int = setting(100, "Steps over which the learning rate rises from 0.", at_least=0)
    patience: int = setting(
        5, "Stop after this many epochs without an improvement on the dev split; 0 never stops early.", at_least=0
    )
    ema: float = setting(
        0.0,
        "Decay of a moving average of the weights, which is then validated and kept as the best; 0 for none.",
        at_least=0,
        below=1,
    )
    precision: str = setting("fp32", "Arithmetic; bf16 is for GPUs.", choices=PRECISIONS)
    select: str = setting(
        "perplexity",
        "How the best checkpoint of a captioner is chosen: by the perplexity of the dev split, or by the CIDEr of "
        "greedy captions or the sum of recalls of a sample of it.",
        choices=tuple(SELECTIONS),
    )
    select_images: int = setting(200, "Images of the dev split in that sample.", at_least=2)
    init_from: str = setting("", "Run folder whose best weights and vocabulary a new run starts from.")
    segments: str = setting(
        "",
        "File that align-sentences wrote for the splits train and val: captioners learn from its regions and their "
        "words in place of images and sentences.",
    )
    label_smoothing: float = setting(
        0.0,
        "Share of the probability of the target that captioners spread over all words in training; validation stays "
        "plain.",
        at_least=0,
        below=1,
    )
    word_dropout: float = setting(
        0.0, "Fraction of the words that captioners read which training replaces by <unk>.", at_least=0, below=1
    )
    contrast: float = setting(
        0.0,
        "Weight of the contrastive term of m-RNN and the Transformer: softmax cross-entropy, in bits, of the scores "
        "that retrieval ranks by, from sentence to image and back, within a batch; 0 for none.",
        at_least=0,
    )
    contrast_pictures: int = setting(
        16, "Images of the batch that the contrastive term compares each sentence with, its own included.", at_least=2
    )
    contrast_sentences: int = setting(
        4,
        "Sentences of the batch that the contrastive term compares, at most one for each image. Its time is "
        "proportional to this times --contrast-pictures.",
        at_least=1,
    )
    network: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_settings(self)
        if self.preset != "paper" and self.model != MODEL:
            raise SettingError(f"preset {self.preset} is for {MODEL}, not {self.model}")
        self.config(vocabulary=2, features=1)  # checks the model's own
        if self.segments and self.model not in CAPTIONERS:
            raise SettingError(f"segments are for captioners ({', '.join(CAPTIONERS)}), not {self.model}")
        for name in ("label_smoothing", "word_dropout", "select"):
            if getattr(self, name) != getattr(type(self), name) and self.model not in CAPTIONERS:
                raise SettingError(f"{name} is for captioners ({', '.join(CAPTIONERS)}), not {self.model}")
        if self.contrast:
            self._check_contrast()

    def _check_contrast(self) -> None:
        if self.model not in LATE_FUSION:
            raise SettingError(
                f"contrast is for {' and '.join(LATE_FUSION)}, whose words do not see the image, so that a sentence is "
                f"compared with many images at little cost; not for {self.model}"
            )
        if self.contrast_pictures > self.batch_size:
            raise SettingError(
                f"contrast_pictures ({self.contrast_pictures}) must not exceed the sentences per batch, batch_size "
                f"({self.batch_size})"
            )
        if self.contrast_sentences > self.contrast_pictures:
            raise SettingError(
                f"contrast_sentences ({self.contrast_sentences}) must not exceed contrast_pictures "
                f"({self.contrast_pictures}): each sentence is of another image"
            )

    @classmethod
    def of(cls, **values: Any) -> "TrainSettings":
        """Settings from general ones and the model's own, given together.

        The rest are those of the preset, or have the defaults of their kind. Raises SettingError for a setting that the
        model does not have.
        """
        kind, preset = kind_of(values.get("model", cls.model)), PRESETS.get(values.get("preset", cls.preset), {})
        values = {**kind.defaults, **preset, **values}
        general = {each.name for each in fields(cls)} - {"network"}
        own = {name: value for name, value in values.items() if name not in general}
        return cls(**{name: value for name, value in values.items() if name in general}, network=own)

    def but(self, **values: Any) -> "TrainSettings":
        """A copy with some settings changed, general ones or the model's own. Raises SettingError as `of` does."""
        general = {each.name: getattr(self, each.name) for each in fields(self) if each.name != "network"}
        return TrainSettings.of(**{**general, **self.network, **values})

    def config(self, *, vocabulary: int, features: int) -> ModelConfig:
        """The configuration of the model for V words and D features.

        Raises SettingError if `network` has a setting that the model does not have.
        """
        kind = kind_of(self.model)
        foreign = [name for name in self.network if name not in kind.settings()]
        if foreign:
            raise SettingError(
                f"{foreign[0]} is not a setting of {self.model}; its own are {', '.join(sorted(kind.settings()))}"
            )
        return kind.config(vocabulary, features, **self.network)

    def flat(self) -> dict[str, Any]:
        """General settings and all of the model's own in one dict, as in checkpoints and config.json."""
        general = {name: value for name, value in asdict(self).items() if name != "network"}
        return general | self.config(vocabulary=2, features=1).own_settings()

    def changed_from(self, before: Mapping[str, Any]) -> list[str]:
        """Settings that differ from those of a started run (`flat`), as 'lr 0.001, now 0.002'; [] if none differs.

        More epochs are not a difference if the schedule does not depend on their number.
        """
        if before.get("model") != self.model:
            return [f"model {before.get('model')}, now {self.model}"]
        changed = []
        now = self.flat()
        # Defaults stand in for settings that did not exist yet when an older run was started.
        before = TrainSettings.of(model=self.model).flat() | dict(before)
        for name in before:
            was, is_ = before[name], now.get(name)
            more = name == "epochs" and self.schedule == "constant" and isinstance(was, int) and self.epochs > was
            if was != is_ and not more:
                changed.append(f"{name} {was}, now {is_}")
        return changed


@dataclass(frozen=True)
class RunOptions:
    """Settings that may change whenever a run resumes, since they do not alter the result.

    Another device or number of threads or processes adds in another order: the result is the same up to rounding.
    """

    device: str = setting("auto", "auto (the GPU if there is one), cpu, cuda, cuda:1, ...")
    threads: int = setting(0, "CPU threads; 0 leaves the number to torch.", at_least=0)
    save_every: str = setting("5m", "Time (5m, 90s, 1h) or number of steps between saves within an epoch.")
    memory_budget: float = setting(4.0, "GB of features held in memory; larger ones are memory-mapped.", at_least=0)
    log_every: int = setting(50, "Steps between two lines of metrics.jsonl.", at_least=1)
    graphs: bool = setting(True, "Single-GPU training uses CUDA graphs.")
    tensorboard: bool = setting(True, "Write TensorBoard events if TensorBoard is installed.")
    overwrite: bool = False

    def __post_init__(self) -> None:
        check_settings(self)
        self.saving_interval()

    def saving_interval(self) -> tuple[float | None, int | None]:
        """Seconds and steps between saves, one of which is None."""
        match = re.fullmatch(r"(\d+)([smh]?)", self.save_every)
        if not match or int(match[1]) < 1:
            raise SettingError(f"save_every must be like 5m, 90s, 1h or a number of steps, not {self.save_every!r}")
        if not match[2]:
            return None, int(match[1])
        return float(match[1]) * {"s": 1, "m": 60, "h": 3600}[match[2]], None

"""What a training run depends on (TrainSettings), and what it does not (RunOptions)."""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from mrnn.train.initialise import RECURRENCES
from mrnn.train.models import MODELS, MRNNConfig
from mrnn.train.optim import OPTIMISERS, SCHEDULES

PRECISIONS = ("fp32", "bf16")


@dataclass(frozen=True)
class TrainSettings:
    """Everything that alters the result; it stands in the checkpoint, and a run goes on only with the same.

    cutoff : a word is listed if it occurs so often in the training sentences. l2 : lambda of the cost. clip : largest
    global norm of the gradient of the bits, 0 for none. momentum : sgd's, and adam's beta1; beta2 : adam's, rmsprop's.
    warmup : steps of rising learning rate. patience : epochs without a better dev perplexity before stopping, 0 for
    never. frequency_bias : start the output bias at the log frequencies of the words. ema : decay of the average of the
    weights that is validated and kept as the best, 0 for none. image_scale : root mean square that the image features
    are brought to once their mean is taken off; smaller ones learn more slowly beside the words. init_from : run whose
    weights and words to begin with. docs/results.md says how the defaults were chosen.
    """

    model: str = "mrnn"
    epochs: int = 8
    batch_size: int = 100
    lr: float = 2e-3
    seed: int = 0
    cutoff: int = 5
    embedding1: int = 128
    embedding2: int = 256
    recurrent: int = 256
    multimodal: int = 512
    dropout: float = 0.2
    image_dropout: float = 0.7
    l2: float = 0.0
    clip: float = 5.0
    optimiser: str = "adam"
    momentum: float = 0.9
    beta2: float = 0.999
    schedule: str = "cosine"
    warmup: int = 100
    patience: int = 5
    recurrence_init: str = "identity"
    recurrence_scale: float = 0.5
    embedding_scale: float = 0.1
    output_scale: float = 0.1
    image_scale: float = 0.12
    frequency_bias: bool = True
    ema: float = 0.0
    precision: str = "fp32"
    init_from: str = ""

    def __post_init__(self) -> None:
        for name, known in (
            ("model", tuple(MODELS)),
            ("optimiser", OPTIMISERS),
            ("schedule", SCHEDULES),
            ("recurrence_init", RECURRENCES),
            ("precision", PRECISIONS),
        ):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}, not {getattr(self, name)!r}")
        for name in ("epochs", "batch_size", "cutoff"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        for name in ("seed", "l2", "clip", "warmup", "patience", "recurrence_scale", "embedding_scale", "output_scale"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must not be negative, and is {getattr(self, name)}")
        for name in ("momentum", "beta2", "ema"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must lie in [0, 1), not {getattr(self, name)}")
        for name in ("lr", "image_scale"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0, not {getattr(self, name)}")
        self.network(vocabulary=2, features=1)  # checks the sizes

    def network(self, *, vocabulary: int, features: int) -> MRNNConfig:
        """The configuration of the network for a vocabulary and a feature size."""
        shared = {field.name for field in fields(MRNNConfig)} & {field.name for field in fields(self)}
        return MRNNConfig(vocabulary, features, **{name: getattr(self, name) for name in shared})

    def changed_from(self, before: Mapping[str, Any]) -> list[str]:
        """The settings that differ from those of a run under way, as 'lr 0.001, now 0.002'; empty if it may go on.

        More epochs are no change where the schedule does not depend on their number.
        """
        changed = []
        for name, now in asdict(self).items():
            was = before.get(name)
            more = name == "epochs" and self.schedule == "constant" and isinstance(was, int) and now > was
            if was != now and not more:
                changed.append(f"{name} {was}, now {now}")
        return changed


@dataclass(frozen=True)
class RunOptions:
    """What may change each time a run goes on, since it does not alter the result.

    (Another device, number of threads or of processes adds in another order: same result up to rounding.)
    device : 'auto' is the GPU if there is one. threads : of the CPU, 0 for torch's choice. save_every : '5m', '90s',
    '1h', or a number of steps. time_limit : seconds, or None. memory_budget : GB that the features may take in memory.
    log_every : steps from line to line in metrics.jsonl. graphs : a GPU by itself runs its passes as CUDA graphs.
    """

    device: str = "auto"
    threads: int = 0
    save_every: str = "5m"
    time_limit: float | None = None
    memory_budget: float = 4.0
    log_every: int = 50
    graphs: bool = True
    tensorboard: bool = True
    overwrite: bool = False

    def __post_init__(self) -> None:
        self.saving_interval()
        if self.threads < 0 or self.log_every < 1:
            raise ValueError("threads must not be negative, and log_every be at least 1")

    def saving_interval(self) -> tuple[float | None, int | None]:
        """Seconds or steps between saves; one of the two is None."""
        match = re.fullmatch(r"(\d+)([smh]?)", self.save_every)
        if not match or int(match[1]) < 1:
            raise ValueError(f"save_every must be like 5m, 90s, 1h or a number of steps, not {self.save_every!r}")
        if not match[2]:
            return None, int(match[1])
        return float(match[1]) * {"s": 1, "m": 60, "h": 3600}[match[2]], None

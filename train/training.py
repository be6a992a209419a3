"""The state of a run in memory, and the parts of it that are written to checkpoints and config.json."""

import time
from dataclasses import asdict, dataclass, field
from typing import Any

import torch

from mrnn.train.checkpoint import model_content
from mrnn.train.distributed import Ranks
from mrnn.train.graphs import Graphs
from mrnn.train.models.model import Model
from mrnn.train.optim import WeightAverage
from mrnn.train.run_folder import Progress
from mrnn.train.settings import TrainSettings
from mrnn.train.tasks.task import Task, TrainingData


class Clock:
    """A stopwatch for consecutive laps."""

    def __init__(self) -> None:
        self._last = time.perf_counter()

    def lap(self) -> float:
        """Seconds since the last lap, or since the start."""
        before, self._last = self._last, time.perf_counter()
        return self._last - before


@dataclass
class Training:
    """The state of a run.

    settings : everything that the result depends on.
    task : objective, batches and validation.
    data : the training and dev split.
    image_ids : ids of the images by number, or of each row's image.
    model : the model in training.
    optimiser : its optimiser.
    average : moving average of the weights, if requested.
    progress : how far the run has come.
    provenance : how the features of the cache were made.
    fingerprint : digest of the cache's images, sentences and features.
    segments_sha256 : of the file of segments, in hex; '' without one.
    graphs : computes the cost on a single GPU, if CUDA graphs are used.
    ranks : the processes of the run.
    clock : measures the steps.
    """

    settings: TrainSettings
    task: Task
    data: TrainingData
    image_ids: list[str]
    model: Model
    optimiser: torch.optim.Optimizer
    average: WeightAverage | None
    progress: Progress
    provenance: dict[str, Any]
    fingerprint: str
    segments_sha256: str = ""
    graphs: Graphs | None = None
    ranks: Ranks = field(default_factory=Ranks)
    clock: Clock = field(default_factory=Clock)

    @property
    def device(self) -> torch.device:
        """The device of the model."""
        return self.data.device

    @property
    def evaluated(self) -> Any:
        """The model that is validated and kept as the best: the average if there is one."""
        return self.average.model if self.average else self.model

    @property
    def finished(self) -> str:
        """Why there is nothing left to do, or ''."""
        progress, settings = self.progress, self.settings
        if settings.patience and progress.epoch - progress.best_epoch >= settings.patience:
            return f"no better {self.task.criterion.label} for {settings.patience} epochs"
        return f"{progress.epoch} epochs" if progress.epoch >= settings.epochs else ""

    def content(self, model: Model) -> dict[str, Any]:
        """The part of a checkpoint that describes the model and its origin."""
        origin = {"features": self.provenance, "settings": self.settings.flat()}
        return model_content(self.settings.model, model, self.data.vocabulary) | origin

    def describe(self) -> dict[str, Any]:
        """The content of config.json: settings and configuration as in the checkpoints, and sizes of the data."""
        return {
            "settings": self.settings.flat(),
            "config": asdict(self.model.config),
            "task": {
                "name": self.task.name,
                "criterion": asdict(self.task.criterion),
                "cost": asdict(self.task.measure),
            },
            "features": self.provenance,
            "segments_sha256": self.segments_sha256,
            "vocabulary_size": len(self.data.vocabulary),
            "train_sentences": len(self.data.train),
            "val_sentences": len(self.data.val),
            "parameters": sum(parameter.numel() for parameter in self.model.parameters()),
            "torch": torch.__version__,
            "processes": self.ranks.count,
        }

    def state(self) -> dict[str, Any]:
        """The part of a checkpoint that only resuming needs, as plain types and tensors."""
        on_gpu = self.device.type == "cuda"
        return {
            "optimiser": self.optimiser.state_dict(),
            "average": self.average.model.state_dict() if self.average else None,
            "generator": torch.get_rng_state(),
            "generator_cuda": torch.cuda.get_rng_state(self.device) if on_gpu else None,
            "fingerprint": self.fingerprint,
            "segments_sha256": self.segments_sha256,
        }

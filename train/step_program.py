"""One decoding step of a captioner as programs of torch.export, which run without mrnn.

start.pt2   stored features (n, D) float32 -> the state, a tuple of tensors whose first axis is n
step.pt2    words (n,) int64, then the tensors of the state -> log-probabilities (n, V) of the next word, and the new
            state

n may be any number, another one at each call.
"""

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram, save

from mrnn.data.errors import SettingError
from mrnn.data.files import new_file
from mrnn.train.checkpoint import TrainedModel
from mrnn.train.exported import PROGRAMS
from mrnn.train.models.captioner import Captioner


class Start(nn.Module):
    """The state before the first word."""

    def __init__(self, model: Captioner) -> None:
        super().__init__()
        self.model = model

    def forward(self, features: Tensor) -> tuple[Tensor, ...]:
        return self.model.start(features)


class Step(nn.Module):
    """A word read, and the log-probabilities of the next."""

    def __init__(self, model: Captioner) -> None:
        super().__init__()
        self.model = model

    def forward(self, words: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        logits, state = self.model.next_words(words, state)
        return logits.log_softmax(-1), state


@torch.no_grad()
def step_programs(trained: TrainedModel) -> tuple[ExportedProgram, ExportedProgram]:
    """The programs `start` and `step` of a model on the CPU.

    Raises SettingError for a model that is no captioner.
    """
    model = trained.model
    if not isinstance(model, Captioner):
        raise SettingError(f"{trained.file} is of the kind {trained.name}, which predicts no words: it has no step")
    any_number = {0: Dim("n", min=1, max=2**20)}
    features = torch.zeros(3, model.config.features)
    words = torch.zeros(3, dtype=torch.int64)
    state = model.start(features)
    model.next_words(words, state)  # an output layer that shares weights computes its product once
    start = torch.export.export(Start(model), (features,), dynamic_shapes=(any_number,), strict=False)
    shapes = (any_number, tuple(any_number for _ in state))
    return start, torch.export.export(Step(model), (words, state), dynamic_shapes=shapes, strict=False)


def write_step_programs(programs: tuple[ExportedProgram, ExportedProgram], folder: Path) -> None:
    """Write start.pt2 and step.pt2 to a folder."""
    for name, program in zip(PROGRAMS, programs, strict=True):
        with new_file(folder / name, replace=True) as draft, draft.open("wb") as stream:
            save(program, stream)

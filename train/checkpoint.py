"""Checkpoints: plain types and tensors in a .pt file, from which a model can be rebuilt.

checkpoint_best.pt is the model to use. checkpoint_last.pt also holds everything that training needs to resume
(optimiser, sampler position, generator states); checkpoint_previous.pt is the one before it, in case the last is
damaged. A checkpoint is a dict:

    format "mrnn-checkpoint", version 2, model (a name of KINDS), config (fields of its config), vocabulary (words),
    weights (state dict), features (provenance of the feature cache), settings (TrainSettings.flat),
    progress (fields of mrnn.train.run_folder.Progress), and in checkpoint_last.pt training (Training.state)

Version 1 supported captioners only; its progress had bits, tokens and best_perplexity for cost, count and best.

Files may come from anywhere, so they are read with weights_only=True: no code in them is executed.
"""

import pickle
import zipfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from mrnn.data.errors import CheckpointError
from mrnn.data.files import new_file
from mrnn.data.vocabulary import Vocabulary
from mrnn.train.exported import WEIGHTS, is_exported, read_model
from mrnn.train.measures import Cost
from mrnn.train.models import KINDS
from mrnn.train.models.model import Model
from mrnn.train.run_files import BEST, LAST

FORMAT, VERSION = "mrnn-checkpoint", 2
FORMER_PROGRESS = {"bits": "cost", "tokens": "count", "best_perplexity": "best"}  # of version 1
UNREADABLE = (
    OSError,
    zipfile.BadZipFile,
    pickle.UnpicklingError,
    RuntimeError,
    EOFError,
    ValueError,
    KeyError,
    AttributeError,
    TypeError,
)


@dataclass
class TrainedModel:
    """A model read from a checkpoint, in evaluation mode, with the data that describe it.

    model : the model, in evaluation mode.
    name : its kind, a key of KINDS.
    vocabulary : words by number.
    features : provenance of the cache that it was trained on.
    settings : settings of the training run.
    run : run folder.
    file : the checkpoint that was read.
    progress : epoch, step, best and so on at the time the checkpoint was written.
    """

    model: Any
    name: str
    vocabulary: Vocabulary
    features: dict[str, Any]
    settings: dict[str, Any]
    run: Path
    file: Path
    progress: dict[str, Any]

    @property
    def cost(self) -> Cost:
        """What its training minimised."""
        cost: Cost = KINDS[self.name].task_class().measure
        return cost


def load_trained(run: str | Path, *, device: torch.device | str = "cpu", which: str = "best") -> TrainedModel:
    """Rebuild the trained model of a run folder or of a checkpoint file.

    run : run folder, a .pt file, or the folder of an exported model (mrnn.train.exported).
    device : device of the model.
    which : 'best' or 'last', if `run` is a folder.

    Raises CheckpointError if there is no checkpoint, or if it does not describe a model of this version.
    """
    run = Path(run)
    if is_exported(run):
        file, content = run / WEIGHTS, read_model(run)
    else:
        file = run / {"best": BEST, "last": LAST}[which] if run.is_dir() else run
        content = read_checkpoint(file)
    model, vocabulary = rebuild(content, file)
    return TrainedModel(
        model=model.to(device).eval(),
        name=content["model"],
        vocabulary=vocabulary,
        features=content["features"],
        settings=content["settings"],
        run=file.parent,
        file=file,
        progress=content["progress"],
    )


def model_content(name: str, model: Model, vocabulary: Vocabulary) -> dict[str, Any]:
    """The part of a checkpoint that rebuilds the model; tensors are references, not copies."""
    return {
        "model": name,
        "config": asdict(model.config),
        "vocabulary": list(vocabulary.words),
        "weights": model.state_dict(),
    }


def rebuild(content: dict[str, Any], file: Path) -> tuple[Model, Vocabulary]:
    """The model and vocabulary of a checkpoint's content; `file` is for messages."""
    if content["model"] not in KINDS:
        raise CheckpointError(f"{file}: its model {content['model']!r} is not one of {', '.join(KINDS)}")
    try:
        vocabulary = Vocabulary(tuple(content["vocabulary"]))
        kind = KINDS[content["model"]]
        # Older configs lack settings that training had, but the models had not.
        known = {name: value for name, value in content["settings"].items() if name in kind.settings()}
        config = kind.config(**{**known, **content["config"]})
        if config.vocabulary != len(vocabulary):
            raise ValueError(f"{len(vocabulary)} words for a network of {config.vocabulary}")
        model = kind.build(config)
        model.load_state_dict(content["weights"])
    except (TypeError, ValueError, RuntimeError, AttributeError) as error:
        raise CheckpointError(f"{file}: it does not describe a model of this version ({error})") from error
    return model, vocabulary


def read_checkpoint(file: str | Path) -> dict[str, Any]:
    """The content of a checkpoint, with its tensors on the CPU.

    Raises CheckpointError if the file is missing, damaged, or not a checkpoint of mrnn.
    """
    file = Path(file)
    if not file.is_file():
        raise CheckpointError(
            f"{file}: no such checkpoint; give the run folder that train-mrnn wrote, or a .pt file of it"
        )
    try:
        with zipfile.ZipFile(file) as archive:  # torch.load does not check the checksums that torch.save writes
            damaged = archive.testzip()
        if damaged is not None:
            raise zipfile.BadZipFile(f"wrong checksum of {damaged}")
        content = torch.load(file, map_location="cpu", weights_only=True)
    except UNREADABLE as error:
        raise CheckpointError(f"{file}: damaged, or not a checkpoint ({str(error).splitlines()[0][:120]})") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise CheckpointError(f"{file}: not a checkpoint of mrnn")
    if content.get("version") not in (1, VERSION):
        raise CheckpointError(
            f"{file}: checkpoint version {content.get('version')!r}; this mrnn reads versions 1 and {VERSION}"
        )
    missing = {"model", "config", "vocabulary", "weights", "features", "settings", "progress"} - content.keys()
    if missing:
        raise CheckpointError(f"{file}: the checkpoint lacks {', '.join(sorted(missing))}")
    return of_today(content) if content["version"] == 1 else content


def of_today(content: dict[str, Any]) -> dict[str, Any]:
    """The content of a version 1 checkpoint under the names of version 2."""
    progress = {FORMER_PROGRESS.get(name, name): value for name, value in content["progress"].items()}
    if progress.get("best") == float("inf"):  # no validation yet
        progress["best"] = None
    return {**content, "version": VERSION, "progress": progress}


def write_checkpoint(file: Path, content: dict[str, Any], *, previous: Path | None = None) -> None:
    """Write a checkpoint atomically: under a temporary name, followed by fsync and rename.

    file : the checkpoint to write or replace.
    content : the dict described above, without format and version.
    previous : name that the replaced file keeps, if given. At every moment one of the two files is complete.
    """
    with new_file(file, replace=True, previous=previous) as draft:
        torch.save({"format": FORMAT, "version": VERSION, **content}, draft)

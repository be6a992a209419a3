"""An exported model: a folder of plain files that any program reads, and that stands for a run folder.

model.safetensors   the weights, under their names in the model
config.json         format, version, model (a name of KINDS), config, features, settings, progress, as in a checkpoint
vocabulary.txt      the words by number, one per line
start.pt2, step.pt2 if wanted: one decoding step as programs of torch.export (mrnn.train.step_program)
README.md           the model card (mrnn.evaluate.model_card)
"""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save

from mrnn.data.errors import CheckpointError
from mrnn.data.files import write_json, write_whole

if TYPE_CHECKING:
    from mrnn.train.checkpoint import TrainedModel

FORMAT, VERSION = "mrnn-model", 1
WEIGHTS, CONFIG, VOCABULARY, CARD = "model.safetensors", "config.json", "vocabulary.txt", "README.md"
PROGRAMS = ("start.pt2", "step.pt2")
FILES = (WEIGHTS, CONFIG, VOCABULARY, CARD, *PROGRAMS)
MARKS = ("format", "model", "config", "features", "progress")  # keys of config.json
LONGEST = 2**28  # bytes of a text file


def is_exported(folder: Path) -> bool:
    """Whether a folder holds an exported model."""
    return (folder / WEIGHTS).is_file() and (folder / CONFIG).is_file()


def write_model(trained: "TrainedModel", folder: Path) -> None:
    """Write weights, vocabulary and, last, config.json, without which the folder is no model.

    Raises CheckpointError for a vocabulary that lines cannot hold.
    """
    words = trained.vocabulary.words
    if any(word != word.strip() or len(word.splitlines()) != 1 for word in words):
        raise CheckpointError(f"{trained.file}: its vocabulary has words with blanks or line breaks at the ends")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CONFIG).unlink(missing_ok=True)
    tensors = {name: tensor.detach().cpu().clone() for name, tensor in trained.model.state_dict().items()}
    write_whole(folder / WEIGHTS, save(tensors, metadata={"format": "pt"}))
    write_whole(folder / VOCABULARY, "".join(f"{word}\n" for word in words).encode())
    content = {
        "format": FORMAT,
        "version": VERSION,
        "model": trained.name,
        "config": asdict(trained.model.config),
        "features": trained.features,
        "settings": trained.settings,
        "progress": trained.progress,
    }
    write_json(folder / CONFIG, content)


def read_model(folder: Path) -> dict[str, Any]:
    """The content of an exported model as of a checkpoint (`mrnn.train.checkpoint.read_checkpoint`).

    Raises CheckpointError if a file is missing, damaged or of another version.
    """
    try:
        content = json.loads(_text(folder / CONFIG))
        words = _text(folder / VOCABULARY).splitlines()
        weights = load_file(folder / WEIGHTS)
    except (OSError, ValueError, RecursionError, SafetensorError) as error:
        raise CheckpointError(f"{folder}: damaged, or not an exported model ({str(error)[:160]})") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise CheckpointError(f"{folder / CONFIG}: not of a model that mrnn exported")
    if content.get("version") != VERSION:
        raise CheckpointError(
            f"{folder / CONFIG}: version {content.get('version')!r}; this mrnn reads version {VERSION}"
        )
    missing = {"model", "config", "features", "settings", "progress"} - content.keys()
    if missing:
        raise CheckpointError(f"{folder / CONFIG}: it lacks {', '.join(sorted(missing))}")
    return {**content, "vocabulary": words, "weights": weights}


def _text(path: Path) -> str:
    if path.stat().st_size > LONGEST:
        raise ValueError(f"{path.name} has more than {LONGEST} bytes")
    return path.read_text(encoding="utf-8")

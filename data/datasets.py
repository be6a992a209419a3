"""The data sets by name. A new data set is a reader and a line here."""

import os
from collections.abc import Callable
from pathlib import Path

from mrnn.data.captions import Corpus
from mrnn.data.coco import read_coco
from mrnn.data.entities import add_boxes, read_entities
from mrnn.data.errors import CorpusError
from mrnn.data.flickr import read_flickr8k, read_flickr30k
from mrnn.data.folder import read_folder
from mrnn.data.iaprtc12 import read_iaprtc12
from mrnn.data.karpathy import read_karpathy
from mrnn.data.scenes.reader import read_scenes

READERS: dict[str, Callable[[Path], Corpus]] = {
    "flickr8k": read_flickr8k,
    "flickr30k": read_flickr30k,
    "flickr30k-entities": read_entities,
    "iaprtc12": read_iaprtc12,
    "coco": read_coco,
    "karpathy": read_karpathy,
    "folder": read_folder,
    "scenes": read_scenes,
}


def default_root(name: str) -> Path:
    """$MRNN_DATA/<name> if the variable is set, else datasets/<name> in the working directory."""
    return Path(os.environ.get("MRNN_DATA") or "datasets") / name


def read_dataset(name: str, root: str | Path | None = None, *, boxes: Path | None = None) -> Corpus:
    """Read a data set from a folder, `default_root` unless given.

    boxes : a file or folder of Flickr30k Entities, whose boxes replace the data set's own; None for those.
    Raises CorpusError for an unknown name, or boxes of other images.
    """
    if name not in READERS:
        raise CorpusError(f"there is no data set {name!r}; known are {', '.join(READERS)}")
    corpus = READERS[name](default_root(name) if root is None else Path(root))
    return add_boxes(corpus, boxes) if boxes is not None else corpus

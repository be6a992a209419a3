"""Scenes: pictures of coloured shapes that the program draws itself, with captions and true boxes.

For a demonstration and for tests on a machine without a data set. Everything about picture number i follows from the
seed and i alone, so a smaller set is the beginning of a larger one, and several processes may draw into one folder.
"""

import os
import random
import uuid
from pathlib import Path

from mrnn.data.captions import Box, Corpus, Image
from mrnn.data.errors import CorpusError
from mrnn.data.scenes.drawing import draw
from mrnn.data.scenes.layout import arrange
from mrnn.data.scenes.sentences import describe

PICTURES = 1200
HELD_OUT_SHARE = 12  # a twelfth is for validation, a twelfth for testing
GENERATION = 1  # part of the file names: raise it whenever the same number would give a different picture
FOLDER = "images"


def read_scenes(root: str | Path, *, count: int = PICTURES, seed: int = 0) -> Corpus:
    """The scenes set; pictures missing in root are drawn.

    Of 1,200 pictures 1,000 are train, 100 val and 100 test. Each picture has five sentences. Each phrase that
    names things has a box for each of them, and the kind of a box is the shape of its thing. Raises CorpusError for
    fewer than one picture, or a root that cannot be a folder.
    """
    if count < 1:
        raise CorpusError(f"scenes: a set has at least 1 picture, not {count}")
    root = Path(root)
    corpus = Corpus(
        "scenes",
        root,
        tuple(_image(number, count=count, seed=seed) for number in range(count)),
        notes=(f"{count} pictures drawn by the program, generation {GENERATION}, seed {seed}",),
    )
    _draw_missing(root, corpus, seed=seed)
    return corpus


def _generator(number: int, *, seed: int, purpose: str) -> random.Random:
    return random.Random(f"{GENERATION}:{seed}:{number}:{purpose}")


def _image(number: int, *, count: int, seed: int) -> Image:
    scene = arrange(_generator(number, seed=seed, purpose="layout"))
    described = describe(scene, _generator(number, seed=seed, purpose="sentences"))
    boxes = tuple(
        Box(*phrase.group.box(thing), phrase.text, index, phrase.words, kind=phrase.group.shape)
        for index, sentence in enumerate(described)
        for phrase in sentence.phrases
        for thing in range(len(phrase.group.centres))
    )
    held_out = count // HELD_OUT_SHARE
    split = "test" if number >= count - held_out else "val" if number >= count - 2 * held_out else "train"
    name = f"scene{GENERATION}-{seed}-{number:05d}.png"
    return Image(name, f"{FOLDER}/{name}", split, tuple(sentence.text for sentence in described), boxes)


def _draw_missing(root: Path, corpus: Corpus, *, seed: int) -> None:
    """Draw the missing pictures, each under a temporary name that is then changed, so that none is ever incomplete."""
    folder = root / FOLDER
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise CorpusError(f"scenes: {folder} cannot be a folder, since {error.filename} is a file") from error
    there = set(os.listdir(folder))
    for number, image in enumerate(corpus.images):
        if image.id in there:
            continue
        scene = arrange(_generator(number, seed=seed, purpose="layout"))
        picture = draw(scene, _generator(number, seed=seed, purpose="drawing"))
        temporary = folder / f".{image.id}.{uuid.uuid4().hex}.tmp"  # other processes may draw the same picture
        picture.save(temporary, format="PNG")
        os.replace(temporary, folder / image.id)

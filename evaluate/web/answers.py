"""What the page can ask for, as plain values that become JSON: searches, captions, alignments.

Methods whose names end in `_many` take several questions at once and run on the one thread of
mrnn.evaluate.web.work. An error is a MrnnError with a sentence for the user.
"""

import io
import threading
import warnings
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mrnn.data.cache import FeatureCache
from mrnn.data.errors import EvaluationError, ImageError, MrnnError
from mrnn.data.progress import progress_told
from mrnn.evaluate.report.pictures import Pictures, thumbnail
from mrnn.evaluate.run import Run, RunGallery
from mrnn.evaluate.search.numbers import IMAGE_PERCENT
from mrnn.evaluate.search.search import Search, prepare_search
from mrnn.train.models.two_towers import TwoTowers

EXACT = 2000  # pictures up to which all are scored exactly; of more only a shortlist is, to keep up with typing
MAX_BYTES = 30_000_000  # of an uploaded picture
MAX_PIXELS = 50_000_000  # of it, looked up in its header before anything is decoded
BLANK = np.zeros((64, 64, 3), dtype=np.uint8)  # a picture
THUMBNAIL, QUALITY, THUMBNAILS = 320, 75, 512  # pixels of the longer side, of WebP, and how many are kept


@dataclass(frozen=True)
class Question:
    """A picture, by its bytes, with how much is wanted of it."""

    picture: bytes
    sentence: str = ""
    top: int = 10


@dataclass
class Preparation:
    """What is computed before the first search by picture, and how far it is.

    label : what is being done. done, total : units of it. ready : whether all is. error : why it ended early.
    """

    label: str = ""
    done: int = 0
    total: int = 0
    ready: bool = False
    error: str = ""

    def advance(self, label: str, done: int, total: int) -> None:
        """Take note of progress."""
        self.label, self.done, self.total = label, done, total


class _Stopping(Exception):
    """Ends the preparation."""


class Answers:
    """What a run knows of its gallery and of uploaded pictures.

    gallery : what is searched, by a model that searches.
    describing : a run that writes captions; None for none.
    aligning : a run of an alignment model; None for none.
    pictures : where the pictures of the gallery's cache are.
    """

    def __init__(
        self, gallery: RunGallery, *, describing: Run | None, aligning: Run | None, pictures: Pictures
    ) -> None:
        self.gallery, self.describing, self.aligning, self.pictures = gallery, describing, aligning, pictures
        self.cache: FeatureCache = gallery.gallery.cache
        self.preparation = Preparation()
        self._preparing: threading.Thread | None = None
        self._stopping = threading.Event()
        self.thumbnail = lru_cache(maxsize=THUMBNAILS)(self._thumbnail)

    @property
    def percent(self) -> float | None:
        """The share of the pictures that a sentence is scored with exactly; None to leave it to the search."""
        gallery = self.gallery.gallery
        matches = isinstance(gallery.trained.model, TwoTowers)  # such a model scores all pictures at once
        return None if matches or len(gallery.images) <= EXACT else IMAGE_PERCENT

    def status(self) -> dict[str, Any]:
        """What the server can do, and what it searches."""
        return {
            "model": self.gallery.gallery.trained.name,
            "pictures": len(self.gallery.gallery.images),
            "captions": self.describing is not None,
            "regions": self.aligning is not None,
            "preparation": asdict(self.preparation),
        }

    def prepare(self) -> None:
        """Compute what the first answer of each kind would have to wait for; `preparation` tells how far it is."""
        for run in (self.describing, self.aligning):
            if run is not None and not self._stopping.is_set():
                with suppress(MrnnError):  # a model that cannot read pictures says so to those who ask with one
                    run.reader.rows([BLANK])  # reads the network's weights
        try:
            with progress_told(self._advance):
                self._advance("", 0, 0)
                prepare_search(self.gallery.gallery, percent=self.percent, priors=self.gallery.priors)
            self.preparation.ready = True
        except _Stopping:
            self.preparation.error = "the server stops"
        except MrnnError as error:
            self.preparation.error = str(error)
        except MemoryError:
            self.preparation.error = "not enough memory for the index of the sentences"

    def prepare_in_background(self) -> None:
        """`prepare` in a thread of its own; `stop` ends it."""
        self._preparing = threading.Thread(target=self.prepare, name="preparation", daemon=True)
        self._preparing.start()

    def stop(self) -> None:
        """End the preparation at its next step, and wait for that: a process must not end while torch computes."""
        self._stopping.set()
        if self._preparing is not None:
            self._preparing.join()

    def _advance(self, label: str, done: int, total: int) -> None:
        if self._stopping.is_set():
            raise _Stopping
        self.preparation.advance(label, done, total)

    def pictures_many(self, asked: Sequence[tuple[str, int]]) -> list[dict[str, Any]]:
        """The pictures that each sentence describes best. asked : each a sentence and how many pictures."""
        return [self._pictures(*each) for each in asked]

    def sentences_many(self, asked: Sequence[Question]) -> list[dict[str, Any]]:
        """The sentences of the cache that describe each picture best."""
        return [self._sentences(each) for each in asked]

    def captions_many(self, asked: Sequence[Question]) -> list[dict[str, Any]]:
        """A caption for each picture, with the log-probability and the parts of every word."""
        if self.describing is None:
            raise EvaluationError("this server has no model that writes captions")
        said = self.describing.caption([each.picture for each in asked])
        return [{name: value for name, value in caption.to_json().items() if name != "file"} for caption in said]

    def regions_many(self, asked: Sequence[Question]) -> list[dict[str, Any]]:
        """The region of each picture that each part of its sentence speaks of."""
        return [self._regions(each) for each in asked]

    def file_of(self, image_id: str) -> Path | None:
        """The file of a picture of the cache; None if the cache has no such picture, or its file is not there."""
        if image_id not in self.cache:
            return None
        file = self.pictures.file(self.cache[image_id].path)
        return file if file is not None and file.is_file() else None

    def _thumbnail(self, image_id: str) -> bytes:
        """A small picture of the cache as WebP; b'' if there is none."""
        file = self.file_of(image_id)
        return b"" if file is None else thumbnail(file, size=THUMBNAIL, quality=QUALITY)

    def _pictures(self, sentence: str, top: int) -> dict[str, Any]:
        found = self.gallery.find_pictures(sentence, top=top, percent=self.percent)
        return {**_found(found), "unknown_words": found.unknown_words}

    def _sentences(self, asked: Question) -> dict[str, Any]:
        return _found(self.gallery.find_sentences(asked.picture, top=asked.top))

    def _regions(self, asked: Question) -> dict[str, Any]:
        if self.aligning is None:
            raise EvaluationError("this server has no model that aligns sentences with regions")
        aligned = self.aligning.align(asked.picture, asked.sentence)
        whole = [round(float(x), 2) for x in aligned.rectangles[0][2:]]  # row 0 is the whole picture
        return {"segments": [{**each, "picture": whole} for each in aligned.to_json()["segments"]]}


def _found(search: Search) -> dict[str, Any]:
    """A search as JSON, without the paths of files."""
    results = [
        {"rank": each.rank, "score": each.score, "id": each.image_id, "sentences": each.sentences} for each in search
    ]
    return {"found": results, "method": search.method["text"]}


def check_picture(content: bytes) -> None:
    """Raise ImageError for bytes that are no picture, or one too large to decode; nothing is decoded here."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's own remark on large pictures
            with Image.open(io.BytesIO(content)) as picture:
                width, height = picture.size
    except Image.DecompressionBombError as error:
        raise ImageError(f"the picture is too large: {error}") from error
    except (OSError, ValueError, SyntaxError) as error:
        raise ImageError("this is no picture that can be read (JPEG, PNG, WebP, ...)") from error
    if width * height > MAX_PIXELS:
        raise ImageError(f"the picture has {width} x {height} pixels; at most {MAX_PIXELS:,} are accepted")

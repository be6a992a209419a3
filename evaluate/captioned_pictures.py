"""Captions of pictures that are in no cache, and of their regions."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from torch import Tensor

from mrnn.evaluate.fit import check_captioner, known_prefix
from mrnn.evaluate.generation.confidence import Calibration, Step
from mrnn.evaluate.generation.consensus import Consensus
from mrnn.evaluate.generation.decode import Caption, Decoder
from mrnn.evaluate.generation.stage import DECODE_IMAGES, decoding_settings
from mrnn.evaluate.generation.words import END, CaptionWord, explain
from mrnn.evaluate.image_rows import REGIONS_PER_IMAGE, Picture, PictureReader
from mrnn.evaluate.settings import DecodingConfig, check_beam


@dataclass(frozen=True, repr=False)
class PictureCaption:
    """The best caption of a picture.

    picture : its name, see mrnn.evaluate.image_rows.name_pictures.
    words : with log-probabilities and reasons; the last is END if the caption is complete.
    step : what captions of about this confidence were worth on the dev split, where a calibration was given.
    """

    picture: str
    words: tuple[CaptionWord, ...]
    step: Step | None = None

    @property
    def said(self) -> tuple[str, ...]:
        """The words as text, without END."""
        return tuple(each.word for each in self.words if each.word != END)

    @property
    def text(self) -> str:
        """The words with blanks between, without END."""
        return " ".join(self.said)

    @property
    def log_prob(self) -> float:
        """Natural log P(caption | picture), END counted if the caption is complete."""
        return sum(each.log_prob for each in self.words)

    @property
    def confidence(self) -> float:
        """Log-probability per word, END counted."""
        return self.log_prob / len(self.words)

    @property
    def complete(self) -> bool:
        """Whether the model ended the caption before `max_steps`."""
        return bool(self.words) and self.words[-1].word == END

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return f"PictureCaption({self.picture!r}, {self.text!r}, log_prob={self.log_prob:.2f})"

    def to_json(self) -> dict[str, Any]:
        """What caption-images prints with --json."""
        sure: dict[str, Any] = {}
        if self.step:
            worth = {"dev_CIDEr": self.step.cider, "dev_captions": self.step.captions}
            sure["confidence"] = {"log_prob_per_word": self.confidence, **worth}
        return {
            "file": self.picture,
            "caption": self.text,
            "log_prob": self.log_prob,
            **sure,
            "words": [each.to_json() for each in self.words],
        }


@dataclass(frozen=True)
class CaptionedPictures:
    """What `caption_pictures` returns, for the B pictures that could be read, in their order.

    captions : the best caption of each. beams : all captions that each search ended with, best first, by word numbers.
    unreadable : the other pictures, each with the reason. settings : what the captions depend on, for a page or a file.
    """

    captions: list[PictureCaption]
    beams: list[list[Caption]]
    unreadable: list[tuple[str, str]]
    settings: dict[str, Any]


def caption_pictures(
    reader: PictureReader,
    pictures: Sequence[Picture],
    *,
    decoding: DecodingConfig | None = None,
    prefix: str = "",
    consensus: Consensus | None = None,
    calibration: Calibration | None = None,
    strict: bool = False,
) -> CaptionedPictures:
    """Generate a caption for every picture, on the device of the model.

    reader : of the pictures, with the model
    pictures : as for `PictureReader.rows`
    decoding : settings, None for the defaults
    prefix : words that every caption begins with
    consensus : ranks the captions of each search again; None to leave them as the search did
    calibration : of the confidence in captions that are found with these settings, from `read_calibration`; None to
        leave it out
    strict : whether a picture that cannot be read is an error, and not listed

    Raises EvaluationError for a model that writes no captions or a prefix with an unknown word, and as
    `PictureReader.rows` does; ImageError if it is `strict`.
    """
    trained, decoding = reader.trained, decoding or DecodingConfig()
    check_captioner(trained)
    if consensus:
        check_beam(decoding)
    words = known_prefix(trained, prefix)
    rows = reader.rows(pictures, strict=strict)
    features = rows.features[:, 0]
    beams = Decoder(trained.model)(features, decoding, ids=rows.names, prefix=trained.vocabulary.encode(words))
    if consensus:
        beams = consensus.rank(features, beams)
    settings = {
        "checkpoint": str(trained.file),
        "decoding": decoding_settings(decoding, words, consensus.config if consensus else None),
    }
    captions = _best(reader, rows.names, features, beams)
    if calibration:
        captions = [replace(caption, step=calibration.step(caption.confidence)) for caption in captions]
    return CaptionedPictures(captions, beams, rows.unreadable, settings)


def _best(
    reader: PictureReader, names: Sequence[str], features: Tensor, beams: Sequence[Sequence[Caption]]
) -> list[PictureCaption]:
    """The best caption of each picture or region, explained. names : of the pictures. features : (n, D) of each."""
    words = explain(reader.trained, features, [best for best, *_ in beams])
    return [PictureCaption(*each) for each in zip(names, words, strict=True)]


@dataclass(frozen=True)
class DescribedPicture:
    """The captions of the regions of a picture.

    picture : its name.
    rectangles : (R, 4) float32, left, top, width, height in pixels of the upright picture; row 0 is the whole picture.
    captions : of the regions that there are, by row, best region first.
    """

    picture: str
    rectangles: np.ndarray
    captions: dict[int, PictureCaption]

    def to_json(self) -> dict[str, Any]:
        """What caption-images --regions prints with --json."""
        described = []
        for region, caption in self.captions.items():
            said = {name: value for name, value in caption.to_json().items() if name != "file"}
            described.append({"rectangle": [round(float(x), 2) for x in self.rectangles[region]], **said})
        return {"file": self.picture, "regions": described}


@dataclass(frozen=True)
class DescribedPictures:
    """What `caption_regions` returns: the pictures that could be read, the others with the reason, and the settings."""

    described: list[DescribedPicture]
    unreadable: list[tuple[str, str]]
    settings: dict[str, Any]


def caption_regions(
    reader: PictureReader,
    pictures: Sequence[Picture],
    regions: str,
    *,
    regions_per_image: int = REGIONS_PER_IMAGE,
    decoding: DecodingConfig | None = None,
    prefix: str = "",
) -> DescribedPictures:
    """Generate a caption for regions of every picture.

    reader : of the pictures, with a model that writes captions and was trained on a cache with regions
    pictures : as for `PictureReader.rows`
    regions : where the regions are, as for extract-features: 'grid', 'detector:NAME[:WEIGHTS]' or 'boxes:FILE'; a file
        of boxes knows a picture by the name of its file
    regions_per_image : largest number of regions of a picture, from each source
    decoding, prefix : as for `caption_pictures`

    Raises as `caption_pictures` and `PictureReader.regions` do.
    """
    trained, decoding = reader.trained, decoding or DecodingConfig()
    check_captioner(trained)
    words = known_prefix(trained, prefix)
    found = reader.regions(pictures, regions, count=regions_per_image)
    decoder, start = Decoder(trained.model), trained.vocabulary.encode(words)
    captions: list[dict[int, PictureCaption]] = [{} for _ in found.names]
    for begin in range(0, len(found.chosen), DECODE_IMAGES):
        part = found.chosen[begin : begin + DECODE_IMAGES].tolist()
        ids = [f"{found.ids[number]}#{region}" for number, region in part]
        features = found.features[begin : begin + len(part)]
        beams = decoder(features, decoding, ids=ids, prefix=start)
        best = _best(reader, [found.names[number] for number, _ in part], features, beams)
        for (number, region), caption in zip(part, best, strict=True):
            captions[number][region] = caption
    settings = {
        "checkpoint": str(trained.file),
        "decoding": decoding_settings(decoding, words),
        "regions": found.provenance,
    }
    readable = [number for number in range(len(found.names)) if number not in found.reasons]
    return DescribedPictures(
        [DescribedPicture(found.names[n], found.rectangles[n], captions[n]) for n in readable],
        [(found.names[n], reason) for n, reason in sorted(found.reasons.items())],
        settings,
    )

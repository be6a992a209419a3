"""Image files instead of a feature cache: captions for them and their regions, and sentences aligned with them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from mrnn.evaluate.fit import check_captioner, known_prefix, searchable_words
from mrnn.evaluate.generation.confidence import Calibration, Step
from mrnn.evaluate.generation.consensus import Consensus
from mrnn.evaluate.generation.decode import Caption, Decoder
from mrnn.evaluate.generation.stage import DECODE_IMAGES, decoding_settings
from mrnn.evaluate.grounding.alignments import Aligned, align_sentences, alignment_model
from mrnn.evaluate.grounding.corrector import Corrector
from mrnn.evaluate.grounding.phrases import candidates_of
from mrnn.evaluate.image_rows import REGIONS_PER_IMAGE, rows_of_images, rows_of_regions
from mrnn.evaluate.report.cards import END
from mrnn.evaluate.settings import DecodingConfig, check_beam
from mrnn.train.checkpoint import TrainedModel


@dataclass(frozen=True)
class FileCaption:
    """The best caption of an image file.

    words : without END. log_probs : natural log-probability of each word and, if the caption is complete, of END.
    complete : whether it ended with END before `max_steps`.
    step : what captions of about this confidence were worth on the dev split, where a calibration was given.
    """

    file: Path
    words: tuple[str, ...]
    log_probs: tuple[float, ...]
    complete: bool
    step: Step | None = None

    @property
    def confidence(self) -> float:
        """Log-probability per word, END counted."""
        return sum(self.log_probs) / len(self.log_probs)

    @property
    def text(self) -> str:
        """The words with blanks between."""
        return " ".join(self.words)

    def to_json(self) -> dict[str, Any]:
        """What caption-images prints with --json: log_prob is the natural log P(caption | image)."""
        written = [*self.words, *([END] if self.complete else [])]
        sure: dict[str, Any] = {}
        if self.step:
            worth = {"dev_CIDEr": self.step.cider, "dev_captions": self.step.captions}
            sure["confidence"] = {"log_prob_per_word": self.confidence, **worth}
        return {
            "file": str(self.file),
            "caption": self.text,
            "log_prob": sum(self.log_probs),
            **sure,
            "words": [
                {"word": word, "log_prob": log_prob} for word, log_prob in zip(written, self.log_probs, strict=True)
            ],
        }


@dataclass(frozen=True)
class CaptionedFiles:
    """What `caption_files` returns, for the B files that could be read, in their order.

    captions : the best caption of each. features : (B, D) float32. beams : all captions that each search ended with,
    best first, by word numbers. unreadable : the other files, each with the reason. settings : what the captions depend
    on, for a page or a file.
    """

    captions: list[FileCaption]
    features: Tensor
    beams: list[list[Caption]]
    unreadable: list[tuple[Path, str]]
    settings: dict[str, Any]


def caption_files(
    trained: TrainedModel,
    files: Sequence[str | Path],
    *,
    decoding: DecodingConfig | None = None,
    prefix: str = "",
    consensus: Consensus | None = None,
    calibration: Calibration | None = None,
    weights: str | None = None,
    workers: int = 2,
) -> CaptionedFiles:
    """Generate a caption for every image file, on the device of the model.

    trained : from `load_trained`
    files : JPEG, PNG, WebP and other files that Pillow reads
    decoding : settings, None for the defaults
    prefix : words that every caption begins with
    consensus : ranks the captions of each search again; None to leave them as the search did
    calibration : of the confidence in captions that are found with these settings, from `read_calibration`; None to
        leave it out
    weights, workers : see `rows_of_images`

    Raises EvaluationError for a prefix with an unknown word, or for features of unknown origin.
    """
    decoding = decoding or DecodingConfig()
    check_captioner(trained)
    if consensus:
        check_beam(decoding)
    words = known_prefix(trained, prefix)
    rows = rows_of_images(trained, files, weights=weights, workers=workers)
    features = rows.features[:, 0]
    beams = Decoder(trained.model)(
        features, decoding, ids=[str(path) for path in rows.files], prefix=trained.vocabulary.encode(words)
    )
    if consensus:
        beams = consensus.rank(features, beams)
    captions = [file_caption(trained, path, best) for path, (best, *_) in zip(rows.files, beams, strict=True)]
    if calibration:
        captions = [replace(caption, step=calibration.step(caption.confidence)) for caption in captions]
    settings = {
        "checkpoint": str(trained.file),
        "decoding": decoding_settings(decoding, words, consensus.config if consensus else None),
    }
    return CaptionedFiles(captions, features, beams, rows.unreadable, settings)


def file_caption(trained: TrainedModel, file: Path, caption: Caption) -> FileCaption:
    """A caption of a file, or of one of its regions, with words in place of their numbers."""
    return FileCaption(file, tuple(trained.vocabulary.decode(caption.words)), caption.log_probs, caption.complete)


@dataclass(frozen=True)
class DescribedFile:
    """The captions of the regions of an image file.

    rectangles : (R, 4) float32, left, top, width, height in pixels of the upright picture; row 0 is the whole picture.
    captions : of the regions that there are, by row, best region first.
    """

    file: Path
    rectangles: np.ndarray
    captions: dict[int, FileCaption]

    def to_json(self) -> dict[str, Any]:
        """What caption-images --regions prints with --json."""
        described = []
        for region, caption in self.captions.items():
            said = {name: value for name, value in caption.to_json().items() if name != "file"}
            described.append({"rectangle": [round(float(x), 2) for x in self.rectangles[region]], **said})
        return {"file": str(self.file), "regions": described}


@dataclass(frozen=True)
class DescribedFiles:
    """What `caption_regions` returns: the files that could be read, the others with the reason, and the settings."""

    described: list[DescribedFile]
    unreadable: list[tuple[Path, str]]
    settings: dict[str, Any]


def caption_regions(
    trained: TrainedModel,
    files: Sequence[str | Path],
    regions: str,
    *,
    regions_per_image: int = REGIONS_PER_IMAGE,
    decoding: DecodingConfig | None = None,
    prefix: str = "",
    weights: str | None = None,
    workers: int = 2,
) -> DescribedFiles:
    """Generate a caption for regions of every image file.

    trained : a model that writes captions, trained on a cache with regions
    files : as for `caption_files`
    regions : where the regions are, as for extract-features: 'grid', 'detector:NAME[:WEIGHTS]' or 'boxes:FILE'; a file
        of boxes knows an image by the name of its file
    regions_per_image : largest number of regions of an image, from each source
    decoding, prefix, weights, workers : as for `caption_files`

    Raises as `caption_files` and `rows_of_regions` do.
    """
    decoding = decoding or DecodingConfig()
    check_captioner(trained)
    words = known_prefix(trained, prefix)
    found = rows_of_regions(trained, files, regions, count=regions_per_image, weights=weights, workers=workers)
    decoder, start = Decoder(trained.model), trained.vocabulary.encode(words)
    captions: list[dict[int, FileCaption]] = [{} for _ in found.files]
    for begin in range(0, len(found.chosen), DECODE_IMAGES):
        part = found.chosen[begin : begin + DECODE_IMAGES].tolist()
        names = [f"{found.ids[number]}#{region}" for number, region in part]
        beams = decoder(found.features[begin : begin + len(part)], decoding, ids=names, prefix=start)
        for (number, region), (best, *_) in zip(part, beams, strict=True):
            captions[number][region] = file_caption(trained, found.files[number], best)
    settings = {
        "checkpoint": str(trained.file),
        "decoding": decoding_settings(decoding, words),
        "regions": found.provenance,
    }
    return DescribedFiles(
        [
            DescribedFile(path, found.rectangles[number], captions[number])
            for number, path in enumerate(found.files)
            if number not in found.reasons
        ],
        [(found.files[number], reason) for number, reason in sorted(found.reasons.items())],
        settings,
    )


@dataclass(frozen=True)
class AlignedFiles:
    """What `align_files` returns.

    aligned : each sentence with each of the m files that could be read: all of the first file, then of the second, ...;
        `image` is the file's number, `image_id` its name.
    files : the m files. unreadable : the other files, each with the reason.
    unknown : words that the model does not know, of the sentences that have some.
    """

    aligned: list[Aligned]
    files: list[Path]
    unreadable: list[tuple[Path, str]]
    unknown: dict[str, list[str]]


def align_files(
    trained: TrainedModel,
    files: Sequence[str | Path],
    sentences: Sequence[str],
    *,
    beta: float,
    corrector: Corrector | None = None,
    weights: str | None = None,
    region_weights: str | None = None,
    workers: int = 2,
) -> AlignedFiles:
    """Align every sentence with the regions of every image file.

    trained : an alignment model
    files, sentences : as they are written
    beta, corrector : see `align_sentences`
    weights, region_weights, workers : see `rows_of_images`

    Raises EvaluationError for another kind of model, for a sentence of which the model knows no word, and as
    `rows_of_images` does.
    """
    alignment_model(trained)
    unknown = {sentence: words for sentence in sentences if (words := searchable_words(trained, sentence)[1])}
    rows = rows_of_images(trained, files, weights=weights, region_weights=region_weights, workers=workers)
    count = rows.features.shape[1]
    aligned = [
        each
        for number, file in enumerate(rows.files)
        for each in align_sentences(
            trained,
            rows,
            number,
            sentences,
            image_id=str(file),
            places=candidates_of(rows.places[number * count : (number + 1) * count], 1),
            beta=beta,
            corrector=corrector,
        )
    ]
    return AlignedFiles(aligned, rows.files, rows.unreadable, unknown)

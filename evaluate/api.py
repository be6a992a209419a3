"""Image files instead of a feature cache: their features, captions for them, and sentences aligned with them.

The only module of evaluate/ beside the commands that may import mrnn.extract.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mrnn.data.errors import ImageError
from mrnn.data.pictures import refuse_address
from mrnn.data.regions import Regions
from mrnn.evaluate.fit import check_captioner, known_prefix, searchable_words
from mrnn.evaluate.generation.consensus import Consensus
from mrnn.evaluate.generation.decode import Caption, Decoder
from mrnn.evaluate.grounding.alignments import Aligned, align_sentences, alignment_model
from mrnn.evaluate.grounding.corrector import Corrector
from mrnn.evaluate.grounding.phrases import candidates_of
from mrnn.evaluate.report.cards import END
from mrnn.evaluate.settings import DecodingConfig, check_beam
from mrnn.evaluate.stages import decoding_settings
from mrnn.extract.recorded import as_recorded, rebuild_plan, recorded_rows
from mrnn.extract.runner import rows_of_files
from mrnn.train.checkpoint import TrainedModel


@dataclass(frozen=True)
class FileCaption:
    """The best caption of an image file.

    words : without END. log_probs : natural log-probability of each word and, if the caption is complete, of END.
    complete : whether it ended with END before `max_steps`.
    """

    file: Path
    words: tuple[str, ...]
    log_probs: tuple[float, ...]
    complete: bool

    @property
    def text(self) -> str:
        """The words with blanks between."""
        return " ".join(self.words)

    def to_json(self) -> dict[str, Any]:
        """What caption-images prints with --json: log_prob is the natural log P(caption | image)."""
        written = [*self.words, *([END] if self.complete else [])]
        return {
            "file": str(self.file),
            "caption": self.text,
            "log_prob": sum(self.log_probs),
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
    weights: str | None = None,
    workers: int = 2,
) -> CaptionedFiles:
    """Generate a caption for every image file, on the device of the model.

    trained : from `load_trained`
    files : JPEG, PNG, WebP and other files that Pillow reads
    decoding : settings, None for the defaults
    prefix : words that every caption begins with
    consensus : ranks the captions of each search again; None to leave them as the search did
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
    captions = [
        FileCaption(path, tuple(trained.vocabulary.decode(best.words)), best.log_probs, best.complete)
        for path, (best, *_) in zip(rows.files, beams, strict=True)
    ]
    settings = {
        "checkpoint": str(trained.file),
        "decoding": decoding_settings(decoding, words, consensus.config if consensus else None),
    }
    return CaptionedFiles(captions, features, beams, rows.unreadable, settings)


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


@dataclass(frozen=True)
class ImageRows:
    """The rows of the m image files that could be read, in their order; a mrnn.train.features.RegionRows.

    files : the m files
    features : (m, R, D) float32, computed and rounded as those that the model was trained on
    places : the regions of the m * R rows
    unreadable : the other files, each with the reason
    """

    files: list[Path]
    features: Tensor
    places: Regions
    unreadable: list[tuple[Path, str]]

    def regions(self, images: np.ndarray) -> tuple[Tensor, Tensor]:
        """See `mrnn.train.features.RegionRows`."""
        valid = torch.from_numpy(self.places.valid.reshape(self.features.shape[:2]) > 0)
        return self.features[images], valid[images]


def rows_of_images(
    trained: TrainedModel,
    files: Sequence[str | Path],
    *,
    weights: str | None = None,
    region_weights: str | None = None,
    workers: int = 2,
) -> ImageRows:
    """The rows of image files that a model looks at: the whole picture, for some models its regions too.

    trained : the model, whose device is used
    files : of the images
    weights : of the backbone, a file or 'pretrained'; None for where the weights of the training features came from
    region_weights : of the detector of regions; None likewise
    workers : threads that decode images

    Raises EvaluationError where the training features are of unknown or foreign origin, or their regions were given;
    WeightsError where weights cannot be had or are not the recorded ones.
    """
    paths = [Path(file) for file in files]
    config, recorded = trained.model.config, trained.features
    rows = config.rows(recorded_rows(recorded))
    plan = rebuild_plan(
        recorded,
        rows=rows,
        pictures=len(paths),
        feature_size=config.features,
        device=next(trained.model.parameters()).device,
        where=str(trained.file),
        weights=weights,
        region_weights=region_weights,
    )
    found = rows_of_files(plan.sampler, paths, source=plan.source, workers=workers)
    good = np.array([number for number in range(len(paths)) if number not in found.reasons], dtype=np.int64)
    places = (good[:, None] * plan.sampler.rows + np.arange(rows)).ravel()
    return ImageRows(
        [paths[number] for number in good],
        torch.from_numpy(as_recorded(recorded, found.features[good, :rows])),
        found.regions[places],
        [(paths[number], reason) for number, reason in sorted(found.reasons.items())],
    )


def rows_of_image(
    trained: TrainedModel, file: str | Path, *, weights: str | None = None, region_weights: str | None = None
) -> ImageRows:
    """The rows of one image file, see `rows_of_images`.

    Raises ImageError if the file cannot be read, CorpusError for an address on the web.
    """
    refuse_address(file)
    rows = rows_of_images(trained, [file], weights=weights, region_weights=region_weights, workers=1)
    if rows.unreadable:
        raise ImageError(f"{file}: {rows.unreadable[0][1]}")
    return rows

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
from mrnn.evaluate.generation.stage import DECODE_IMAGES, decoding_settings
from mrnn.evaluate.grounding.alignments import Aligned, align_sentences, alignment_model
from mrnn.evaluate.grounding.corrector import Corrector
from mrnn.evaluate.grounding.phrases import candidates_of
from mrnn.evaluate.report.cards import END
from mrnn.evaluate.settings import DecodingConfig, check_beam
from mrnn.extract.recorded import as_recorded, plan_for_regions, rebuild_plan, recorded_rows
from mrnn.extract.runner import rows_of_files
from mrnn.train.checkpoint import TrainedModel

REGIONS_PER_IMAGE = 19  # as extract-features has it


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
    captions = [file_caption(trained, path, best) for path, (best, *_) in zip(rows.files, beams, strict=True)]
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

    Raises as `caption_files` does, and mrnn.extract.recorded.plan_for_regions.
    """
    decoding = decoding or DecodingConfig()
    check_captioner(trained)
    words = known_prefix(trained, prefix)
    paths = [Path(file) for file in files]
    ids = [path.name for path in paths] if "boxes:" in regions else [str(path) for path in paths]
    plan = plan_for_regions(
        trained.features,
        regions,
        ids,
        count=regions_per_image,
        feature_size=trained.model.config.features,
        device=trained.model.feature_mean.device,
        where=str(trained.file),
        weights=weights,
    )
    found = rows_of_files(plan.sampler, paths, ids=ids, source=plan.source, workers=workers)
    rows = plan.sampler.rows
    valid = found.regions.valid.reshape(len(paths), rows) > 0
    valid[:, 0] = False  # the whole picture is no region
    chosen = np.argwhere(valid)  # (n, 2): file, region
    features = torch.from_numpy(as_recorded(trained.features, found.features[chosen[:, 0], chosen[:, 1]]))
    decoder, start = Decoder(trained.model), trained.vocabulary.encode(words)
    captions: list[dict[int, FileCaption]] = [{} for _ in paths]
    for begin in range(0, len(chosen), DECODE_IMAGES):
        part = chosen[begin : begin + DECODE_IMAGES].tolist()
        names = [f"{ids[number]}#{region}" for number, region in part]
        beams = decoder(features[begin : begin + len(part)], decoding, ids=names, prefix=start)
        for (number, region), (best, *_) in zip(part, beams, strict=True):
            captions[number][region] = file_caption(trained, paths[number], best)
    rectangles = found.regions.rectangles.reshape(len(paths), rows, 4)
    settings = {
        "checkpoint": str(trained.file),
        "decoding": decoding_settings(decoding, words),
        "regions": dict(plan.provenance),
    }
    return DescribedFiles(
        [
            DescribedFile(path, rectangles[number], captions[number])
            for number, path in enumerate(paths)
            if number not in found.reasons
        ],
        [(paths[number], reason) for number, reason in sorted(found.reasons.items())],
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

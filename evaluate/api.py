"""Image files instead of a feature cache: their features, and captions for them.

The only module of evaluate/ beside the commands that may import mrnn.extract.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mrnn.data.errors import ImageError
from mrnn.data.pictures import refuse_address
from mrnn.evaluate.fit import check_captioner, known_prefix
from mrnn.evaluate.generation.decode import Caption, Decoder
from mrnn.evaluate.report.cards import END
from mrnn.evaluate.settings import DecodingConfig
from mrnn.evaluate.stages import decoding_settings
from mrnn.extract.recorded import as_recorded, rebuild_backbone
from mrnn.extract.runner import features_of_files
from mrnn.train.checkpoint import TrainedModel

LARGEST_BATCH = 64  # images in the backbone at a time


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
    weights: str | None = None,
    workers: int = 2,
) -> CaptionedFiles:
    """Generate a caption for every image file, on the device of the model.

    trained : from `load_trained`
    files : JPEG, PNG, WebP and other files that Pillow reads
    decoding : settings, None for the defaults
    prefix : words that every caption begins with
    weights, workers : see `features_of_images`

    Raises EvaluationError for a prefix with an unknown word, or for features of unknown origin.
    """
    decoding = decoding or DecodingConfig()
    check_captioner(trained)
    words = known_prefix(trained, prefix)
    paths = [Path(file) for file in files]
    features, reasons = features_of_images(trained, paths, weights=weights, workers=workers)
    good = [path for number, path in enumerate(paths) if number not in reasons]
    beams = Decoder(trained.model)(
        features, decoding, ids=[str(path) for path in good], prefix=trained.vocabulary.encode(words)
    )
    captions = [
        FileCaption(path, tuple(trained.vocabulary.decode(best.words)), best.log_probs, best.complete)
        for path, (best, *_) in zip(good, beams, strict=True)
    ]
    unreadable = [(paths[number], reason) for number, reason in sorted(reasons.items())]
    settings = {"checkpoint": str(trained.file), "decoding": decoding_settings(decoding, words)}
    return CaptionedFiles(captions, features, beams, unreadable, settings)


def features_of_images(
    trained: TrainedModel, files: Sequence[str | Path], *, weights: str | None = None, workers: int = 2
) -> tuple[Tensor, dict[int, str]]:
    """Features of image files, computed and rounded as those that the model was trained on.

    trained : the model, whose device is used
    files : n of them
    weights : of the backbone, a file or 'pretrained'; None for where the weights of the training features came from
    workers : threads that decode images

    Returns (m, D) float32 for the files that could be read, in their order, and {index: reason} of the others. Raises
    EvaluationError where the training features are of unknown or foreign origin, WeightsError where the weights cannot
    be had or are not the recorded ones.
    """
    backbone = rebuild_backbone(
        trained.features, weights, feature_size=trained.model.config.features, where=str(trained.file)
    )
    rows, reasons = features_of_files(
        backbone,
        [Path(file) for file in files],
        batch_size=max(1, min(len(files), LARGEST_BATCH)),
        device=str(trained.model.output.weight.device),
        workers=workers,
    )
    good = [number for number in range(len(files)) if number not in reasons]
    return torch.from_numpy(as_recorded(trained.features, rows[good])), reasons


def feature_of_image(trained: TrainedModel, file: str | Path, *, weights: str | None = None) -> Tensor:
    """The feature of one image file, see `features_of_images`: (D,) float32.

    Raises ImageError if the file cannot be read, CorpusError for an address on the web.
    """
    refuse_address(file)
    rows, reasons = features_of_images(trained, [file], weights=weights, workers=1)
    if reasons:
        raise ImageError(f"{file}: {reasons[0]}")
    return rows[0]

"""Captions as the lists that programs read: captions.json, nbest.json and those of regions."""

from collections.abc import Mapping, Sequence
from typing import Any

from mrnn.data.captions import Image
from mrnn.evaluate.generation.decode import Caption
from mrnn.evaluate.stages import Evaluation


def caption_list(evaluation: Evaluation, captions: Sequence[Caption]) -> list[dict[str, Any]]:
    """The content of captions.json: [{"image_id", "caption"}], the data set's own ids, integers for COCO.

    Captions that were ranked by consensus also have "consensus", their score.
    """
    return [
        {"image_id": image_id, "caption": " ".join(words), **_consensus(caption)}
        for image_id, words, caption in zip(_ids(evaluation), words_of(evaluation, captions), captions, strict=True)
    ]


def best_list(evaluation: Evaluation, beams: Sequence[Sequence[Caption]], count: int) -> list[dict[str, Any]]:
    """The content of nbest.json: the best `count` captions of each image with log P(words, END), best first.

    Those that were ranked by consensus also have "consensus", their score.
    """
    return [
        {
            "image_id": image_id,
            "captions": [
                {
                    "caption": " ".join(words),
                    "log_prob": caption.log_prob,
                    "complete": caption.complete,
                    **_consensus(caption),
                }
                for words, caption in zip(words_of(evaluation, beam[:count]), beam, strict=False)
            ],
        }
        for image_id, beam in zip(_ids(evaluation), beams, strict=True)
    ]


def region_lists(regions: Mapping[str, Any]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The content of region_captions.json and of region_references.json, which evaluate-captions reads.

    regions : what the stage returned
    """
    captions: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for found in regions["captions"]:
        name = f"{found['image_id']}#{found['region']}"
        captions.append({"image_id": name, **{key: found[key] for key in ("caption", "rectangle", "score")}})
        annotations += ({"image_id": name, "caption": phrase} for phrase in found["references"])
    return captions, {"annotations": annotations}


def _ids(evaluation: Evaluation) -> list[int | str]:
    """The data set's own ids, integers for COCO."""
    return [int(image.id) if evaluation.cache.integer_ids else image.id for image in images_of(evaluation)]


def _consensus(caption: Caption) -> dict[str, float]:
    return {} if caption.consensus is None else {"consensus": caption.consensus}


def images_of(evaluation: Evaluation) -> list[Image]:
    """The images that are measured, in order."""
    return [evaluation.cache.images[i] for i in evaluation.images]


def words_of(evaluation: Evaluation, captions: Sequence[Caption]) -> list[list[str]]:
    """The words of captions."""
    return [evaluation.trained.vocabulary.decode(caption.words) for caption in captions]

"""What an evaluation found image by image: the file per_image.jsonl, and the headline numbers as sums over its lines.

Each line is the JSON object of one image, in the order of the split:

    image_id     as in captions.json
    path         of the picture, relative to the folder that metrics.json calls "pictures"
    references   the data set's sentences
    caption, log_prob, complete    the model's caption, natural log P(words, END), whether it ended with END
    words        of that caption and its END, as caption-images prints them: [{word, log_prob, parts: {base, words,
                 image}}], nats; parts (mrnn.evaluate.generation.why) of a late-fusion model only
    perplexity   {bits, known_bits, targets, unknown}: sums over the image's sentences; -log2 P, END counted
    scores       the caption scores of this caption alone, by the keys of metrics.json
    bleu         {hits: [4], ngrams: [4], words, reference_words}, from which BLEU of any set of images is computed
    ranks        {image_to_sentence, image_to_sentence_raw: int, sentence_to_image: [int, ...]}, ties against us
    grounding    {phrases, and how many of them each choice of a region got right: plain: {iou, pointing}, ...}
    regions      {regions, and sums over their captions: scores as above, bleu as above}

What was not measured is not there.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from mrnn.data.captions import Image
from mrnn.data.errors import EvaluationError
from mrnn.data.files import write_json_lines
from mrnn.evaluate.generation.decode import Caption
from mrnn.evaluate.generation.words import CaptionWord
from mrnn.evaluate.metrics import names
from mrnn.evaluate.metrics.bootstrap import Statistic, interval, resample
from mrnn.evaluate.metrics.captions import CaptionScores
from mrnn.evaluate.metrics.over_images import Record
from mrnn.evaluate.retrieval.result import RetrievalResult

FILE = "per_image.jsonl"


def build_records(
    images: Sequence[Image],
    *,
    perplexity: Mapping[str, Any] | None = None,
    captions: Sequence[tuple[str, Caption]] | None = None,
    words: Sequence[Sequence[CaptionWord]] | None = None,
    scores: CaptionScores | None = None,
    retrieval: RetrievalResult | None = None,
    grounding: Mapping[str, Any] | None = None,
    regions: Mapping[str, Any] | None = None,
    integer_ids: bool = False,
) -> list[Record]:
    """A record for every image.

    perplexity, retrieval, grounding, regions : what their stages return
    captions : the text and the caption of each image
    words : those of each caption
    scores : of the captions of those images that have references
    integer_ids : whether ids are written as integers, as COCO's are
    """
    ranks = {} if retrieval is None else _ranks(retrieval)
    rows = {} if scores is None else {image: row for row, image in enumerate(scores.per_image)}
    records = []
    for number, image in enumerate(images):
        record: Record = {
            "image_id": int(image.id) if integer_ids else image.id,
            "path": image.path,
            "references": list(image.sentences),
        }
        if captions is not None:
            text, caption = captions[number]
            record |= {"caption": text, "log_prob": caption.log_prob, "complete": caption.complete}
        if words is not None:
            record["words"] = [word.to_json() for word in words[number]]
        if perplexity is not None and image.id in perplexity["per_image"]:
            record["perplexity"] = perplexity["per_image"][image.id]
        if scores is not None and image.id in rows:
            record["scores"] = scores.per_image[image.id]
            record["bleu"] = {name: value[rows[image.id]].tolist() for name, value in asdict(scores.counts).items()}
        if image.id in ranks:
            record["ranks"] = ranks[image.id]
        if grounding is not None and image.id in grounding["per_image"]:
            record["grounding"] = grounding["per_image"][image.id]
        if regions is not None and image.id in regions["per_image"]:
            record["regions"] = regions["per_image"][image.id]
        records.append(record)
    return records


def _ranks(retrieval: RetrievalResult) -> dict[str, dict[str, Any]]:
    """Ranks of the queries of each image in the pool, by image id."""
    found: dict[str, dict[str, Any]] = {
        answer.image_id: {name: worst for name, (worst, _) in answer.ranks.items()} for answer in retrieval.images
    }
    for answer in retrieval.sentences:
        for name, (worst, _) in answer.ranks.items():
            found[answer.image_id].setdefault(name, []).append(worst)
    return found


def bits_per_word(record: Record) -> float:
    """Mean of -log2 P over the words and ENDs of the image's sentences."""
    return float(record["perplexity"]["bits"] / record["perplexity"]["targets"])


def sure_and_scored(records: Sequence[Record]) -> tuple[np.ndarray, np.ndarray]:
    """Confidence (log-probability per word, END counted) and CIDEr of the captions that were scored: both (n,)."""
    scored = [record for record in records if "scores" in record]
    words = [len(record["caption"].split()) + record["complete"] for record in scored]
    sure = [record["log_prob"] / count for record, count in zip(scored, words, strict=True)]
    return np.array(sure), np.array([record["scores"][names.MAIN_SCORE] for record in scored])


def write_records(path: Path, records: Sequence[Record]) -> None:
    """Write the file whole or not at all."""
    write_json_lines(path, records)


def read_records(path: str | Path) -> list[Record]:
    """Read it again. Raises EvaluationError for a file that is missing or not of this form."""
    path = Path(path)
    try:
        records = [json.loads(line) for line in path.read_text().split("\n") if line]
        if not all(isinstance(record, dict) and "image_id" in record for record in records):
            raise ValueError("a line without image_id")
    except FileNotFoundError:
        raise EvaluationError(
            f"there is no {path}; run evaluate-mrnn into {path.parent} again, it writes one"
        ) from None
    except ValueError as error:
        raise EvaluationError(f"{path} is damaged ({error}); run evaluate-mrnn into {path.parent} again") from error
    return records


def headline_statistics(records: Sequence[Record], group: str) -> dict[str, Statistic]:
    """The headline numbers of one of names.GROUPS as functions of weights on the records, all of which must have it."""
    found = {
        row.key: row.statistic(records) for row in names.headline_metrics() if row.group == group and row.statistic
    }
    return {key: statistic for key, statistic in found.items() if statistic is not None}


def intervals(records: Sequence[Record], *, generator: np.random.Generator) -> dict[str, tuple[float, float]]:
    """Bootstrap interval of every headline number, each over the images that it was measured on."""
    found: dict[str, tuple[float, float]] = {}
    for group in names.GROUPS:
        measured = [record for record in records if group in record]
        if measured:
            values = resample(headline_statistics(measured, group), len(measured), generator=generator)
            found |= {name: interval(each) for name, each in values.items()}
    return found

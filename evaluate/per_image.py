"""What an evaluation found image by image: the file per_image.jsonl, and the headline numbers as sums over its lines.

One JSON object a line and image, in the order of the split:

    image_id     as in captions.json
    path         of its picture, below the folder that metrics.json calls "pictures"
    references   the data set's sentences
    caption, log_prob, complete    ours, natural log P(words, END), whether it ended by itself
    perplexity   {bits, known_bits, targets, unknown}: sums over the image's sentences; -log2 P, END counted
    scores       {Bleu_1, ..., ROUGE_L, CIDEr} of this caption alone
    bleu         {hits: [4], ngrams: [4], words, reference_words}, from which BLEU of any set of images is computed
    ranks        {image_to_sentence, image_to_sentence_raw: int, sentence_to_image: [int, ...]}, ties against us

What was not measured is not there.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from mrnn.data.captions import Image
from mrnn.data.errors import EvaluationError
from mrnn.data.files import write_whole
from mrnn.data.tokenize import tokenize
from mrnn.evaluate.generation.decode import Caption
from mrnn.evaluate.metrics.bleu import LONGEST, BleuCounts
from mrnn.evaluate.metrics.bootstrap import Statistic, interval, median, ratio, resample
from mrnn.evaluate.metrics.captions import CaptionScores

Record = dict[str, Any]
FILE = "per_image.jsonl"


def build_records(
    images: Sequence[Image],
    *,
    perplexity: Mapping[str, Any] | None = None,
    captions: Sequence[tuple[str, Caption]] | None = None,
    scores: CaptionScores | None = None,
    retrieval: Mapping[str, Any] | None = None,
    integer_ids: bool = False,
) -> list[Record]:
    """A record for every image.

    perplexity, retrieval : what their stages return. captions : the text and the caption of each.
    """
    ranks = {} if retrieval is None else _ranks(images, retrieval)
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
        if perplexity is not None and image.id in perplexity["per_image"]:
            record["perplexity"] = perplexity["per_image"][image.id]
        if scores is not None and image.id in rows:
            record["scores"] = scores.per_image[image.id]
            record["bleu"] = {name: value[rows[image.id]].tolist() for name, value in asdict(scores.counts).items()}
        if image.id in ranks:
            record["ranks"] = ranks[image.id]
        records.append(record)
    return records


def _ranks(images: Sequence[Image], retrieval: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Ranks of the queries of each image in the pool; none where an older version left them out."""
    if "ranks" not in retrieval:
        return {}
    by_image = {name: ranks for name, ranks in retrieval["ranks"].items() if name != "sentence_to_image"}
    sentence_ranks = iter(retrieval["ranks"]["sentence_to_image"])
    pool = [image for image in images if image.id in retrieval["answers"]]
    return {
        image.id: {
            **{name: ranks[row] for name, ranks in by_image.items()},
            "sentence_to_image": [next(sentence_ranks) for sentence in image.sentences if tokenize(sentence)],
        }
        for row, image in enumerate(pool)
    }


def write_records(path: Path, records: Sequence[Record]) -> None:
    """Write the file whole or not at all."""
    write_whole(path, "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records).encode())


def read_records(path: Path) -> list[Record]:
    """Read it again. Raises EvaluationError for a file that is missing or not of this form."""
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


def _perplexities(records: Sequence[Record]) -> dict[str, Statistic]:
    bits, known, targets, unknown = (
        np.array([record["perplexity"][name] for record in records])
        for name in ("bits", "known_bits", "targets", "unknown")
    )
    all_words, known_words = ratio(bits, targets), ratio(known, targets - unknown)
    return {
        "perplexity": lambda weights: 2 ** all_words(weights),
        "perplexity_known": lambda weights: 2 ** known_words(weights),
    }


def _caption_scores(records: Sequence[Record]) -> dict[str, Statistic]:
    counts = BleuCounts(
        *(
            np.array([record["bleu"][name] for record in records])
            for name in ("hits", "ngrams", "words", "reference_words")
        )
    )

    def bleu(n: int) -> Statistic:
        return lambda weights: counts.total(weights).cumulative()[:, n - 1]

    each = np.ones(len(records))
    means = {
        name: ratio(np.array([record["scores"][name] for record in records]), each) for name in ("ROUGE_L", "CIDEr")
    }
    return {f"Bleu_{n}": bleu(n) for n in range(1, LONGEST + 1)} | means


def _retrieval(records: Sequence[Record]) -> dict[str, Statistic]:
    found: dict[str, Statistic] = {}
    for direction in ("image_to_sentence", "sentence_to_image"):
        each = [np.atleast_1d(record["ranks"][direction]) for record in records]
        ranks, queries = np.concatenate(each), np.array([len(of_image) for of_image in each])
        for k in (1, 5, 10):
            hits = np.array([(of_image <= k).sum() for of_image in each])
            found[f"{direction} R@{k}"] = ratio(100.0 * hits, queries)
        found[f"{direction} median_rank"] = median(ranks, np.repeat(np.arange(len(records)), queries))
    return found


GROUPS: dict[str, Callable[[Sequence[Record]], dict[str, Statistic]]] = {
    "perplexity": _perplexities,
    "scores": _caption_scores,
    "ranks": _retrieval,
}


def headline_statistics(records: Sequence[Record], group: str) -> dict[str, Statistic]:
    """The headline numbers of one of GROUPS as functions of weights on the records, all of which must have it."""
    return GROUPS[group](records)


def intervals(records: Sequence[Record], *, generator: np.random.Generator) -> dict[str, tuple[float, float]]:
    """Bootstrap interval of every headline number, each over the images that it was measured on."""
    found: dict[str, tuple[float, float]] = {}
    for group in GROUPS:
        measured = [record for record in records if group in record]
        if measured:
            values = resample(headline_statistics(measured, group), len(measured), generator=generator)
            found |= {name: interval(each) for name, each in values.items()}
    return found

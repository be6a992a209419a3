"""Scores of captions files that any program may have written, in the COCO result format, without a model."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from mrnn.data.annotation_files import json_field, json_id, parse_json, read_lines, read_text, shortened
from mrnn.data.cider import DocumentFrequencies
from mrnn.data.errors import EvaluationError, ScorerUnavailable
from mrnn.data.progress import silent
from mrnn.evaluate.metrics.captions import CaptionScores, cider_warning, definitions, score_captions
from mrnn.evaluate.metrics.java_scorers import java_scores
from mrnn.evaluate.metrics.scorers import document_frequencies
from mrnn.evaluate.metrics.tokenizers import (
    TOKEN_DEFINITIONS,
    TOKENIZERS,
    Candidates,
    References,
    script_warnings,
    tokenize_all,
)
from mrnn.evaluate.studies import reference_files

Report = Callable[[str], None]


@dataclass(frozen=True)
class ScoredFile:
    """What `score_file` returns.

    scores : METEOR and SPICE among them where they could be had. skipped : scorer -> why it gave no score. counts :
    images, images_in_references, references. source : where the references are from. tokenizer : as asked for.
    frequencies : where CIDEr's document frequencies are from, and of how many images.
    """

    file: Path
    scores: CaptionScores
    skipped: dict[str, str]
    counts: dict[str, int]
    source: str
    tokenizer: str
    frequencies: dict[str, str | int]

    def to_json(self, *, per_image: bool = False) -> dict[str, Any]:
        """The content of evaluate-captions' --output. per_image : with the scores of every image."""
        return {
            **self.scores.corpus,
            "ngram_precision": list(self.scores.ngram_precision),
            "ngram_precision_with_penalty": list(self.scores.ngram_precision_with_penalty),
            "brevity_penalty": self.scores.brevity_penalty,
            "skipped": self.skipped,
            "counts": self.counts,
            "results": str(self.file),
            "references": self.source,
            "tokenizer": self.tokenizer,
            "document_frequencies": self.frequencies,
            "definitions": {**definitions(), "tokens": TOKEN_DEFINITIONS[self.tokenizer]},
            "mrnn": version("mrnn"),
            **({"per_image": self.scores.per_image} if per_image else {}),
        }


def score_file(
    results: str | Path,
    *,
    references: str | Path | None = None,
    dataset: str | None = None,
    root: str | Path | None = None,
    split: str = "test",
    df: str | Path | None = None,
    allow_subset: bool = False,
    tokenizer: str = "ptb",
    java: Collection[str] = (),
    java_seconds: float = 600.0,
    report: Report = silent,
) -> ScoredFile:
    """Score a captions file against reference sentences, those of a file or of a data set.

    results : [{"image_id", "caption"}], see `read_results`
    references : file of sentences, see mrnn.evaluate.studies.reference_files; or else
    dataset : name of a data set, one of READERS
    root : folder of the data set, None for its default folder
    split : images of the data set, one of SPLITS or 'all'
    df : another such file, whose document frequencies CIDEr uses instead of those of the references
    allow_subset : whether images may be without a caption; they are left out then
    tokenizer : 'ptb' or 'plain', see mrnn.evaluate.metrics.tokenizers
    java : scorers that run in Java, 'METEOR' or 'SPICE'; one that fails is left out, with the reason in `skipped`
    java_seconds : time limit of each
    report : called with a line for each warning, and before each of these starts

    Raises ValueError unless either references or dataset is given; CorpusError or EvaluationError where a file is
    not of the known form, or captions and references are not of the same images.
    """
    given = reference_files.references(references, dataset=dataset, root=root, split=split, report=report)
    background = None if df is None else reference_files.read_references(df, report=report)
    results = Path(results)
    captions = read_results(results)
    known, source = given.by_image(), given.source
    check_images(captions, known, source=source, allow_subset=allow_subset)
    texts = [*captions.values(), *(sentence for each in known.values() for sentence in each)]
    for warning in script_warnings(texts, tokenizer=tokenizer):
        report(warning)
    candidates, sentences = tokenize_all(captions, known, tokenizer=tokenizer)
    wordless = [image for image, each in sentences.items() if not any(each)]
    if wordless:
        raise EvaluationError(f"{source}: image {wordless[0]} has no reference sentence with a word in it")
    frequencies = None if background is None else count_frequencies(background, tokenizer=tokenizer)
    scores = score_captions(candidates, sentences, frequencies=frequencies)
    if (doubt := cider_warning(scores, frequencies)) is not None:
        report(doubt)
    skipped = add_java_scores(scores, candidates, sentences, scorers=java, seconds=java_seconds, report=report)
    counts = {
        "images": len(captions),
        "images_in_references": len(known),
        "references": sum(map(len, sentences.values())),
    }
    counted: dict[str, str | int] = {
        "source": (background or given).source,
        "images": frequencies.images if frequencies else len(captions),
    }
    return ScoredFile(results, scores, skipped, counts, source, tokenizer, counted)


def count_frequencies(captions: reference_files.References, *, tokenizer: str) -> DocumentFrequencies:
    """The document frequencies of all images of a file. tokenizer : one of TOKENIZERS."""
    words = TOKENIZERS[tokenizer]([sentence for _, sentence in captions.pairs])
    by_image: dict[str, list[list[str]]] = {}
    for (image, _), each in zip(captions.pairs, words, strict=True):
        by_image.setdefault(image, []).append(each)
    return document_frequencies(by_image)


def add_java_scores(
    scores: CaptionScores,
    candidates: Candidates,
    references: References,
    *,
    scorers: Collection[str],
    seconds: float,
    report: Report = silent,
) -> dict[str, str]:
    """Add scores of Java scorers to `scores`; returns those that gave none, with the reason.

    candidates, references : words by image id
    scorers : names of the scorers
    seconds : time limit of each
    report : called with a line before each starts
    """
    skipped = {}
    for scorer in scorers:
        report(f"{scorer} runs in Java; this can take a minute")
        try:
            found = java_scores(scorer, candidates, references=references, seconds=seconds)
        except ScorerUnavailable as error:
            skipped[scorer] = str(error)
            continue
        scores.corpus[scorer] = found.corpus
        for image, score in found.per_image.items():
            scores.per_image[image][scorer] = score
    return skipped


def read_results(path: str | Path) -> dict[str, str]:
    """The captions of a results file by image id; an integer id becomes its digits.

    The file is a list, [{"image_id", "caption"}], or has one such object per line (JSON lines).

    Raises CorpusError if the file is not of this form, EvaluationError if it is empty or lists an image twice.
    """
    path = Path(path)
    captions: dict[str, str] = {}
    for where, record in _records(path):
        image = json_id(record, "image_id", where=where)
        caption = json_field(record, "caption", str, where=where)
        if image in captions:
            raise EvaluationError(f"{where}: image {image} has a caption already; give one per image")
        captions[image] = caption
    if not captions:
        raise EvaluationError(f"{path} holds no captions; there is nothing to score")
    return captions


def _records(path: Path) -> list[tuple[str, Any]]:
    """The records of a results file, each with its place for messages."""
    text = read_text(path)
    lines = text.strip().split("\n")
    if len(lines) > 1 and all(line.strip().startswith("{") for line in lines if line.strip()):
        places = ((f"{path}, line {number}", line) for number, line in read_lines(path))
        return [(where, parse_json(line, where=where)) for where, line in places]
    document = parse_json(text, where=str(path))
    if isinstance(document, dict) and "image_id" in document:
        document = [document]
    if not isinstance(document, list):
        raise EvaluationError(
            f'{path}: expected a list [{{"image_id": ..., "caption": "..."}}, ...], found {shortened(document)}'
        )
    return [(f"{path}, entry {number}", record) for number, record in enumerate(document)]


def check_images(captions: Collection[str], known: Collection[str], *, source: str, allow_subset: bool) -> None:
    """Raise EvaluationError unless captions and references are of the same images.

    captions : ids of the captioned images
    known : ids of the images with references
    source : where the references come from, for the message
    allow_subset : whether images with references may be without a caption
    """
    strangers = [image for image in captions if image not in known]
    if strangers:
        raise EvaluationError(
            f"{len(strangers)} of {len(captions)} captions are of images that {source} does not have: "
            f"{_some(strangers)}; its ids look like {_some(list(known)[:1])}; is it the right data set and split?"
        )
    missing = [image for image in known if image not in captions]
    if missing and not allow_subset:
        raise EvaluationError(
            f"{len(missing)} of {len(known)} images of {source} have no caption: {_some(missing)}; "
            "--allow-subset scores the others"
        )


def _some(images: list[str]) -> str:
    return ", ".join(images[:3]) + (", ..." if len(images) > 3 else "")

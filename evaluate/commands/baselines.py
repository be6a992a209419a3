"""evaluate-baselines: what captions without a model, n-gram language models and chance reach on a split."""

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
import numpy as np

from mrnn.data.cache import FeatureCache, open_cache
from mrnn.data.captions import SPLITS
from mrnn.data.command import debug_option, one_line_errors
from mrnn.data.errors import EvaluationError
from mrnn.data.files import write_json
from mrnn.data.vocabulary import Vocabulary, build_vocabulary
from mrnn.evaluate.metrics.captions import DEFINITIONS, score_captions
from mrnn.evaluate.studies.baselines import (
    Words,
    chance_retrieval,
    consensus_captions,
    most_frequent_caption,
    nearest,
    random_captions,
)
from mrnn.evaluate.studies.ngram import NGramModel, likeliest_sentence, ngram_perplexity
from mrnn.train.features import Features
from mrnn.train.sentences import tokenized_sentences
from mrnn.train.settings import TrainSettings

ORDERS = (2, 3)
BEAM = 5
BASELINES = {
    "random": "a training caption drawn at random for each image",
    "most_frequent": "the caption that stands most often in the training set, for every image",
    "nearest": "of the training image nearest in feature space (cosine, the training mean taken off) the caption that "
    "agrees best with its others (CIDEr-D)",
    **{
        f"{order}-gram": f"interpolated modified Kneser-Ney {order}-gram model of the training captions; its likeliest "
        f"caption (beam {BEAM}) for every image"
        for order in ORDERS
    },
    "chance": "the expected retrieval of a ranking at random",
}
Captioned = dict[int, list[list[str]]]
METRICS = ("Bleu_1", "Bleu_2", "Bleu_3", "Bleu_4", "ROUGE_L", "CIDEr")
RETRIEVAL = ("R@1", "R@5", "R@10", "median_rank")

EPILOG = """\b
Example:
  evaluate-baselines --features feats.h5

The words are those of train-mrnn with the same --cutoff, so the perplexities are of the same tokens as in
evaluate-mrnn; --beside puts evaluated models into the same table. The remaining baseline, the network that sees no
image, is such a model: train-mrnn --model rnn-base. Written are baselines.json and the captions of each baseline,
captions-NAME.json."""


@click.command(epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--features", required=True, type=click.Path(path_type=Path), help="The feature cache.")
@click.option("--split", type=click.Choice(SPLITS), default="test", show_default=True, help="Images to measure on.")
@click.option("--output", type=click.Path(path_type=Path), help="[default: runs/<cache>-baselines/evaluation-<split>]")
@click.option(
    "--cutoff",
    type=click.IntRange(min=1),
    default=TrainSettings().cutoff,
    show_default=True,
    help="Words seen less often in training are <unk>.",
)
@click.option("--seed", default=0, show_default=True, help="Of the random captions.")
@click.option(
    "--beside", multiple=True, type=click.Path(path_type=Path), help="Folder that evaluate-mrnn wrote; any number."
)
@click.option("--allow-partial", is_flag=True, help="Accept a cache with images still pending.")
@debug_option
@one_line_errors
def main(
    features: Path,
    split: str,
    output: Path | None,
    cutoff: int,
    seed: int,
    beside: tuple[Path, ...],
    allow_partial: bool,
) -> None:
    """Measure baselines on a split: what a trained model has to beat."""
    cache = open_cache(features, allow_partial=allow_partial)
    output = output or Path("runs") / f"{features.stem}-baselines" / f"evaluation-{split}"
    training, measured = captioned(cache, "train"), captioned(cache, split)
    models = [read_metrics(folder, cache.dataset, split) for folder in beside]
    vocabulary = build_vocabulary((words for own in training.values() for words in own), cutoff=cutoff)
    ids = [cache.images[i].id for i in measured]
    references = dict(zip(ids, measured.values(), strict=True))
    results: dict[str, dict[str, Any]] = {}
    captions: dict[str, list[Words]] = {}
    for name, (facts, each) in caption_baselines(cache, training, list(measured), seed=seed).items():
        results[name], captions[name] = facts, each
    for order in ORDERS:
        facts, words = language_model(training, measured, vocabulary, order=order)
        results[f"{order}-gram"], captions[f"{order}-gram"] = facts, [words] * len(measured)
    output.mkdir(parents=True, exist_ok=True)
    for name, each in captions.items():
        said = dict(zip(ids, each, strict=True))
        results[name] |= score_captions(said, references).corpus
        listed = [
            {"image_id": int(image) if cache.integer_ids else image, "caption": " ".join(words)}
            for image, words in said.items()
        ]
        write_json(output / f"captions-{name}.json", listed)
    expected = chance_retrieval([len(sentences) for sentences in measured.values()])
    results["chance"] = {"retrieval": {**expected, "images": len(measured)}}
    content = {
        "baselines": results,
        "split": split,
        "counts": {
            "images": len(measured),
            "sentences": sum(map(len, measured.values())),
            "training_images": len(training),
            "training_sentences": sum(map(len, training.values())),
        },
        "vocabulary_size": len(vocabulary),
        "cutoff": cutoff,
        "seed": seed,
        "definitions": {**BASELINES, **DEFINITIONS},
        "features": cache.provenance,
        "dataset": cache.dataset,
        "mrnn": version("mrnn"),
    }
    write_json(output / "baselines.json", content)
    click.echo(table(content, models))
    click.echo(f"written: {output / 'baselines.json'}")


def captioned(cache: FeatureCache, split: str) -> Captioned:
    """The sentences, as words, of the images of a split that have features and a sentence with a word in it.

    Raises EvaluationError if there is none.
    """
    found: Captioned = {}
    for words, image in zip(*tokenized_sentences(cache, cache.done(split)), strict=True):
        if words:
            found.setdefault(int(image), []).append(words)
    if not found:
        raise EvaluationError(f"{cache.path} has no image with features and a caption in the split {split!r}")
    return found


def caption_baselines(
    cache: FeatureCache, training: Captioned, images: list[int], *, seed: int
) -> dict[str, tuple[dict[str, Any], list[Words]]]:
    """Captions of training images for other ones, by name of the baseline, with facts about them."""
    pool = [words for own in training.values() for words in own]
    frequent, times = most_frequent_caption(pool)
    features = Features(cache)
    rows = list(training)
    neighbours = nearest(*(features[np.array(numbers)].numpy() for numbers in (images, rows)))
    return {
        "random": ({}, random_captions(pool, len(images), generator=np.random.default_rng(seed))),
        "most_frequent": ({"times_in_training": times}, [frequent] * len(images)),
        "nearest": ({}, consensus_captions([training[rows[place]] for place in neighbours])),
    }


def language_model(
    training: Captioned, measured: Captioned, vocabulary: Vocabulary, *, order: int
) -> tuple[dict[str, Any], Words]:
    """Perplexity of the measured sentences, named as in metrics.json, and the model's one caption."""
    learned, held_out = (
        [vocabulary.encode(words) for own in captions.values() for words in own] for captions in (training, measured)
    )
    model = NGramModel(learned, vocabulary=len(vocabulary), order=order)
    found = ngram_perplexity(model, held_out)
    facts = {
        "perplexity": found.perplexity,
        "perplexity_known": found.perplexity_known,
        "words_and_ends": found.tokens,
        "unknown_words": found.unknown,
    }
    return facts, vocabulary.decode(likeliest_sentence(model, beam=BEAM))


def read_metrics(folder: Path, dataset: str, split: str) -> dict[str, Any]:
    """What evaluate-mrnn wrote to a folder. Raises EvaluationError if it is not that, or of other images."""
    file = folder / "metrics.json"
    try:
        metrics: dict[str, Any] = json.loads(file.read_text())
        model, measured = metrics["checkpoint"]["model"], (metrics["dataset"], metrics["split"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise EvaluationError(f"{file} is not what evaluate-mrnn writes ({error}); give its output folder") from error
    if measured != (dataset, split):
        raise EvaluationError(f"{file} is of {' '.join(measured)}, the baselines are of {dataset} {split}")
    return {**metrics, "name": f"{model}, V {metrics['vocabulary_size']}"}


def table(content: dict[str, Any], models: list[dict[str, Any]]) -> str:
    """What the command prints: a row for each baseline, and one for each model beside them."""
    counts, columns = content["counts"], ("perplexity", *METRICS)
    lines = [
        f"{content['dataset']} {content['split']}: {counts['images']} images, {counts['sentences']} sentences; "
        f"training: {counts['training_images']} images; vocabulary {content['vocabulary_size']}",
        " " * 18 + "".join(f"{name:>11}" for name in columns),
    ]
    named = [*content["baselines"].items(), *((metrics["name"], metrics) for metrics in models)]
    for name, values in named:
        cells = [f"{values[c]:.{2 if c == 'perplexity' else 3}f}" if c in values else "" for c in columns]
        if any(cells):
            lines.append(f"{name:<18}" + "".join(f"{cell:>11}" for cell in cells))
    for direction in ("image_to_sentence", "sentence_to_image"):
        lines.append(f"{direction:<18}" + "".join(f"{name:>13}" for name in (*RETRIEVAL, "among images")))
        for name, values in named:
            if "retrieval" in values:
                numbers = (f"{values['retrieval'][direction][column]:13.1f}" for column in RETRIEVAL)
                lines.append(f"{name:<18}" + "".join(numbers) + f"{values['retrieval']['images']:13}")
    return "\n".join(lines)

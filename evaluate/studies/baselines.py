"""Baselines on a split: what a trained model has to beat, measured with the same scores as a model."""

from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from mrnn.data.cache import FeatureCache
from mrnn.data.errors import EvaluationError
from mrnn.data.files import write_json
from mrnn.data.outputs import is_json_with, refuse_foreign_folder
from mrnn.data.vocabulary import Vocabulary, build_vocabulary
from mrnn.evaluate.metrics.captions import definitions, score_captions
from mrnn.evaluate.studies.baseline_captions import (
    Words,
    consensus_captions,
    most_frequent_caption,
    nearest,
    random_captions,
)
from mrnn.evaluate.studies.chance import chance_retrieval
from mrnn.evaluate.studies.evaluation_folders import read_metrics
from mrnn.evaluate.studies.ngram import NGramModel, likeliest_sentence, ngram_perplexity
from mrnn.train.features import Features
from mrnn.train.sentences import tokenized_sentences
from mrnn.train.settings import TrainSettings

ORDERS = (2, 3)
BEAM = 5
BASELINES = {
    "random": "a training caption drawn at random for each image",
    "most_frequent": "the most frequent training caption, for every image",
    "nearest": "of the captions of the nearest training image in feature space (cosine, training mean subtracted) the "
    "one that agrees best with the others (CIDEr-D)",
    **{
        f"{order}-gram": f"interpolated modified Kneser-Ney {order}-gram model of the training captions; its most "
        f"probable caption (beam {BEAM}) for every image"
        for order in ORDERS
    },
    "chance": "the expected retrieval of a random ranking",
}
Captioned = dict[int, list[list[str]]]


def measure_baselines(
    cache: FeatureCache, output: str | Path, *, split: str = "test", cutoff: int = TrainSettings.cutoff, seed: int = 0
) -> dict[str, Any]:
    """Measure every baseline and write baselines.json and captions-NAME.json; returns the content of the former.

    cache : from `open_cache`
    output : folder to write to
    split : images to measure on
    cutoff : minimum count for a word to enter the vocabulary; rarer words become <unk>
    seed : of the random captions

    Raises EvaluationError if the training split or the measured one has no image with features and a caption.
    """
    output = Path(output)
    refuse_foreign_folder(
        output,
        ("baselines.json", "captions-*.json"),
        is_ours=lambda folder: is_json_with("baselines", "definitions")(folder / "baselines.json"),
    )
    training, measured = captioned(cache, "train"), captioned(cache, split)
    vocabulary = build_vocabulary((words for own in training.values() for words in own), cutoff=cutoff)
    results: dict[str, dict[str, Any]] = {}
    captions: dict[str, list[Words]] = {}
    for name, (facts, each) in caption_baselines(cache, training, list(measured), seed=seed).items():
        results[name], captions[name] = facts, each
    for order in ORDERS:
        facts, words = language_model(training, measured, vocabulary, order=order)
        results[f"{order}-gram"], captions[f"{order}-gram"] = facts, [words] * len(measured)
    ids = [cache.images[i].id for i in measured]
    references = dict(zip(ids, measured.values(), strict=True))
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
        "definitions": {**BASELINES, **definitions()},
        "features": cache.provenance,
        "dataset": cache.dataset,
        "mrnn": version("mrnn"),
    }
    write_json(output / "baselines.json", content)
    return content


def captioned(cache: FeatureCache, split: str) -> Captioned:
    """The captions, as words, of the images of a split that have features and a caption with a word in it.

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
    """Training captions for other images, by name of the baseline, with facts about them.

    cache : where the features are
    training : captions of the training images
    images : numbers of the images to find captions for
    seed : of the random captions
    """
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
    """Perplexity of the measured captions under an n-gram model, named as in metrics.json, and the model's caption.

    training, measured : captions to learn from and to measure
    vocabulary : words that are not <unk>
    order : n
    """
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


def beside_baselines(folder: str | Path, dataset: str, split: str) -> dict[str, Any]:
    """metrics.json of an evaluated model, with its name, for the same table.

    folder : that evaluate-mrnn wrote
    dataset, split : of the baselines

    Raises EvaluationError for a folder of another kind or of other images.
    """
    metrics = read_metrics(folder)
    if (metrics["dataset"], metrics["split"]) != (dataset, split):
        raise EvaluationError(
            f"{folder} is of {metrics['dataset']} {metrics['split']}, the baselines are of {dataset} {split}"
        )
    return {**metrics, "name": f"{metrics['checkpoint']['model']}, V {metrics['vocabulary_size']}"}

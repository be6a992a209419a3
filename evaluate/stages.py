"""The three measurements of an evaluation: perplexity, captions, retrieval. `Parts` keeps what each has finished."""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from time import monotonic
from typing import Any

import numpy as np

from mrnn.data.cache import FeatureCache
from mrnn.data.errors import EvaluationError
from mrnn.data.progress import Progress
from mrnn.data.stopping import StopRequest
from mrnn.data.tokenize import tokenize
from mrnn.evaluate.decode import Caption, DecodingConfig, generate
from mrnn.evaluate.metrics.perplexity import perplexity_per_image, perplexity_summary
from mrnn.evaluate.parts import MARK_SECONDS, Parts, ScoreFile
from mrnn.evaluate.prefix_tree import build_prefix_tree
from mrnn.evaluate.ranking import image_to_sentence_ranks, recalls, sentence_to_image_ranks
from mrnn.evaluate.retrieval import RetrievalScorer, Tiles, log_normaliser, score_images
from mrnn.train.batches import Features, encode_sentences, sentences_of, tokenized_sentences
from mrnn.train.checkpoint import TrainedModel
from mrnn.train.validation import sentence_bits

DECODE_IMAGES = 128  # images decoded at a time: enough for the matrix products to be what takes the time
TOP = 5  # answers to each query that are kept for the report


@dataclass
class Evaluation:
    """What all stages work on.

    trained : the model with its vocabulary. cache, split : what it is measured on. images : (N,) int64 numbers of the
    split's images that have features. threads : images scored at a time in retrieval, on a CPU.
    """

    trained: TrainedModel
    cache: FeatureCache
    split: str
    images: np.ndarray
    features: Features
    parts: Parts
    stop: StopRequest
    threads: int = 1

    def check_stop(self) -> None:
        """End here if asked to. Raises Stopped."""
        if self.stop.reason:
            raise self.stop.stopped(f"what is finished lies in {self.parts.folder}")


def perplexity_stage(evaluation: Evaluation, split: str | None = None, *, run: bool = True) -> dict[str, Any] | None:
    """Perplexity of a split's sentences under their images, in all and by caption length.

    split : None for the one that is evaluated, whose result also has the bits of each image. None is returned for a
    split without a sentence to measure.
    Of every stage: run=False returns what an earlier run finished, or None.
    """
    split = split or evaluation.split
    stored: dict[str, Any] | None = evaluation.parts.load(f"perplexity-{split}", {})
    if stored is not None or not run:
        return stored
    trained = evaluation.trained
    sentences = sentences_of(evaluation.cache, split, trained.vocabulary)
    if not len(sentences):
        return None
    with Progress(f"perplexity, {split}", len(sentences), unit="sentences") as progress:

        def after_batch(count: int) -> None:
            progress.add(count)
            evaluation.check_stop()

        bits = sentence_bits(trained.model, sentences, evaluation.features, after_batch=after_batch)
    stored = {**perplexity_summary(bits, sentences.lengths), "sentences_without_words": sentences.skipped}
    if split == evaluation.split:
        ids = [evaluation.cache.images[i].id for i in sentences.image]
        stored["per_image"] = perplexity_per_image(bits, ids)
    evaluation.parts.save(f"perplexity-{split}", {}, stored)
    return stored


def decoding_settings(config: DecodingConfig, prefix: Sequence[str]) -> dict[str, Any]:
    """What captions depend on, for metrics.json and for recognising finished ones."""
    return {**asdict(config), "prefix": list(prefix)}


def generation_stage(
    evaluation: Evaluation,
    config: DecodingConfig,
    *,
    prefix: Sequence[str] = (),
    name: str = "captions",
    run: bool = True,
) -> list[list[Caption]] | None:
    """The captions of each image that its beam ended with, best first.

    Finished ones are stored every so often and taken up again.
    """
    vocabulary, images = evaluation.trained.vocabulary, evaluation.images
    settings = {**decoding_settings(config, prefix), "kept": config.beam}
    stored = evaluation.parts.load(name, settings) or []
    captions = [[Caption(tuple(words), tuple(logs), complete) for words, logs, complete in each] for each in stored]
    if len(captions) == len(images) or not run:
        return captions if len(captions) == len(images) else None
    # float64: see mrnn.evaluate.decode; a model of this size pays for it with seconds
    model = deepcopy(evaluation.trained.model).double()

    def save() -> None:
        evaluation.parts.save(name, settings, [[(c.words, c.log_probs, c.complete) for c in each] for each in captions])

    label, saved = "greedy captions" if name == "greedy" else "captions", monotonic()
    with Progress(label, len(images), unit="images", done=len(captions)) as progress:
        for start in range(len(captions), len(images), DECODE_IMAGES):
            batch = images[start : start + DECODE_IMAGES]
            ids = [evaluation.cache.images[i].id for i in batch]
            found = generate(model, evaluation.features[batch], config, ids=ids, prefix=vocabulary.encode(list(prefix)))
            captions += found
            progress.add(len(batch))
            if evaluation.stop.reason or monotonic() - saved > MARK_SECONDS:
                save()
                saved = monotonic()
            evaluation.check_stop()
    save()
    return captions


def retrieval_stage(
    evaluation: Evaluation,
    *,
    pool: int | None,
    normaliser_images: int,
    seed: int,
    tiles: Tiles | None = None,
    run: bool = True,
) -> dict[str, Any] | None:
    """All pairs of images and sentences, ranked in both directions.

    pool : only the first so many images of the split that have sentences. normaliser_images : J, training images that
    P(w) is averaged over; 0 leaves the normalisation out. Raises EvaluationError without sentences or training
    images.
    """
    images = np.array([i for i in evaluation.images if any(map(tokenize, evaluation.cache.images[i].sentences))])
    images = images[:pool]
    settings = {"images": len(images), "normaliser_images": normaliser_images, "seed": seed}
    stored: dict[str, Any] | None = evaluation.parts.load("retrieval", settings)
    if not run or (stored is not None and {"ranks", "sentence_answers"} <= stored.keys()):  # not of an older version
        return stored
    if not len(images):
        raise EvaluationError(f"the split {evaluation.split!r} has no image with a sentence to retrieve")
    priors = sample_training_images(evaluation.cache, normaliser_images, seed=seed)
    words = tokenized_sentences(evaluation.cache, images)
    sentences = encode_sentences(*words, evaluation.trained.vocabulary)
    tree = build_prefix_tree(np.split(sentences.tokens, sentences.starts[1:-1]))
    scorer = RetrievalScorer(evaluation.trained.model, tree, tiles=tiles)
    rows = np.concatenate([images, priors])
    scores = ScoreFile(evaluation.parts, settings, (len(rows), len(sentences)))
    label = f"retrieval, {len(images)} images and {len(priors)} for P(w) x {len(sentences)} sentences"
    with Progress(label, len(rows), unit="images", done=scores.done) as progress:
        waiting = (evaluation.features[rows[i : i + 1]][0] for i in range(scores.done, len(rows)))
        for row in score_images(scorer, waiting, threads=evaluation.threads):
            scores.append(row)
            progress.add(1)
            if evaluation.stop.reason:
                scores.mark()
                evaluation.check_stop()
    scores.mark()
    place = {int(image): row for row, image in enumerate(images)}
    sentence_rows = np.array([place[int(image)] for image in sentences.image])
    texts = [text for i in images for text in evaluation.cache.images[i].sentences if tokenize(text)]
    summary, answers = summarise(scores.rows[: len(images)], scores.rows[len(images) :], sentence_rows)
    for answer in answers:
        answer["sentences"] = [[texts[number], right] for number, right in answer["sentences"]]
    result = {
        **summary,
        "answers": {evaluation.cache.images[i].id: answer for i, answer in zip(images, answers, strict=True)},
        "sentence_answers": best_images(
            scores.rows[: len(images)], sentence_rows, texts, [evaluation.cache.images[i].id for i in images]
        ),
        "images": len(images),
        "sentences": len(sentences),
        "normaliser_images": len(priors),
        "prefix_states": len(tree.node_words),
        "words_and_ends": tree.tokens,
    }
    evaluation.parts.save("retrieval", settings, result)
    return result


def summarise(
    scores: np.ndarray, prior_scores: np.ndarray, sentence_images: np.ndarray
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Recalls of both directions from log P(w|I): (N, S) of the pool, (J, S) of the training images, (S,) rows.

    In the summary image_to_sentence ranks by log P(w|I) - log P(w), image_to_sentence_raw by log P(w|I) alone; with
    J = 0 both are raw. Where there are ties, `best_of_ties` holds the same numbers with ties broken in our favour.
    `ranks` holds the rank of every query, by image or by sentence, ties against us.
    Also returned, for each image: `rank` of its first right sentence, and the first `sentences` as [number, right].
    """
    normalised = scores
    if len(prior_scores):
        normalised = np.subtract(scores, log_normaliser(prior_scores), out=np.empty_like(scores), casting="same_kind")
    summary: dict[str, Any] = {}
    best_of_ties, ranks = {}, {}
    for name, matrix, ranks_of in (
        ("image_to_sentence", normalised, image_to_sentence_ranks),
        ("sentence_to_image", scores, sentence_to_image_ranks),
        ("image_to_sentence_raw", scores, image_to_sentence_ranks),
    ):
        worst, best = (ranks_of(matrix, sentence_images, ties=ties) for ties in ("worst", "best"))
        summary[name] = recalls(worst).to_json()
        ranks[name] = worst.tolist()
        if (best != worst).any():
            best_of_ties[name] = recalls(best).to_json()
    if best_of_ties:
        summary["best_of_ties"] = best_of_ties
    summary["ranks"] = ranks
    answers = []
    for image, (row, rank) in enumerate(
        zip(normalised, image_to_sentence_ranks(normalised, sentence_images), strict=True)
    ):
        first = np.argsort(-row, kind="stable")[:TOP]
        sentences = [[int(number), bool(sentence_images[number] == image)] for number in first]
        answers.append({"rank": int(rank), "sentences": sentences})
    return summary, answers


def best_images(
    scores: np.ndarray, sentence_images: np.ndarray, texts: Sequence[str], ids: Sequence[str]
) -> list[dict[str, Any]]:
    """What each sentence finds among the images: (N, S) log P(w|I), (S,) row of its own image, S texts, N ids.

    Of each: `sentence`, `image_id` of its own, `rank` of that one, and the first `images`, best first, with their
    `image_id` and whether they are `right`.
    """
    ranks = sentence_to_image_ranks(scores, sentence_images)
    return [
        {
            "sentence": texts[number],
            "image_id": ids[sentence_images[number]],
            "rank": int(ranks[number]),
            "images": [
                {"image_id": ids[row], "right": bool(row == sentence_images[number])}
                for row in np.argsort(-scores[:, number], kind="stable")[:TOP]
            ],
        }
        for number in range(len(texts))
    ]


def sample_training_images(cache: FeatureCache, count: int, *, seed: int) -> np.ndarray:
    """Numbers (rising) of `count` training images, all of them if there are fewer: the prior of P(w)."""
    training = cache.done("train")
    if count and not len(training):
        raise EvaluationError(
            f"{cache.path} has no training images to average P(w) over; give a cache that has them, or "
            "--normaliser-images 0 to rank sentences by P(w|I) alone"
        )
    return np.sort(np.random.default_rng(seed).permutation(training)[:count])


def greedy_config(config: DecodingConfig) -> DecodingConfig:
    """The greedy counterpart of a way to decode."""
    return replace(config, beam=1, sample=False, temperature=1.0, top_k=0, length_norm=False)

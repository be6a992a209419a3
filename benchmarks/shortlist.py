"""Recall of the true top 10 in a shortlist by first-order scores, and the time of a query.

    python benchmarks/shortlist.py --checkpoint runs/feats-mrnn --features feats.h5 --queries 250 --split test

Recall needs a trained model: give a run folder and its cache. Without them, as in `make bench`, the script uses an
untrained model of the paper's sizes and random features; the recalls then only show that it runs.

Sentence -> image: `--queries` evenly spaced sentences of the split against all images of the cache, with every pair
also scored exactly. The recall at x % is the fraction of the true top 10 of all queries among the first x % by
first-order score. Image -> sentence: `--pictures` images of the split against its first `--sentences` distinct
sentences, by log P(w | I) - log P(w) over `--priors` training images. The line below the recalls is the fraction of the
true top 10 in the final answer of search-images, with shortlists of the default size.

Speed: sentences one at a time on galleries of `--galleries` images, with first order and exact re-scoring timed
separately. The galleries are simulated: each image is the vector V_I I of a random real image plus normal noise with
half the standard deviation of the real images in each dimension.
"""

import time
from collections.abc import Sequence
from pathlib import Path

import click
import numpy as np
import torch
from torch import Tensor

from mrnn.data.cache import open_cache
from mrnn.evaluate.fit import searchable_model
from mrnn.evaluate.retrieval.late_fusion import LateFusionScorer
from mrnn.evaluate.retrieval.one_sentence import score_sentence
from mrnn.evaluate.retrieval.pair_scorer import log_normaliser
from mrnn.evaluate.retrieval.prefix_tree import build_prefix_tree
from mrnn.evaluate.retrieval.ranking import largest
from mrnn.evaluate.retrieval.stage import sample_training_images
from mrnn.evaluate.search.gallery import IMAGE_ANCHORS, SENTENCE_ANCHORS
from mrnn.evaluate.search.index import nearly_exact_priors
from mrnn.evaluate.search.numbers import CANDIDATES, SENTENCE_PERCENT, shortlist_size
from mrnn.evaluate.search.shortlist import ImageVectors, choose_anchors, expand, first_order_of_sentences
from mrnn.train.checkpoint import load_trained
from mrnn.train.features import Features
from mrnn.train.models.captioner import LateFusion
from mrnn.train.models.captioner_configs import MRNNConfig
from mrnn.train.models.mrnn import MRNN
from mrnn.train.sentences import sentences_of

PERCENTS = (0.5, 1, 2, 5, 10, 20)
TOP = 10


class World:
    """A model, the vectors of all images, the numbers of the query and prior images, and sentences."""

    def __init__(self, checkpoint: Path | None, features: Path | None, *, split: str, priors: int) -> None:
        if checkpoint is None or features is None:
            torch.manual_seed(0)
            generator = np.random.default_rng(0)
            self.model: LateFusion = MRNN(MRNNConfig(2538, 1280)).eval()
            self.features = torch.randn(400, 1280)
            self.sentences = [generator.integers(2, 2538, n) for n in generator.integers(5, 18, 400)]
            self.pictures, self.priors = torch.arange(200), torch.arange(200, 200 + min(priors, 200))
            self.source = "untrained model, random features"
        else:
            trained, cache = load_trained(checkpoint), open_cache(features)
            self.model = searchable_model(trained)
            self.features = Features(cache)[np.arange(len(cache.images))]
            found = sentences_of(cache, split, trained.vocabulary)
            self.sentences = np.split(found.tokens, found.starts[1:-1])
            self.pictures = torch.from_numpy(cache.done(split))
            self.priors = torch.from_numpy(sample_training_images(cache, priors, seed=0))
            self.source = f"{trained.file} on {cache.path}, {split}"
        with torch.inference_mode():
            self.vectors = torch.cat([self.model.image(part) for part in self.features.split(4096)])


def evenly(total: int, count: int) -> list[int]:
    """`count` evenly spaced numbers from 0 .. total-1."""
    count = min(count, total)
    return [i * total // count for i in range(count)]


def print_recalls(label: str, exact: np.ndarray, first: np.ndarray) -> None:
    """Print a row of recalls.

    label : start of the row.
    exact, first : (queries, gallery), exact and first-order scores.
    """
    gallery = exact.shape[1]
    order = np.argsort(-first, axis=1, kind="stable")
    places = np.empty_like(order)
    np.put_along_axis(places, order, np.arange(gallery)[None], axis=1)
    true = np.array([largest(row, TOP) for row in exact])
    places = np.take_along_axis(places, true, axis=1)
    shares = [(places < shortlist_size(gallery, percent=percent, top=TOP)).mean() for percent in PERCENTS]
    print(f"{label:>12}" + "".join(f"{share:9.4f}" for share in shares), flush=True)


def images_by_sentence(world: World, queries: int, *, anchors: Sequence[int]) -> None:
    """Print the recalls of sentence -> image."""
    asked = [world.sentences[i] for i in evenly(len(world.sentences), queries)]
    start = time.perf_counter()
    exact = np.array([score_sentence(world.model, sentence, world.vectors) for sentence in asked])
    seconds = time.perf_counter() - start
    print(f"sentence -> image: {len(asked)} sentences x {len(world.vectors)} images, exact pass {seconds:.0f} s")
    print(f"{'anchors':>12}" + "".join(f"{percent:>7} %" for percent in PERCENTS))
    for count in anchors:
        gallery = ImageVectors.build(world.vectors, anchors=count)
        print_recalls(str(count), exact, gallery.first_order(expand(world.model, asked, gallery.anchors)).numpy())


def sentences_by_image(world: World, pictures: int, count: int, *, anchors: Sequence[int]) -> None:
    """Print the recalls of image -> sentence.

    world : model and data.
    pictures : number of query images.
    count : number of sentences in the gallery.
    anchors : numbers of anchors to try.
    """
    model = world.model
    first_of = {tuple(tokens.tolist()): i for i, tokens in reversed([*enumerate(world.sentences)])}
    columns = sorted(first_of.values())[:count]
    distinct = [world.sentences[i] for i in columns]
    chosen = evenly(len(world.pictures), pictures)
    asked = world.pictures[chosen]
    start = time.perf_counter()
    scorer = LateFusionScorer(model, build_prefix_tree(distinct))
    rows = np.stack([scorer.score(feature) for feature in world.features[torch.cat([asked, world.priors])]])
    scores, prior_scores = rows[: len(asked)], rows[len(asked) :]
    seconds = time.perf_counter() - start
    exact = scores - log_normaliser(prior_scores)
    print(
        f"image -> sentence: {len(asked)} images x {len(distinct)} sentences, P(w) over {len(world.priors)} images, "
        f"exact pass {seconds:.0f} s"
    )
    print(f"{'anchors':>12}" + "".join(f"{percent:>7} %" for percent in PERCENTS))
    prior_vectors = world.vectors[world.priors]
    for number in anchors:
        centres = choose_anchors(world.vectors, number)
        first, first_priors = first_orders(model, distinct, centres, [world.vectors[asked], prior_vectors])
        approximate = first - log_normaliser(first_priors)
        print_recalls(str(number), exact, approximate)
        if number == SENTENCE_ANCHORS:
            nearly = nearly_exact_priors(model, distinct, prior_vectors, first_priors)
            size = shortlist_size(len(distinct), percent=SENTENCE_PERCENT, top=TOP)
            found = []
            for i in range(len(asked)):
                candidates = top_of(scores[i] - nearly, largest(approximate[i], size), CANDIDATES * TOP)
                found.append(top_of(exact[i], candidates, TOP))
            share = np.mean([len(set(f) & set(largest(row, TOP))) / TOP for f, row in zip(found, exact, strict=True)])
            error = nearly - log_normaliser(prior_scores)
            answer = f"final answer at {SENTENCE_PERCENT:g} %: {share:.4f} of the true top {TOP}"
            print(f"{'':12}{answer}; log P(w) off by {error.mean():.3f} +- {error.std():.3f}", flush=True)


def top_of(scores: np.ndarray, shortlist: np.ndarray, count: int) -> np.ndarray:
    """The `count` best entries of a shortlist, by the scores of the whole gallery."""
    return shortlist[largest(scores[shortlist], count)]


def first_orders(
    model: LateFusion, sentences: Sequence[np.ndarray], anchors: Tensor, galleries: Sequence[Tensor]
) -> list[np.ndarray]:
    """First-order scores of sentences under the images of each gallery, computed for 256 sentences at a time.

    model : the model in eval mode.
    sentences : word numbers of each sentence.
    anchors : (C, M), vectors to expand at.
    galleries : vectors of the images, (n, M) each.

    Returns (n, S) per gallery.
    """
    parts: list[list[np.ndarray]] = [[] for _ in galleries]
    for start in range(0, len(sentences), 256):
        expansions = expand(model, sentences[start : start + 256], anchors)
        for scores, vectors in zip(parts, galleries, strict=True):
            scores.append(first_order_of_sentences(expansions, anchors, vectors))
    return [np.concatenate(scores, axis=1) for scores in parts]


def speed(world: World, size: int, *, queries: int, percents: Sequence[float]) -> None:
    """Print the median seconds per query on a simulated gallery.

    world : model and data.
    size : number of images in the gallery.
    queries : number of sentences.
    percents : shares of the gallery to score exactly.
    """
    generator = torch.Generator().manual_seed(0)
    real = world.vectors
    vectors = real[torch.randint(len(real), (size,), generator=generator)]
    for part in vectors.split(65536):
        part += torch.randn(part.shape, generator=generator) * real.std(0) / 2
    start = time.perf_counter()
    gallery = ImageVectors.build(vectors, anchors=IMAGE_ANCHORS)
    building = time.perf_counter() - start
    firsts: list[float] = []
    exacts: dict[float, list[float]] = {percent: [] for percent in percents}
    for number in evenly(len(world.sentences), queries):
        sentence = world.sentences[number]
        start = time.perf_counter()
        first = gallery.first_order(expand(world.model, [sentence], gallery.anchors))[0].numpy()
        largest(first, shortlist_size(size, percent=max(percents), top=TOP))
        firsts.append(time.perf_counter() - start)
        for percent, times in exacts.items():
            shortlist = largest(first, shortlist_size(size, percent=percent, top=TOP))
            start = time.perf_counter()
            largest(score_sentence(world.model, sentence, vectors[shortlist]), TOP)
            times.append(time.perf_counter() - start)
    once = float(np.median(firsts))
    print(f"speed, {size:,} images: index {building:.1f} s; first order {1000 * once:.0f} ms per query, and with")
    for percent, times in exacts.items():
        seconds = once + float(np.median(times))
        print(f"{percent:>8} % exact: {seconds:.2f} s per query, {1 / seconds:.2f} queries/s", flush=True)


def parse_numbers(context: click.Context, parameter: click.Parameter, text: str) -> list[float]:
    """'a,b' as numbers."""
    return [float(part) for part in text.split(",") if part]


@click.command()
@click.option("--checkpoint", type=click.Path(path_type=Path))
@click.option("--features", type=click.Path(path_type=Path))
@click.option("--split", default="test", show_default=True)
@click.option("--queries", default=20, show_default=True, help="Number of query sentences; 0 skips this part.")
@click.option("--pictures", default=20, show_default=True, help="Number of query images; 0 skips this part.")
@click.option("--sentences", default=200, show_default=True, help="Number of sentences to search.")
@click.option("--priors", default=20, show_default=True, help="Number of training images for P(w).")
@click.option("--anchors", default="1,4,8,16,64", callback=parse_numbers, show_default=True)
@click.option(
    "--galleries", default="100000", callback=parse_numbers, show_default=True, help="Sizes, separated by commas."
)
@click.option(
    "--percents",
    default="0.1,1",
    callback=parse_numbers,
    show_default=True,
    help="Percentages to re-score in the speed part.",
)
@click.option("--threads", default=1, show_default=True)
def main(
    checkpoint: Path | None,
    features: Path | None,
    split: str,
    queries: int,
    pictures: int,
    sentences: int,
    priors: int,
    anchors: list[float],
    galleries: list[float],
    percents: list[float],
    threads: int,
) -> None:
    """Print recalls and times."""
    torch.set_num_threads(threads)
    with torch.inference_mode():
        world = World(checkpoint, features, split=split, priors=priors)
        counts = [int(count) for count in anchors]
        print(f"{world.source}; {threads} threads")
        if queries:
            images_by_sentence(world, queries, anchors=counts)
        if pictures:
            sentences_by_image(world, pictures, sentences, anchors=counts)
        for size in galleries:
            speed(world, int(size), queries=5, percents=percents)


if __name__ == "__main__":
    main()

"""How many of the true best ten a shortlist by first-order scores holds, and how long a query takes with it.

    python benchmarks/shortlist.py --checkpoint runs/feats-mrnn --features feats.h5 --queries 250 --split test

Recall needs a trained model: give a run folder and its cache. Without them, as in `make bench`, an untrained model of
the paper's sizes and random features take their place, and the recalls only show that the script runs.

Sentence -> image: `--queries` sentences of the split, evenly spaced, against all images of the cache, every pair scored
exactly as well. The recall at x % is the share of the true top 10 of all queries that lies in the first x % of the
first-order order. Image -> sentence: `--pictures` images of the split against its first `--sentences` different
sentences, log P(w | I) - log P(w) over `--priors` training images. Below its recalls: the share of the true top 10 in
the final answer of search-images, with shortlists of its default size.

Speed: sentences one at a time on galleries of `--galleries` images, first order and exact re-scoring apart. The
galleries are simulated: each image is the vector V_I I of a real one, drawn at random, plus normal noise with half the
standard deviation of the real ones in each direction.
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
from mrnn.evaluate.retrieval.stage import sample_training_images
from mrnn.evaluate.search.gallery import CANDIDATES, IMAGE_ANCHORS, SENTENCE_ANCHORS, SENTENCE_PERCENT, shortlist_size
from mrnn.evaluate.search.index import nearly_exact_priors
from mrnn.evaluate.search.shortlist import ImageVectors, best, choose_anchors, expand, first_order_of_sentences
from mrnn.train.checkpoint import load_trained
from mrnn.train.features import Features
from mrnn.train.models.captioner import LateFusion
from mrnn.train.models.kinds import MRNNConfig
from mrnn.train.models.mrnn import MRNN
from mrnn.train.sentences import sentences_of

PERCENTS = (0.5, 1, 2, 5, 10, 20)
TOP = 10


class World:
    """A model, the vectors of all images, those of the pictures to ask with and of the priors, and sentences."""

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
    """`count` of the numbers 0 .. total-1, evenly spaced."""
    count = min(count, total)
    return [i * total // count for i in range(count)]


def print_recalls(label: str, exact: np.ndarray, first: np.ndarray) -> None:
    """A row of recalls: exact and first-order scores, both (queries, gallery)."""
    gallery = exact.shape[1]
    order = np.argsort(-first, axis=1, kind="stable")
    places = np.empty_like(order)
    np.put_along_axis(places, order, np.arange(gallery)[None], axis=1)
    true = np.array([best(row, TOP) for row in exact])
    places = np.take_along_axis(places, true, axis=1)
    shares = [(places < shortlist_size(gallery, percent=percent, top=TOP)).mean() for percent in PERCENTS]
    print(f"{label:>12}" + "".join(f"{share:9.4f}" for share in shares), flush=True)


def images_by_sentence(world: World, queries: int, *, anchors: Sequence[int]) -> None:
    """Recalls of sentence -> image."""
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
    """Recalls of image -> sentence."""
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
        f"image -> sentence: {len(asked)} pictures x {len(distinct)} sentences, P(w) over {len(world.priors)} images, "
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
                candidates = top_of(scores[i] - nearly, best(approximate[i], size), CANDIDATES * TOP)
                found.append(top_of(exact[i], candidates, TOP))
            share = np.mean([len(set(f) & set(best(row, TOP))) / TOP for f, row in zip(found, exact, strict=True)])
            error = nearly - log_normaliser(prior_scores)
            answer = f"final answer at {SENTENCE_PERCENT:g} %: {share:.4f} of the true top {TOP}"
            print(f"{'':12}{answer}; log P(w) off by {error.mean():.3f} +- {error.std():.3f}", flush=True)


def top_of(scores: np.ndarray, shortlist: np.ndarray, count: int) -> np.ndarray:
    """The best of the shortlist by these scores of all."""
    return shortlist[best(scores[shortlist], count)]


def first_orders(
    model: LateFusion, sentences: Sequence[np.ndarray], anchors: Tensor, galleries: Sequence[Tensor]
) -> list[np.ndarray]:
    """First-order scores of sentences under the images of each gallery: (n, S), a few sentences at a time."""
    parts: list[list[np.ndarray]] = [[] for _ in galleries]
    for start in range(0, len(sentences), 256):
        expansions = expand(model, sentences[start : start + 256], anchors)
        for scores, vectors in zip(parts, galleries, strict=True):
            scores.append(first_order_of_sentences(expansions, anchors, vectors))
    return [np.concatenate(scores, axis=1) for scores in parts]


def speed(world: World, size: int, *, queries: int, percents: Sequence[float]) -> None:
    """Seconds a query on a simulated gallery; medians."""
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
        best(first, shortlist_size(size, percent=max(percents), top=TOP))
        firsts.append(time.perf_counter() - start)
        for percent, times in exacts.items():
            shortlist = best(first, shortlist_size(size, percent=percent, top=TOP))
            start = time.perf_counter()
            best(score_sentence(world.model, sentence, vectors[shortlist]), TOP)
            times.append(time.perf_counter() - start)
    once = float(np.median(firsts))
    print(f"speed, {size:,} images: index {building:.1f} s; a query's first order {1000 * once:.0f} ms, and with")
    for percent, times in exacts.items():
        seconds = once + float(np.median(times))
        print(f"{percent:>8} % exact: {seconds:.2f} s a query, {1 / seconds:.2f} queries/s", flush=True)


def parse_numbers(context: click.Context, parameter: click.Parameter, text: str) -> list[float]:
    """'a,b' as numbers."""
    return [float(part) for part in text.split(",") if part]


@click.command()
@click.option("--checkpoint", type=click.Path(path_type=Path))
@click.option("--features", type=click.Path(path_type=Path))
@click.option("--split", default="test", show_default=True)
@click.option("--queries", default=20, show_default=True, help="Sentences asked with; 0 leaves this part out.")
@click.option("--pictures", default=20, show_default=True, help="Pictures asked with; 0 leaves this part out.")
@click.option("--sentences", default=200, show_default=True, help="Sentences that pictures ask for.")
@click.option("--priors", default=20, show_default=True, help="Training images for P(w).")
@click.option("--anchors", default="1,4,8,16,64", callback=parse_numbers, show_default=True)
@click.option(
    "--galleries", default="100000", callback=parse_numbers, show_default=True, help="Sizes, with commas between."
)
@click.option(
    "--percents", default="0.1,1", callback=parse_numbers, show_default=True, help="Re-scored in the speed part."
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

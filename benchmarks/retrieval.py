"""Time of all-pairs retrieval scores, compared with straightforward ways to compute them, measured in one run.

    MRNN_DATA=... python benchmarks/retrieval.py [--threads 1]
    python benchmarks/retrieval.py --checkpoint runs/feats-mrnn --features feats.h5 --pool 1000 --normaliser-images 1000

The second line compares the pruned pass with the full pass for a trained model. It runs both, and prints the fraction
of the pairs that was scored exactly, and whether all ranks and lists are equal.

The first line takes about a minute. It uses the 5,000 test sentences of Flickr8k if MRNN_DATA has them, else synthetic
ones of similar lengths (which share fewer prefixes), and an untrained model of the paper's sizes, V = 2,538. The slow
ways are measured on a sample of the sentences. All times are milliseconds per pair:

    word      the whole model for one image and one sentence, word by word, as captions are generated: what running the
              published model on each pair costs
    pair      the whole model for one image and one sentence, all words in one forward pass
    image     the whole model for one image and a batch of 100 padded sentences, logits included
    tree      mrnn.evaluate.retrieval.late_fusion
    product   only the matrix products of `tree`, by the same library with the same tile sizes: the limit
"""

import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import click
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

from mrnn.data.cache import open_cache
from mrnn.data.stopping import StopRequest
from mrnn.data.tokenize import tokenize
from mrnn.data.vocabulary import BOUNDARY_ID, build_vocabulary
from mrnn.evaluate.parts import Parts
from mrnn.evaluate.retrieval.late_fusion import LateFusionScorer, Tiles
from mrnn.evaluate.retrieval.pair_scorer import in_order
from mrnn.evaluate.retrieval.prefix_tree import build_prefix_tree
from mrnn.evaluate.retrieval.result import RetrievalResult
from mrnn.evaluate.retrieval.stage import RetrievalConfig, retrieval_stage
from mrnn.evaluate.stages import Evaluation
from mrnn.train.checkpoint import load_trained
from mrnn.train.features import Features
from mrnn.train.models.captioner_configs import MRNNConfig
from mrnn.train.models.mrnn import MRNN
from mrnn.train.products import product

VOCABULARY, FEATURES, SENTENCES = 2538, 4096, 5000


def flickr8k_sentences() -> list[list[int]]:
    """The test sentences of Flickr8k, encoded with the vocabulary of the training sentences; [] without the data."""
    folder = Path(os.environ.get("MRNN_DATA", "datasets")) / "flickr8k"
    if not (folder / "Flickr8k.token.txt").exists():
        return []
    captions: dict[str, list[list[str]]] = {}
    for line in (folder / "Flickr8k.token.txt").read_text().splitlines():
        name, sentence = line.split("\t")
        captions.setdefault(name.split("#")[0], []).append(tokenize(sentence))
    training, test = ((folder / f"Flickr_8k.{s}Images.txt").read_text().split() for s in ("train", "test"))
    vocabulary = build_vocabulary([words for name in training for words in captions[name]], cutoff=5)
    return [
        [min(number, VOCABULARY - 1) for number in vocabulary.encode(words)]
        for name in test
        for words in captions[name]
    ]


def invented_sentences() -> list[list[int]]:
    generator = np.random.default_rng(0)
    lengths = generator.integers(5, 18, SENTENCES)
    return [(1 + generator.zipf(1.3, n) % (VOCABULARY - 1)).tolist() for n in lengths]


@torch.inference_mode()
def whole_model(model: MRNN, feature: Tensor, sentences: list[list[int]]) -> Tensor:
    """log P(w | I) of B padded sentences by the whole model, with the logits of all words at once: (B,)."""
    inputs = pad_sequence([torch.tensor([BOUNDARY_ID, *s]) for s in sentences], batch_first=True)
    targets = pad_sequence([torch.tensor([*s, BOUNDARY_ID]) for s in sentences], batch_first=True, padding_value=-100)
    words = model.words(inputs)
    state, states = words.new_zeros(len(sentences), model.config.recurrent), []
    for step in words.unbind(1):
        state = model.recur(step, state)
        states.append(state)
    image = model.image(feature)
    logits = model.output(model.fuse(model.combine(words, torch.stack(states, 1)), image))
    losses = functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=-100, reduction="none")
    return -losses.view(targets.shape).sum(1)


@torch.inference_mode()
def word_by_word(model: MRNN, feature: Tensor, sentence: list[int]) -> float:
    """log P(w | I) by the whole model, word by word."""
    state, total = torch.zeros(1, model.config.recurrent), 0.0
    for word, target in zip([BOUNDARY_ID, *sentence], [*sentence, BOUNDARY_ID], strict=True):
        words = model.words(torch.tensor([word]))
        state = model.recur(words, state)
        multimodal = model.fuse(model.combine(words, state), model.image(feature))
        total += model.output(multimodal).log_softmax(-1)[0, target].item()
    return total


@torch.inference_mode()
def products_only(model: MRNN, nodes: int, tiles: Tiles) -> None:
    """Only the matrix products of scoring one image."""
    blocks = model.output.weight.split(tiles.columns)
    rows = torch.rand(tiles.rows, model.config.multimodal)
    for _ in range(nodes // tiles.rows):
        for block in blocks:
            product(rows, block)


def seconds(work: Callable[[], object], *, repeats: int) -> float:
    """Seconds of the fastest of several runs, which other work on the machine disturbs least."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def pruned_against_full(
    run: Path, features: Path, config: RetrievalConfig, *, split: str, threads: int, full: bool
) -> None:
    """Print the seconds of both passes for a trained model, and what the pruned pass saved.

    run : run folder.
    features : its feature cache.
    config : settings of retrieval.
    split : split to evaluate.
    threads : number of CPU threads.
    full : whether to run the full pass too.
    """
    trained, cache = load_trained(run, device=torch.device("cpu")), open_cache(features)
    results, times = [], []
    for variant in (config, replace(config, full_pass=True))[: 1 + full]:
        with TemporaryDirectory() as folder:
            parts = Parts(Path(folder), {})
            rows = cache.done(split)
            evaluation = Evaluation(trained, cache, split, rows, Features(cache), parts, StopRequest(), threads)
            start, spent = time.perf_counter(), time.process_time()
            result = retrieval_stage(evaluation, variant)
            times.append((time.perf_counter() - start, time.process_time() - spent))
            assert result is not None
            results.append(result)
    share = 100 * results[0].scored_exactly
    print(f"pruned, {config.bound_words} words: {times[0][0]:.1f} s ({times[0][1]:.1f} s of CPU time)")
    print(f"{share:.1f} % of the pairs were scored exactly")
    if full:
        print(f"full: {times[1][0]:.1f} s ({times[1][1]:.1f} s of CPU time)")
        print(f"pruned is {times[1][0] / times[0][0]:.2f} x full, {times[1][1] / times[0][1]:.2f} x by CPU time")
        pruned, every = map(comparable, results)
        print(f"ranks and lists are {'the same' if pruned == every else 'NOT THE SAME'}")


def comparable(result: RetrievalResult) -> RetrievalResult:
    """A result without what a pruned pass leaves open: the bracket of P(w), the share scored and how it got there."""
    images = []
    for answer in result.images:
        found = (replace(one, values={**one.values, "normalised": None}) for one in answer.sentences)
        images.append(replace(answer, sentences=tuple(found)))
    return replace(result, scored_exactly=1.0, course=(), images=tuple(images))


@click.command()
@click.option(
    "--checkpoint", type=click.Path(path_type=Path), help="Run folder; compares the pruned pass with the full pass."
)
@click.option("--features", type=click.Path(path_type=Path), help="Feature cache of the run.")
@click.option("--split", default="val", show_default=True)
@click.option("--pool", type=int, help="Number of images.  [default: all of the split]")
@click.option("--normaliser-images", default=1000, show_default=True)
@click.option("--words", default=RetrievalConfig().bound_words, show_default=True, help="Words per node in the bounds.")
@click.option("--without-full", is_flag=True, help="Time the pruned pass only.")
@click.option("--threads", default=1, show_default=True)
@click.option("--images", default=2, show_default=True, help="Images scored per repetition and thread.")
@click.option("--rows", default=Tiles().rows, show_default=True)
@click.option("--columns", default=Tiles().columns, show_default=True)
def main(
    threads: int,
    images: int,
    rows: int,
    columns: int,
    checkpoint: Path | None,
    features: Path | None,
    split: str,
    pool: int | None,
    normaliser_images: int,
    words: int,
    without_full: bool,
) -> None:
    """Print milliseconds per pair and ratios."""
    if checkpoint is not None and features is not None:
        config = RetrievalConfig(pool=pool, normaliser_images=normaliser_images, bound_words=words)
        pruned_against_full(checkpoint, features, config, split=split, threads=threads, full=not without_full)
        return
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    sentences = flickr8k_sentences()
    source = "Flickr8k test" if sentences else "invented"
    sentences = sentences or invented_sentences()
    tree, tiles = build_prefix_tree(sentences), Tiles(rows, columns)
    model = MRNN(MRNNConfig(VOCABULARY, FEATURES)).eval()
    pictures = torch.rand(images * threads, FEATURES)
    nodes = len(tree.node_words)
    print(
        f"{source}: {len(sentences)} sentences, {tree.tokens} words and ENDs, {nodes} prefix states, {threads} threads"
    )

    one_by_one, batched = sentences[:100], sentences[:500]
    word = seconds(lambda: [word_by_word(model, pictures[0], s) for s in one_by_one], repeats=2) / len(one_by_one)
    pair = seconds(lambda: [whole_model(model, pictures[0], [s]) for s in one_by_one], repeats=3) / len(one_by_one)
    batches = [batched[i : i + 100] for i in range(0, len(batched), 100)]
    image = seconds(lambda: [whole_model(model, pictures[0], b) for b in batches], repeats=3) / len(batched)
    scorer = LateFusionScorer(model, tree, tiles=tiles)
    pairs = len(pictures) * len(sentences)
    tree_time = (
        seconds(lambda: list(in_order(scorer.score, pictures, device=scorer.device, threads=threads)), repeats=3)
        / pairs
    )
    product = seconds(lambda: products_only(model, nodes, tiles), repeats=3) / len(sentences)

    expected = whole_model(model, pictures[0], one_by_one).numpy()
    error = np.abs(scorer.score(pictures[0])[: len(one_by_one)] - expected).max()
    for name, value in (("word", word), ("pair", pair), ("image", image), ("tree", tree_time), ("product", product)):
        print(f"{name:8} {1000 * value:9.4f} ms per pair {value / tree_time:8.2f} x tree")
    print(f"{nodes / (tree_time * len(sentences)):,.0f} rows/s; 1,000 x 5,000: {tree_time * 5e6 / 60:.1f} minutes")
    print(f"products alone are {100 * product / tree_time:.0f} % of tree; largest difference of scores {error:.1e}")


if __name__ == "__main__":
    main()

"""How much faster all-pairs retrieval scores are than the obvious ways to get them, side by side in one run.

    MRNN_DATA=... python benchmarks/retrieval.py [--threads 1]
    python benchmarks/retrieval.py --checkpoint runs/feats-mrnn --features feats.h5 --pool 1000 --normaliser-images 1000

The second line, for a trained model, is the pruned pass against the full one; it takes the time of both, and prints the
share of the pairs that was scored exactly, and whether all ranks and lists are the same.

The first takes about a minute: the 5,000 test sentences of Flickr8k where MRNN_DATA has them, invented ones of like
lengths elsewhere (they share fewer beginnings); an untrained model of the paper's sizes, V = 2,538. The slow ways are
measured on a sample of the sentences, and everything is brought to milliseconds a pair:

    word      whole model per pair: for one image and one sentence, word by word, as captions are generated; what a user
              has who runs the published model on each pair
    pair      whole model per pair, all words of the sentence together in one forward pass
    image     one image by padded batch: the whole model for one image and 100 padded sentences, logits and all
    tree      mrnn.evaluate.retrieval.late_fusion
    product   nothing but the matrix products of `tree`, by the same library at the same tile sizes: the limit
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
from mrnn.evaluate.evaluation import Evaluation
from mrnn.evaluate.parts import Parts
from mrnn.evaluate.retrieval.late_fusion import LateFusionScorer, Tiles
from mrnn.evaluate.retrieval.pair_scorer import in_order
from mrnn.evaluate.retrieval.prefix_tree import build_prefix_tree
from mrnn.evaluate.retrieval.stage import RetrievalConfig, retrieval_stage
from mrnn.train.checkpoint import load_trained
from mrnn.train.features import Features
from mrnn.train.models.kinds import MRNNConfig
from mrnn.train.models.mrnn import MRNN
from mrnn.train.products import product

VOCABULARY, FEATURES, SENTENCES = 2538, 4096, 5000


def flickr8k_sentences() -> list[list[int]]:
    """The test sentences of Flickr8k as word numbers of a vocabulary of the training sentences; [] without the data."""
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
    """log P(w | I) of padded sentences (B,) through every layer, the logits of all words at once."""
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
    """log P(w | I), every layer for every word."""
    state, total = torch.zeros(1, model.config.recurrent), 0.0
    for word, target in zip([BOUNDARY_ID, *sentence], [*sentence, BOUNDARY_ID], strict=True):
        words = model.words(torch.tensor([word]))
        state = model.recur(words, state)
        multimodal = model.fuse(model.combine(words, state), model.image(feature))
        total += model.output(multimodal).log_softmax(-1)[0, target].item()
    return total


@torch.inference_mode()
def products_only(model: MRNN, nodes: int, tiles: Tiles) -> None:
    """The matrix products of one image, without anything else."""
    blocks = model.output.weight.split(tiles.columns)
    rows = torch.rand(tiles.rows, model.config.multimodal)
    for _ in range(nodes // tiles.rows):
        for block in blocks:
            product(rows, block)


def seconds(work: Callable[[], object], *, repeats: int) -> float:
    """Shortest of several runs, so that others on the machine disturb least."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def pruned_against_full(
    run: Path, features: Path, config: RetrievalConfig, *, split: str, threads: int, full: bool
) -> None:
    """Print seconds of both passes of a trained model and what the pruned one saved."""
    trained, cache = load_trained(run, device=torch.device("cpu")), open_cache(features)
    results, times = [], []
    for variant in (config, replace(config, full=True))[: 1 + full]:
        with TemporaryDirectory() as folder:
            parts = Parts(Path(folder), {})
            rows = cache.done(split)
            evaluation = Evaluation(trained, cache, split, rows, Features(cache), parts, StopRequest(), threads)
            start, spent = time.perf_counter(), time.process_time()
            result = retrieval_stage(evaluation, variant)
            times.append((time.perf_counter() - start, time.process_time() - spent))
            assert result is not None
            results.append(result)
    share = 100 * results[0]["scored_exactly"]
    print(f"pruned, {config.words} words: {times[0][0]:.1f} s ({times[0][1]:.1f} s of processor)")
    print(f"{share:.1f} % of the pairs were scored exactly")
    if full:
        print(f"full: {times[1][0]:.1f} s ({times[1][1]:.1f} s of processor)")
        print(f"pruned is {times[1][0] / times[0][0]:.2f} x full, {times[1][1] / times[0][1]:.2f} x by processor time")
        for result in results:  # the pruned pass gives log P(w|I) - log P(w) as a bracket
            del result["scored_exactly"], result["course"]
            for answer in result["answers"].values():
                for found in answer["sentences"]:
                    del found["normalised"]
        print(f"ranks and lists are {'the same' if results[0] == results[1] else 'NOT THE SAME'}")


@click.command()
@click.option("--checkpoint", type=click.Path(path_type=Path), help="A run folder: pruned against full.")
@click.option("--features", type=click.Path(path_type=Path), help="Its cache.")
@click.option("--split", default="val", show_default=True)
@click.option("--pool", type=int, help="Images.  [default: all of the split]")
@click.option("--normaliser-images", default=1000, show_default=True)
@click.option("--words", default=RetrievalConfig().words, show_default=True, help="Of the bounds.")
@click.option("--without-full", is_flag=True, help="Time the pruned pass alone.")
@click.option("--threads", default=1, show_default=True)
@click.option("--images", default=2, show_default=True, help="Images scored a repetition, for each thread.")
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
    """Print milliseconds a pair and ratios."""
    if checkpoint is not None and features is not None:
        config = RetrievalConfig(pool=pool, normaliser_images=normaliser_images, words=words)
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
        print(f"{name:8} {1000 * value:9.4f} ms a pair {value / tree_time:8.2f} x tree")
    print(f"{nodes / (tree_time * len(sentences)):,.0f} rows/s; 1,000 x 5,000: {tree_time * 5e6 / 60:.1f} minutes")
    print(f"products alone are {100 * product / tree_time:.0f} % of tree; largest difference of scores {error:.1e}")


if __name__ == "__main__":
    main()

"""How much of the true top 10 of a combination of models is in the shortlists that its captioners choose.

    python benchmarks/together.py --combination runs/feats-mrnn/evaluation-val-combined/combination.json --split val

It needs trained models: without --combination, as in `make bench`, it measures nothing.

Sentence -> image: evenly spaced sentences of the split against its images. Image -> sentence: evenly spaced images
against the different sentences of the split, where log P(w) is the nearly exact one of the sentence index. The recall
at x % is the share of the 10 largest sums of all queries among the first x % by the captioners' first-order scores.
"""

from pathlib import Path

import click
import numpy as np
import torch

from mrnn.data.progress import progress_shown
from mrnn.evaluate import open_combination
from mrnn.evaluate.retrieval.ranking import largest
from mrnn.evaluate.search.numbers import shortlist_size

PERCENTS = (1, 2, 5, 10, 20, 40)
TOP = 10


def found(values: np.ndarray, first: np.ndarray) -> list[float]:
    """The share of the true top 10 of a query in shortlists of each size, from (n,) sums and first-order scores."""
    true = largest(values, TOP)
    sizes = [shortlist_size(len(values), percent=percent, top=TOP) for percent in PERCENTS]
    return [float(np.isin(true, largest(first, size)).mean()) for size in sizes]


def evenly(total: int, count: int) -> list[int]:
    """At most `count` evenly spaced numbers below `total`."""
    count = min(count, total)
    return [i * total // count for i in range(count)]


@click.command()
@click.option("--combination", type=click.Path(path_type=Path), help="From evaluate-mrnn --combine.")
@click.option("--split", default="val", show_default=True)
@click.option("--sentences", default=100, show_default=True, help="Number of sentences to search with.")
@click.option("--images", default=40, show_default=True, help="Number of images to search with.")
@click.option("--index", type=click.Path(path_type=Path), help="Folder that keeps the indexes.")
@click.option("--threads", default=1, show_default=True)
def main(combination: Path | None, split: str, sentences: int, images: int, index: Path | None, threads: int) -> None:
    """Print the recalls of both directions."""
    if combination is None:
        print("nothing is measured: give the combination.json of trained models with --combination")
        return
    torch.set_num_threads(threads)
    with progress_shown():
        together = open_combination(combination).gallery(split=split, index=index).together
        size, said = len(together.gallery.images), together.gallery.sentences().texts
        names = " + ".join(member.gallery.trained.name for member in together.members)
        print(f"{names}, {split}: {size} images, {len(said)} different sentences")
        print(" " * 30 + "".join(f"{percent:>6} %" for percent in PERCENTS))
        shares = []
        for number in evenly(len(said), sentences):
            tokens, _ = together.tokens(said[number])
            shares.append(found(together.image_values(tokens, np.arange(size)), together.first_images(tokens)))
        print_row(f"{len(shares)} sentences -> images", shares)
        shares = []
        rows = [member.gallery.features for member in together.members]
        for place in evenly(size, images):
            asked = [int(member.gallery.images[place]) for member in together.members]
            values = together.sentence_values(rows, asked, np.arange(len(said)), nearly=True)
            shares.append(found(values, together.first_sentences(rows, asked)))
        print_row(f"{len(shares)} images -> sentences", shares)


def print_row(label: str, shares: list[list[float]]) -> None:
    """Print the mean shares over the queries."""
    if shares:
        print(f"{label:30}" + "".join(f"{share:8.3f}" for share in np.mean(shares, axis=0)), flush=True)


if __name__ == "__main__":
    main()

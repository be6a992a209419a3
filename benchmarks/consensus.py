"""CPU time of the consensus of one picture, candidates x captions in CIDEr-D: ours and pycocoevalcap's, in one run.

    python benchmarks/consensus.py [--candidates 10] [--captions 75]

The sentences are drawn: as many as Flickr8k's training captions, of words with Zipf's frequencies. That both give the
same similarities is tested (tests/evaluate/metrics/test_parity.py); here pycocoevalcap takes its document
frequencies from the captions of the picture alone, which needs no more time. Medians over the rounds are printed.
"""

import statistics
import time

import click
import numpy as np
from pycocoevalcap.cider.cider_scorer import CiderScorer

from mrnn.data.cider import SentenceVectors

IMAGES, PER_IMAGE, WORDS = 6000, 5, 7000


@click.command()
@click.option("--candidates", default=10, show_default=True, help="Captions of a beam.")
@click.option("--captions", default=75, show_default=True, help="Captions of the nearest pictures.")
@click.option("--rounds", default=5, show_default=True)
def main(candidates: int, captions: int, rounds: int) -> None:
    """Print the time of both for one picture, and the time that counting all sentences takes before."""
    draw = np.random.default_rng(0)
    chances = 1 / np.arange(1, WORDS + 1)
    lengths = draw.integers(6, 15, IMAGES * PER_IMAGE)
    words = draw.choice(WORDS, int(lengths.sum()), p=chances / chances.sum()).astype(str)
    sentences = [list(part) for part in np.split(words, np.cumsum(lengths)[:-1])]
    start = time.process_time()
    vectors = SentenceVectors.of_images(sentences, np.repeat(np.arange(IMAGES), PER_IMAGE))
    print(f"counting {len(sentences):,} sentences: {time.process_time() - start:.2f} s")
    ours, theirs = [], []
    for _ in range(rounds):
        near = draw.permutation(len(sentences))[:captions]
        said = [sentences[n] for n in draw.permutation(len(sentences))[:candidates]]
        start = time.process_time()
        vectors.similarities(said, near)
        ours.append(time.process_time() - start)
        pairs = [(" ".join(one), [" ".join(sentences[n])]) for one in said for n in near]
        start = time.process_time()
        scorer = CiderScorer()
        for pair in pairs:
            scorer += pair
        scorer.compute_doc_freq()
        scorer.compute_cider()
        theirs.append(time.process_time() - start)
    ratios = [slow / fast for slow, fast in zip(theirs, ours, strict=True)]
    print(f"{candidates} x {captions} pairs of one picture: {1000 * statistics.median(ours):.1f} ms")
    print(f"pycocoevalcap: {1000 * statistics.median(theirs):.1f} ms, {statistics.median(ratios):.0f}x as long")


if __name__ == "__main__":
    main()

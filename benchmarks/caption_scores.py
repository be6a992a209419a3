"""CPU time of BLEU, ROUGE-L and CIDEr-D of a captions file: ours and pycocoevalcap's (extra java), in one run.

    python benchmarks/caption_scores.py [--images 1000] [--references 5]

The sentences are drawn, of words with Zipf's frequencies. That both give the same scores is tested on drawn and on real
captions (tests/evaluate/metrics/test_parity.py). Medians over the rounds are printed.
"""

import contextlib
import io
import statistics
import time
from collections.abc import Callable

import click
import numpy as np
from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.rouge.rouge import Rouge

from mrnn.evaluate.metrics import scorers

WORDS = 7000


@click.command()
@click.option("--images", default=1000, show_default=True)
@click.option("--references", default=5, show_default=True, help="Reference sentences per image.")
@click.option("--rounds", default=5, show_default=True)
def main(images: int, references: int, rounds: int) -> None:
    """Print the time of both for each score."""
    draw = np.random.default_rng(0)
    chances = 1 / np.arange(1, WORDS + 1)
    lengths = draw.integers(6, 15, images * (references + 1))
    words = draw.choice(WORDS, int(lengths.sum()), p=chances / chances.sum()).astype(str)
    sentences = [part.tolist() for part in np.split(words, np.cumsum(lengths)[:-1])]
    said = {str(image): sentences[image] for image in range(images)}
    known = {image: sentences[images + n * references :][:references] for n, image in enumerate(said)}
    texts = {image: [" ".join(words)] for image, words in said.items()}
    known_texts = {image: [" ".join(words) for words in each] for image, each in known.items()}
    pairs: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
        "BLEU": (lambda: scorers.bleu(known, said), lambda: Bleu(4).compute_score(known_texts, texts, verbose=0)),
        "ROUGE-L": (lambda: scorers.rouge_l(known, said), lambda: Rouge().compute_score(known_texts, texts)),
        "CIDEr-D": (lambda: scorers.cider(known, said), lambda: Cider().compute_score(known_texts, texts)),
    }
    print(f"{images:,} images, {references} references each, CPU time")
    for name, functions in pairs.items():
        ours, theirs = zip(*(map(seconds, functions) for _ in range(rounds)), strict=True)
        ratio = statistics.median(slow / fast for fast, slow in zip(ours, theirs, strict=True))
        print(
            f"{name:<8} {1000 * statistics.median(ours):7.1f} ms, pycocoevalcap {1000 * statistics.median(theirs):7.1f}"
            f" ms, {ratio:.1f}x as long"
        )


def seconds(function: Callable[[], object]) -> float:
    """CPU time of a call, whose prints are dropped."""
    start = time.process_time()
    with contextlib.redirect_stdout(io.StringIO()):
        function()
    return time.process_time() - start


if __name__ == "__main__":
    main()

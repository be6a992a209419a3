"""Settings of an evaluation, each declared once; commands make their options of them. Nothing here imports torch."""

from dataclasses import asdict, dataclass
from typing import Any

from mrnn.data.errors import SettingError
from mrnn.data.settings import check_settings, setting

CONSENSUS_BEAM = 10  # beam width with --consensus where none is given, the paper's
# The measurements of evaluate-mrnn, in their order.
STAGES = ("perplexity", "generation", "retrieval", "grounding", "regions")
ALL = "all"  # instead of a split: every image


@dataclass(frozen=True)
class DecodingConfig:
    """How captions are generated. Raises SettingError for values that are out of bounds or exclude each other."""

    beam: int = setting(5, "Beam width: number of captions kept while searching; 1 is greedy search.", at_least=1)
    sample: bool = setting(False, "Sample captions instead of searching for the most probable ones.")
    temperature: float = setting(
        1.0, "Sampling temperature: log-probabilities are divided by it before a word is drawn.", above=0
    )
    top_k: int = setting(0, "Sample among the K most probable words only; 0 means all words.", at_least=0)
    top_p: float = setting(
        0.0,
        "Sample among the most probable words only, as few as have the probability P together; 0 means all words.",
        at_least=0,
        below=1,
    )
    beam_groups: int = setting(
        1, "Number of groups of the beam for diverse beam search; a divisor of --beam.", at_least=1
    )
    diversity: float = setting(
        0.5,
        "Nats that a word loses for each hypothesis of an earlier group that takes it in the same step; see "
        "--beam-groups.",
        at_least=0,
    )
    block_ngrams: int = setting(0, "Never repeat N words in a row within a caption; 0 allows it.", at_least=0)
    seed: int = setting(0, "Random seed of sampling; each image has its own stream, made of the seed and its id.")
    max_steps: int = setting(
        30, "Maximum caption length in words, the prefix and END included; longer captions are cut.", at_least=1
    )
    length_norm: bool = setting(
        False, "Rank the captions that the beam ends with by log-probability per word instead of their sum."
    )
    suppress_unknown: bool = setting(True, "Never generate <unk>; its probability is not given to other words.")

    def __post_init__(self) -> None:
        check_settings(self)
        if self.sample and self.beam != 1:
            raise SettingError("sampling keeps one hypothesis: use a beam of 1")
        if self.beam % self.beam_groups:
            raise SettingError(f"a beam of {self.beam} cannot be split into {self.beam_groups} groups of equal size")


@dataclass(frozen=True)
class ConsensusConfig:
    """How a beam is ranked again by consensus. Raises SettingError for values that are out of bounds.

    The defaults were chosen on the dev split (docs/experiments.md).
    """

    consensus_images: int = setting(
        15, "Number of nearest training images whose captions --consensus compares with.", at_least=1
    )
    consensus_captions: int = setting(
        75, "Number of those captions, the most similar ones, over which --consensus averages.", at_least=1
    )
    consensus_log_prob: float = setting(
        0.0,
        "Weight of the log-probability per word, which --consensus adds to the mean similarity; 0 leaves it out.",
        at_least=0,
    )
    consensus_distance: str = setting(
        "cosine", "Distance by which --consensus finds the nearest training images.", choices=("cosine", "euclidean")
    )

    def __post_init__(self) -> None:
        check_settings(self)


def check_beam(decoding: DecodingConfig) -> None:
    """Raise SettingError if a search leaves --consensus nothing to choose from."""
    if decoding.beam < 2:
        remedy = "leave out --sample" if decoding.sample else f"use --beam {CONSENSUS_BEAM}, not 1"
        raise SettingError(f"--consensus chooses among the captions of a beam: {remedy}")


@dataclass(frozen=True)
class RetrievalConfig:
    """What is ranked, and how. Raises SettingError for values out of bounds, or several folds without a pool size.

    bound_words and full_pass change the running time, never a rank.
    """

    pool: int | None = setting(
        None,
        "Number of images to retrieve among, the first of the split.  [default: all that have captions]",
        kind=int,
        at_least=1,
    )
    folds: int = setting(
        1, "Number of pools, taken in the order of the split; results are averaged over them.", at_least=1
    )
    normaliser_images: int = setting(
        1000,
        "Number of training images that P(w), the probability of a sentence, is averaged over (of models that match, "
        "mean and deviation of the score); 0 ranks sentences by log P(w|I), or the score, alone.",
        at_least=0,
    )
    seed: int = setting(0, "Random seed that draws the training images for P(w).")
    top: int = setting(5, "Number of results to list per query.", at_least=1)
    per_word: bool = setting(False, "Also rank sentences by log P(w|I) per word.")
    bound_words: int = setting(
        64,
        "Number of words in the bounds by which pairs are ruled out without scoring; affects the speed only.",
        at_least=1,
    )
    dev_images: int = setting(
        300, "Number of images of the dev split, the first ones, on which --combine chooses its weights.", at_least=1
    )
    local_scaling: bool = setting(
        False,
        "Correct the scores of models that match for pictures and sentences that score high with everything near them "
        "(CSLS): better retrieval with 1,000 --normaliser-images.",
    )
    full_pass: bool = setting(False, "Score every pair instead of ruling pairs out by bounds: same ranks, slower.")

    def __post_init__(self) -> None:
        check_settings(self)
        if self.folds > 1 and self.pool is None:
            raise SettingError("several folds need the size of a pool: --pool 1000 --folds 5")

    def changing_results(self) -> dict[str, Any]:
        """The settings that results depend on."""
        return {name: value for name, value in asdict(self).items() if name not in ("bound_words", "full_pass")}

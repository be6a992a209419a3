"""What a user is told about the data of a run: what is trained on, what is left out, what is amiss."""

from collections.abc import Callable, Sequence

from mrnn.data.cache import STATE_FAILED, FeatureCache
from mrnn.data.vocabulary import Vocabulary
from mrnn.train.sentences import Sentences

Report = Callable[[str], None]
MUCH_UNKNOWN = 0.1  # share of the words in training sentences; of Flickr8k 3 % are <unk> with the default cutoff


def split_remedy(cache: FeatureCache) -> str:
    """What to do about a split without images."""
    if len(cache.images) < 3:
        return (
            f"; it has {len(cache.images)} in all, and at least three are needed, one for each of train, val and test"
        )
    return "; give the data set a list of splits, or leave all splits out to have them drawn at random"


def data_warnings(words: Sequence[Sequence[str]], vocabulary: Vocabulary, *, cutoff: int) -> list[str]:
    """A warning where much of what the training sentences say is <unk> to the model. words : of each sentence."""
    total = sum(map(len, words))
    unknown = sum(word not in vocabulary.numbers for sentence in words for word in sentence)
    if unknown <= MUCH_UNKNOWN * total:
        return []
    return [
        f"warning: {unknown / total:.0%} of the words in the training sentences become <unk>, since they occur fewer "
        f"than {cutoff} times; the model knows {len(vocabulary)} words. With few sentences use a lower --cutoff"
    ]


def report_data(
    cache: FeatureCache, vocabulary: Vocabulary, train: Sentences, val: Sentences, report: Report, *, called: str
) -> None:
    """Report what is trained on and what is left out.

    cache : the opened feature cache.
    vocabulary : words by number.
    train, val : sentences of the two splits.
    report : called with each line.
    called : what those sentences are, in the plural.
    """
    report(
        f"{cache.path}: {len(cache.done('train'))} training images with {len(train)} {called}, "
        f"{len(cache.done('val'))} dev images with {len(val)}; {len(vocabulary)} words"
    )
    failed = int((cache.states == STATE_FAILED).sum())
    if failed:
        report(f"left out: {failed} images that could not be read at extraction (inspect-features lists them)")
    if train.skipped + val.skipped:
        report(f"left out: {train.skipped + val.skipped} sentences without a word")

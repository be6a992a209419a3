"""What training says of its data before it starts."""

from types import SimpleNamespace

import pytest

from mrnn.data.vocabulary import build_vocabulary
from mrnn.train.data_report import data_warnings, split_remedy

WORDS = [["a", "dog"], ["a", "cat"], ["a", "cow"], ["a", "dog"]]


@pytest.mark.parametrize(("cutoff", "share"), [(1, ""), (2, "25%"), (3, "50%"), (5, "100%")])
def test_a_large_share_of_unknown_words_is_warned_of(cutoff: int, share: str) -> None:
    warnings = data_warnings(WORDS, build_vocabulary(WORDS, cutoff=cutoff), cutoff=cutoff)
    if share:
        (warning,) = warnings
        assert warning.startswith(f"warning: {share} of the words in the training sentences become <unk>")
        assert f"fewer than {cutoff} times" in warning
        assert "--cutoff" in warning
    else:
        assert warnings == []


def test_no_words_need_no_warning() -> None:
    assert data_warnings([], build_vocabulary([], cutoff=1), cutoff=1) == []


def test_one_or_two_images_are_too_few_for_three_splits() -> None:
    for count, says in ((1, "has 1 in all, and at least three"), (2, "has 2 in all"), (9, "a list of splits")):
        assert says in split_remedy(SimpleNamespace(images=[None] * count))  # type: ignore[arg-type]

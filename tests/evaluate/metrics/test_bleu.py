"""BLEU counts: hand-worked sentences, and the community's scorer on any weighting of images."""

import contextlib
import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mrnn.evaluate.metrics.bleu import count_clipped
from mrnn.evaluate.metrics.captions import score_captions

WORDS = st.lists(st.sampled_from("abcd"), max_size=7)


def split_all(sentences: dict[str, list[str]]) -> dict[str, list[list[str]]]:
    return {image: [sentence.split() for sentence in each] for image, each in sentences.items()}


def test_hand_worked_bleu() -> None:
    candidates = {"a": ["the", "the", "the", "cat"], "b": ["a", "dog", "runs"]}
    references = split_all({"a": ["the cat sat on the mat", "the cat"], "b": ["a dog runs fast", "dogs run"]})
    counts = count_clipped(list(candidates.values()), list(references.values()))
    assert counts.hits[:, :2].tolist() == [[3, 1], [3, 2]]  # "the" counts twice at most; the-cat; a-dog, dog-runs
    assert counts.ngrams.tolist() == [[4, 3, 2, 1], [3, 2, 1, 0]]
    # closest lengths: 4 is as far from 6 as from 2, the shorter counts; 3 is as far from 4 as from 2
    assert counts.reference_words.tolist() == [2, 2]
    total = counts.total()
    assert total.precision()[:2] == pytest.approx([6 / 7, 3 / 5])
    assert total.brevity_penalty() == 1.0
    assert total.cumulative()[1] == pytest.approx(np.sqrt(6 / 7 * 3 / 5), abs=1e-6)
    assert count_clipped([["a"]], [[["a", "b", "c"]]]).total().brevity_penalty() == pytest.approx(np.exp(-2))
    scores = score_captions(candidates, references)
    assert scores.ngram_precision[:2] == pytest.approx((6 / 7, 3 / 5))
    assert scores.brevity_penalty == 1.0


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(WORDS, st.lists(WORDS.filter(bool), min_size=1, max_size=3)), min_size=2, max_size=5), st.data()
)
def test_any_resample_equals_the_community_scorer(
    pairs: list[tuple[list[str], list[list[str]]]], data: st.DataObject
) -> None:
    """BLEU of images drawn with repeats = coco-caption's on a list that really repeats them."""
    bleu = pytest.importorskip("pycocoevalcap.bleu.bleu", reason="pycocoevalcap is in the extra java")
    counts = count_clipped([said for said, _ in pairs], [known for _, known in pairs])
    drawn = data.draw(st.lists(st.integers(0, len(pairs) - 1), min_size=2, max_size=8))
    said = {number: [" ".join(pairs[image][0])] for number, image in enumerate(drawn)}
    references = {number: [" ".join(words) for words in pairs[image][1]] for number, image in enumerate(drawn)}
    with contextlib.redirect_stdout(io.StringIO()):
        expected, _ = bleu.Bleu(4).compute_score(references, said, verbose=0)
    weights = np.bincount(drawn, minlength=len(pairs)).astype(float)
    np.testing.assert_allclose(counts.total(weights[None]).cumulative()[0], expected, rtol=1e-9, atol=1e-12)

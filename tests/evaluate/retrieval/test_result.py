"""The summary of ranks by the size of the pool, by hand."""

import pytest

from mrnn.evaluate.retrieval.ranking import Recalls
from mrnn.evaluate.retrieval.result import PERCENTS, ImageAnswer, RetrievalResult, SentenceAnswer, join

NONE = Recalls(0, 0, 0, 0, 0)


def result(images: list[int], sentences: list[int]) -> RetrievalResult:
    """One pool with these worst ranks of images and of their sentences; ties would only have better best ranks."""
    return RetrievalResult(
        recalls={"image_to_sentence": NONE, "sentence_to_image": NONE},
        best_of_ties={},
        images=tuple(ImageAnswer(f"{n}", {"image_to_sentence": (r, 1)}, ()) for n, r in enumerate(images)),
        sentences=tuple(SentenceAnswer("0", n, "", {"sentence_to_image": (r, 1)}, ()) for n, r in enumerate(sentences)),
        pool_images=(len(images),),
        pool_sentences=(len(sentences),),
        normaliser_images=0,
        seed=0,
        local_scaling=False,
        prefix_states=0,
        words_and_ends=0,
        scored_exactly=1.0,
        course=(),
    )


def test_within_percent_counts_against_the_pool_that_is_ranked() -> None:
    found = result([1, 2, 10, 20], [1, 1, 2, 2, 3, 3, 4, 4, *[4] * 12]).summary()["within_percent"]
    assert list(found["image_to_sentence"]) == [str(r) for r in PERCENTS]
    # Images rank 20 sentences: 5 % is the first, 10 % the first two. Sentences rank 4 images: 50 % are two.
    assert found["image_to_sentence"] == {"1": 0, "2": 0, "5": 25, "10": 50, "20": 50, "50": 75}
    assert found["sentence_to_image"] == pytest.approx({"1": 0, "2": 0, "5": 0, "10": 0, "20": 0, "50": 20})


def test_each_query_counts_in_its_own_pool() -> None:
    joined = join([result([1, 1], [1] * 10), result([5] * 4, [1] * 100)]).within_percent()
    assert joined["image_to_sentence"]["5"] == pytest.approx(100 * 4 / 6)  # 5 of 100 yes, 1 of 10 no

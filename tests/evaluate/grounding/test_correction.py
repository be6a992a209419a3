"""Corrections one by one on tiny examples, and the search for their coefficients."""

from dataclasses import asdict

import numpy as np
import pytest

from mrnn.evaluate.grounding.boxes import RIGHT
from mrnn.evaluate.grounding.correction import (
    GRID,
    PLAIN,
    Correction,
    choose,
    corrected_scores,
    search,
    share_right,
)
from mrnn.evaluate.grounding.phrases import Candidates, Phrases

# A picture of 100 x 100: whole, a small region and two that overlap much; the last row of the second picture is none.
PLACES = np.array([[0.0, 0, 100, 100], [80, 80, 10, 10], [10, 10, 40, 40], [15, 10, 40, 40]])


def phrases(
    scores: np.ndarray, truth: np.ndarray | None = None, response: np.ndarray | None = None, images: int = 1
) -> Phrases:
    """Phrases, as many in each of some pictures, that have the regions PLACES."""
    rectangles = np.stack([PLACES] * images)
    valid = np.ones((images, 4), bool)
    valid[1:, 3] = False
    detected = valid & (np.arange(4) > 0)
    image = np.arange(len(scores)) * images // len(scores)
    truth = np.tile(PLACES[2], (len(scores), 1)) if truth is None else truth
    return Phrases(
        image=image,
        words=np.full(len(scores), 2),
        kinds=("thing",) * len(scores),
        scores=np.asarray(scores, float),
        response=np.zeros((images, 4)) if response is None else response,
        right={name: right(rectangles[image], truth[:, None]) for name, right in RIGHT.items()},
        candidates=Candidates(rectangles, valid, detected, np.tile([1, 0.1, 0.9, 0.2], (images, 1))),
    )


def test_plain_is_the_largest_score_of_a_region_that_exists() -> None:
    found = phrases(np.array([[1, 4, 2, 3], [1, 2, 3, 9]]), images=2)
    assert choose(found, PLAIN, "iou").tolist() == choose(found, PLAIN, "pointing").tolist() == [1, 2]
    assert corrected_scores(found, PLAIN)[1, 3] == -np.inf


def test_scores_are_standardised_over_the_regions_that_exist() -> None:
    scores = corrected_scores(phrases(np.array([[1, 4, 2, 3], [1, 2, 3, 9]]), images=2), PLAIN)
    np.testing.assert_allclose(scores[0], (np.array([1, 4, 2, 3]) - 2.5) / np.sqrt(1.25))
    np.testing.assert_allclose(scores[1, :3], (np.array([1, 2, 3]) - 2) / np.sqrt(2 / 3))
    assert not corrected_scores(phrases(np.full((1, 4), 7)), PLAIN).any(), "equal scores have no deviation"


def test_the_response_to_the_mean_word_is_taken_off_for_each_word() -> None:
    found = phrases(np.array([[0, 10, 5, 0]]), response=np.array([[0.0, 4, 1, 0]]))
    assert choose(found, Correction(mean_word=0.5), "iou").tolist() == [1], "10 - 4 against 5 - 1"
    assert choose(found, Correction(mean_word=1), "iou").tolist() == [2], "10 - 8 against 5 - 2"


def test_area_and_the_detectors_score_are_added_as_logarithms() -> None:
    found = phrases(np.array([[1, 4, 2, 3]]))
    plain = corrected_scores(found, PLAIN)
    np.testing.assert_allclose(
        corrected_scores(found, Correction(area=0.5)) - plain, 0.5 * np.log([[1, 0.01, 0.16, 0.16]])
    )
    with_score = corrected_scores(found, Correction(region_score=2)) - plain
    np.testing.assert_allclose(with_score[0, 1:], 2 * np.log([0.1, 0.9, 0.2]))
    np.testing.assert_allclose(with_score[0, 0], with_score[0, 1:].mean())


def test_a_vote_takes_the_region_of_greatest_expected_worth() -> None:
    found = phrases(np.array([[0, 4.0, 3.9, 3.9], [0, 4.0, 3.9, 99]]), images=2)
    for measure in RIGHT:
        scores = corrected_scores(found, PLAIN)
        expected = []
        for row in range(2):
            weights = np.exp(scores[row] / 0.7)
            values = [
                sum(
                    weights[j] / weights.sum() * found.worth[measure][row, i, j]
                    for j in range(4)
                    if np.isfinite(scores[row, j])
                )
                for i in range(4)
                if np.isfinite(scores[row, i])
            ]
            expected.append(int(np.argmax(values)))
        assert choose(found, Correction(temperature=0.7), measure).tolist() == expected
    assert choose(found, Correction(temperature=0.7), "iou")[0] in (2, 3), "two that agree outvote the best"
    assert choose(found, PLAIN, "iou")[0] == 1


def test_worth_of_one_region_where_another_is_right() -> None:
    worth = phrases(np.zeros((1, 4))).worth
    assert worth["iou"][0, 2, 3] == worth["iou"][0, 3, 2] == pytest.approx(35 * 40 / (2 * 1600 - 35 * 40))
    assert worth["pointing"][0, 2, 0], "the centre of a part lies in the whole"
    assert worth["pointing"][0, 0, 2], "50, 50 is the corner"
    assert not worth["pointing"][0, 0, 1]


@pytest.mark.parametrize("measure", RIGHT)
def test_the_search_beats_the_plain_score_and_says_what_each_brought(measure: str) -> None:
    draw = np.random.default_rng(0)
    scores = draw.normal(size=(40, 4)) + np.array([0, 3, 1, 0])
    found = phrases(scores, images=8, truth=PLACES[draw.choice([0, 2], 40)])
    result = search(found, measure)
    assert result.plain == share_right(found, PLAIN, measure)
    assert result.corrected == share_right(found, result.coefficients, measure)
    assert result.corrected > result.plain
    assert result.phrases == 40
    chosen = asdict(result.coefficients)
    assert all(value in GRID[name] for name, value in chosen.items())
    assert result.without.keys() == {name for name, value in chosen.items() if value}
    for name, share in result.without.items():
        assert share == share_right(found, Correction(**{**chosen, name: 0.0}), measure)
        assert share < result.corrected, "a coefficient that brings nothing is 0"


def test_without_words_the_regions_alone_decide() -> None:
    found = phrases(np.random.default_rng(0).normal(size=(12, 4)), images=2).wordless()
    assert set(choose(found, Correction(region_score=1), "iou")) == {2}, "the detector's best"
    assert set(choose(found, Correction(area=1, mean_word=1), "iou")) == {0}, "the whole picture"
    assert search(found, "iou").coefficients.mean_word == 0


def test_where_nothing_helps_nothing_is_corrected() -> None:
    perfect = phrases(np.array([[0, 0, 9, 0], [0, 0, 9, 0]]))
    result = search(perfect, "iou")
    assert (result.coefficients, result.plain, result.corrected, result.without) == (PLAIN, 100, 100, {})
    hopeless = search(phrases(np.zeros((2, 4)), truth=np.full((2, 4), 1000.0)), "iou")
    assert (hopeless.coefficients, hopeless.corrected, hopeless.without) == (PLAIN, 0, {})

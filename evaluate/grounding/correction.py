"""Which region a phrase chooses: by its score alone, or corrected for what the score is blind to.

Eq. 8 of DVSA takes the region with the largest score. Small regions with peaky features win whatever the word is, and
neither the size of a region nor what a detector thinks of it counts. So each phrase's scores may be corrected:

    x_i = z(S_i - mean_word * W s_i) + area * log(area_i) + region_score * log(score_i)

with S_i the score of the phrase of W words and region i, s_i the region's response to the mean word, z(...) the
standard score over the regions of the picture, and area_i the share of the picture. Then the region with the largest
x_i is chosen or, with a temperature, the one of greatest expected worth (minimum Bayes risk):

    argmax_i  sum_j softmax(x / temperature)_j worth(i, j)

worth(i, j) is the overlap of two regions, or for the pointing game whether the centre of i lies in j. The coefficients
are chosen on phrases whose boxes are known, by a coordinate search.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

import numpy as np

from mrnn.evaluate.grounding.phrases import Candidates, Phrases

ROUNDS = 4  # at most, over all coefficients; the search ends with the first that changes none
GRID = {
    "mean_word": (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0),
    "area": (0.0, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0),
    "region_score": (0.0, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5, 2.0),
    "temperature": (0.0, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0),
}


@dataclass(frozen=True)
class Correction:
    """The coefficients, each 0 for no such correction.

    mean_word : how much of the response to the mean word is taken off, for each word
    area : weight of the log of the share of the picture
    region_score : weight of the log of the detector's score
    temperature : of the vote of the regions; 0 for none
    """

    mean_word: float = 0.0
    area: float = 0.0
    region_score: float = 0.0
    temperature: float = 0.0


PLAIN = Correction()
START = Correction(temperature=1.0)  # of the search: the terms are chosen for a vote before it is given up


@dataclass(frozen=True)
class Search:
    """Coefficients chosen for a measure, and what share of the phrases they were chosen on they get right, in percent.

    without : the share with one of the coefficients set to 0 and the others kept, for those that are not 0
    """

    coefficients: Correction
    phrases: int
    plain: float
    corrected: float
    without: dict[str, float]


def corrected_scores(phrases: Phrases, correction: Correction) -> np.ndarray:
    """x of the module's docstring: (P, R), -inf for regions that do not exist."""
    image = phrases.image
    return correct(
        phrases.scores,
        phrases.words[:, None] * phrases.response[image],
        region_terms(phrases.candidates, correction)[image],
        phrases.candidates.valid[image],
        correction,
    )


def region_terms(candidates: Candidates, correction: Correction) -> np.ndarray:
    """The terms of x that do not depend on the phrase: (N, R)."""
    return correction.area * candidates.log_areas() + correction.region_score * candidates.log_scores()


def correct(
    scores: np.ndarray, usual: np.ndarray, terms: np.ndarray, valid: np.ndarray, correction: Correction
) -> np.ndarray:
    """x of the module's docstring for phrases or words: (n, R), -inf for regions that do not exist.

    scores : (n, R), S_i; those of regions that do not exist are not looked at.
    usual : (n, R) or (R,), W s_i, the regions' response to as many mean words.
    terms : (n, R) or (R,), from `region_terms`.
    valid : (n, R) or (R,) bool, which regions exist.
    """
    count = valid.sum(axis=-1, keepdims=True)
    scores = np.where(valid, scores - correction.mean_word * usual, 0)
    scores = np.where(valid, scores - scores.sum(axis=-1, keepdims=True) / count, 0)
    deviation = np.sqrt((scores**2).sum(axis=-1, keepdims=True) / count)
    scores = scores / np.where(deviation > 0, deviation, 1)
    return np.where(valid, scores + terms, -np.inf)


def vote(scores: np.ndarray, worth: np.ndarray, temperature: float) -> np.ndarray:
    """The expected worth of each region of a picture to some phrases or words: (n, R).

    scores : (n, R), x.
    worth : (R, R), what choosing region i is worth if region j is the true one.
    temperature : above 0.
    """
    weights = np.exp((scores - scores.max(axis=1, keepdims=True)) / temperature)
    return weights / weights.sum(axis=1, keepdims=True) @ worth.T


def choose(phrases: Phrases, correction: Correction, measure: str) -> np.ndarray:
    """The region that each phrase chooses: (P,) int64; the first of equal ones.

    measure : whose worth a vote takes, a key of mrnn.evaluate.grounding.boxes.WORTH
    """
    scores = corrected_scores(phrases, correction)
    if correction.temperature:
        for image, worth in enumerate(phrases.worth[measure]):
            mine = slice(phrases.starts[image], phrases.starts[image + 1])
            scores[mine] = vote(scores[mine], worth, correction.temperature)
        scores[~phrases.candidates.valid[phrases.image]] = -np.inf
    return scores.argmax(axis=1)


def share_right(phrases: Phrases, correction: Correction, measure: str) -> float:
    """Percent of the phrases that choose a right region."""
    chosen = choose(phrases, correction, measure)
    return 100 * float(phrases.right[measure][np.arange(len(chosen)), chosen].mean())


def search(phrases: Phrases, measure: str, *, check: Callable[[], None] = lambda: None) -> Search:
    """The coefficients of GRID with the largest share of right phrases that a coordinate search finds.

    phrases : to choose on
    measure : what is right, a key of mrnn.evaluate.grounding.boxes.RIGHT
    check : called before every trial; may raise

    Of equally good values the first counts, and a coefficient without which as many are right becomes 0. The result is
    never worse than no correction.
    """

    def share(correction: Correction) -> float:
        check()
        return share_right(phrases, correction, measure)

    plain, best = share(PLAIN), START
    highest = share(best)
    for _ in range(ROUNDS):
        before = best
        for name, values in GRID.items():
            for value in values:
                trial = replace(best, **{name: value})
                if (found := share(trial)) > highest:
                    best, highest = trial, found
        if best == before:
            break
    if plain >= highest:
        best, highest = PLAIN, plain
    for name in GRID:  # whatever brings nothing is left out
        trial = replace(best, **{name: 0.0})
        if (found := share(trial)) >= highest:
            best, highest = trial, found
    without = {name: share(replace(best, **{name: 0.0})) for name, value in asdict(best).items() if value}
    return Search(best, len(phrases.scores), plain, highest, without)

"""Kendall's tau and the scores that it compares, against brute force and published figures."""

import sys
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from mrnn.data.errors import EvaluationError
from mrnn.evaluate.studies.agreement import agreement, metric_scores, model_scores
from mrnn.evaluate.studies.judgements import read_judgements


def test_agreement_is_kendalls_tau_of_every_rating() -> None:
    generator = np.random.default_rng(0)
    ratings = generator.integers(1, 5, (40, 3))
    scores = np.round(ratings.mean(axis=1) + generator.standard_normal(40), 1)  # some are equal
    pairs = [(score, rating) for score, row in zip(scores, ratings, strict=True) for rating in row]
    signs = [np.sign(a[0] - b[0]) * np.sign(a[1] - b[1]) for a, b in combinations(pairs, 2)]
    ranked = [sum(a[k] != b[k] for a, b in combinations(pairs, 2)) for k in (0, 1)]
    found = agreement(scores, ratings)
    assert found["tau_b"] == pytest.approx(sum(signs) / np.sqrt(ranked[0] * ranked[1]))
    assert found["tau_c"] == pytest.approx(2 * sum(signs) / (len(pairs) ** 2 * (4 - 1) / 4))  # four ratings
    assert found["tau_b"] > 0.1


def test_nothing_ranked_gives_no_number() -> None:
    nothing = {"tau_b": None, "tau_c": None}
    assert agreement(np.zeros(5), np.arange(5.0)[:, None]) == nothing
    assert agreement(np.arange(5.0), np.ones((5, 2))) == nothing
    assert agreement(np.zeros(0), np.zeros((0, 3))) == nothing


def test_without_scipy_one_sentence_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scipy.stats", None)
    with pytest.raises(EvaluationError, match="pip install 'mrnn\\[analysis\\]'"):
        agreement(np.arange(3), np.arange(3)[:, None])


def test_model_scores() -> None:
    found = model_scores(np.array([-6.0, -8.0]), np.array([-7.0, -7.5]), np.array([2, 3]))
    assert {name: values.tolist() for name, values in found.items()} == {
        "log P(w|I)": [-6, -8],
        "log P(w|I) a word": [-2, -2],
        "log P(w|I) - log P(w)": [1, -0.5],
    }
    assert "log P(w|I) - log P(w)" not in model_scores(np.zeros(1), None, np.ones(1))


def test_published_correlations_are_met(real_data: Path) -> None:
    """tau_c on Flickr8k-Expert that the code of CLIPScore and PAC-S prints (github.com/jmhessel/clipscore issue 3,
    github.com/aimagelab/pacscore issue 3), which the papers' tables give rounded. They tokenise by PTB, we do not."""
    expert, crowd = read_judgements(real_data / "flickr8k")
    assert (len(expert), expert.ratings.size, expert.left_out) == (5664, 16992, 158)
    assert (len(crowd), crowd.ratings.size, crowd.left_out) == (47830, 47830, 0)
    published = {
        "Bleu_1": (32.175, 32.324),
        "Bleu_4": (30.599, 30.776),
        "ROUGE_L": (32.139, 32.314),
        "CIDEr": (43.602, 43.891),
    }
    for name, scores in metric_scores(expert).items():
        found = agreement(scores, expert.ratings)
        assert 100 * found["tau_b"] == pytest.approx(published[name][0], abs=0.06), name
        assert 100 * found["tau_c"] == pytest.approx(published[name][1], abs=0.06), name

"""Judgement files, the papers' protocol, and Kendall's tau, against hand-made cases and published figures."""

import sys
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from mrnn.data.errors import CorpusError, EvaluationError
from mrnn.evaluate.studies.agreement import agreement, metric_scores, model_scores, read_judgements

CAPTIONS = {
    "a.jpg": ["A dog runs .", "A dog runs in snow .", "The dog"],
    "b.jpg": ["A cat sleeps .", "A dog runs .", "A cat"],
}
EXPERT = ["a.jpg\tb.jpg#0\t1\t1\t2", "a.jpg\ta.jpg#1\t4\t4\t3", "b.jpg\ta.jpg#0\t1\t2\t1", "b.jpg\ta.jpg#1\t2\t2\t3"]
CROWD = ["a.jpg\tb.jpg#1\t0.333333333333333\t1\t2", "a.jpg\tb.jpg#0\t0\t0\t3", "b.jpg\tb.jpg#2\t1\t4\t0"]


def write(root: Path, *, expert: list[str] | None = None, crowd: list[str] | None = None) -> Path:
    lines = [f"{image}#{k}\t{text}" for image, texts in CAPTIONS.items() for k, text in enumerate(texts)]
    for name, rows in (
        ("Flickr8k.token.txt", lines),
        ("ExpertAnnotations.txt", EXPERT if expert is None else expert),
        ("CrowdFlowerAnnotations.txt", CROWD if crowd is None else crowd),
    ):
        (root / name).write_text("".join(f"{row}\n" for row in rows))
    return root


def test_the_papers_protocol(tmp_path: Path) -> None:
    expert, crowd = read_judgements(write(tmp_path))
    # a.jpg with its own caption is left out; so is b.jpg with one of the same words as its own
    assert list(zip(expert.images, expert.captions, strict=True)) == [
        ("a.jpg", "A cat sleeps ."),
        ("b.jpg", "A dog runs in snow ."),
    ]
    assert expert.left_out == 2
    assert expert.ratings.tolist() == [[1, 1, 2], [2, 2, 3]]
    assert expert.references == (tuple(CAPTIONS["a.jpg"]), tuple(CAPTIONS["b.jpg"])), "Expert keeps all references"
    # CrowdFlower keeps all pairs, and takes captions judged for their own image out of its references everywhere
    assert crowd.images == ("a.jpg", "a.jpg", "b.jpg")
    assert crowd.left_out == 0
    np.testing.assert_allclose(crowd.ratings, [[1 / 3], [0], [1]])
    assert crowd.references == (("A dog runs in snow .", "The dog"),) * 2 + (("A cat sleeps .", "A dog runs ."),)
    assert (expert.coefficient, crowd.coefficient) == ("tau_c", "tau_b")
    one = expert.only(np.array([False, True]))
    assert (one.images, one.ratings.tolist(), one.left_out) == (("b.jpg",), [[2, 2, 3]], 2)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"expert": [*EXPERT, "a.jpg\tb.jpg#0\t1\t1"]}, r"ExpertAnnotations.txt, line 5: expected an image, a caption"),
        ({"expert": ["a.jpg\tb.jpg#0\t1\t5\t1"]}, r"line 1: .* three ratings from 1 to 4"),
        ({"expert": ["a.jpg b.jpg#0 1 1 1"]}, r"line 1: .* with tabs between, found 'a.jpg b.jpg#0 1 1 1'"),
        ({"expert": []}, r"holds no judgement"),
        ({"expert": ["a.jpg\tc.jpg#0\t1\t1\t1"]}, r"line 1: the captions of the data set have no 'c.jpg#0'"),
        ({"expert": ["c.jpg\ta.jpg#0\t1\t1\t1"]}, r"judged image 'c.jpg' has no captions"),
        ({"crowd": ["a.jpg\tb.jpg#0\t0.5\t1\t2"]}, r"CrowdFlowerAnnotations.txt, line 1: .* the yeses and the noes"),
        ({"crowd": ["a.jpg\tb.jpg#0\t0\t0\t0"]}, r"line 1"),
        ({"crowd": [f"a.jpg\ta.jpg#{k}\t0\t0\t3" for k in range(3)]}, r"'a.jpg' has no captions to compare with"),
    ],
)
def test_bad_files_are_named_with_their_line(tmp_path: Path, files: dict[str, list[str]], message: str) -> None:
    with pytest.raises(CorpusError, match=message):
        read_judgements(write(tmp_path, **files))


def test_missing_files_are_named(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "CrowdFlowerAnnotations.txt").unlink()
    with pytest.raises(CorpusError, match="looked for CrowdFlowerAnnotations.txt; found .*ExpertAnnotations.txt"):
        read_judgements(tmp_path)


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

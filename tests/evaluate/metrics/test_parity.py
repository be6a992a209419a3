"""BLEU, ROUGE-L and CIDEr-D are those of coco-caption: equal to pycocoevalcap's, of the extra java, to 1e-9."""

import contextlib
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mrnn.data.cider import DocumentFrequencies, SentenceVectors, cider_d
from mrnn.data.flickr import read_flickr8k
from mrnn.evaluate.metrics.captions import score_captions
from mrnn.evaluate.metrics.tokenizers import tokenize_all

bleu = pytest.importorskip("pycocoevalcap.bleu.bleu", reason="pycocoevalcap, of the extra java, is not installed")
rouge = pytest.importorskip("pycocoevalcap.rouge.rouge")
cider = pytest.importorskip("pycocoevalcap.cider.cider")
cider_scorer = pytest.importorskip("pycocoevalcap.cider.cider_scorer")

# few words, so that n-grams repeat within and between sentences; one with a no-break space, as PTB tokens can have
WORDS = st.sampled_from(["a", "b", "c", "d", "1\xa01/2"])
PAIRS = st.lists(
    st.tuples(st.lists(WORDS, max_size=9), st.lists(st.lists(WORDS, min_size=1, max_size=9), min_size=1, max_size=4)),
    min_size=1,
    max_size=6,
)


def theirs(
    candidates: Mapping[str, Sequence[str]], references: Mapping[str, Sequence[Sequence[str]]]
) -> dict[str, tuple[float, np.ndarray]]:
    """The scores of pycocoevalcap: of the corpus, and of every image."""
    said = {image: [" ".join(words)] for image, words in candidates.items()}
    known = {image: [" ".join(words) for words in each] for image, each in references.items()}
    with contextlib.redirect_stdout(io.StringIO()), np.errstate(all="ignore"):
        corpus, each = bleu.Bleu(4).compute_score(known, said, verbose=0)
        found = {f"Bleu_{n + 1}": (corpus[n], np.array(each[n])) for n in range(4)}
        return found | {
            "ROUGE_L": rouge.Rouge().compute_score(known, said),
            "CIDEr": cider.Cider().compute_score(known, said),
        }


def check_equal(
    candidates: Mapping[str, Sequence[str]], references: Mapping[str, Sequence[Sequence[str]]]
) -> dict[str, float]:
    """Our scores of the corpus, which, like those of each image, are theirs to 1e-9."""
    ours = score_captions(candidates, references)
    for key, (corpus, each) in theirs(candidates, references).items():
        assert ours.corpus[key] == pytest.approx(corpus, abs=1e-9), key
        found = [scores[key] for scores in ours.per_image.values()]
        np.testing.assert_allclose(found, each, rtol=0, atol=1e-9, err_msg=key)
    return ours.corpus


@settings(max_examples=80, deadline=None)
@given(PAIRS)
@example([([], [["a"]])])
@example([(["a", "a"], [["a"]]), ([], [["b", "b"], ["b"]])])
def test_drawn_sentences(pairs: list[tuple[list[str], list[list[str]]]]) -> None:
    check_equal(
        {str(n): said for n, (said, _) in enumerate(pairs)}, {str(n): known for n, (_, known) in enumerate(pairs)}
    )


@pytest.mark.parametrize("shift", [0, 17])
def test_flickr8k_test(real_data: Path, shift: int) -> None:
    """Each of the five captions in turn, of the image itself or of another, against all five or the other four."""
    images = [image for image in read_flickr8k(real_data / "flickr8k").images if image.split == "test"]
    assert len(images) == 1000
    said = {image.id: images[(place + shift) % len(images)].sentences[place % 5] for place, image in enumerate(images)}
    known = {
        image.id: [text for number, text in enumerate(image.sentences) if shift or number != place % 5]
        for place, image in enumerate(images)
    }
    found = check_equal(*tokenize_all(said, known, tokenizer="ptb"))
    assert found["CIDEr"] < 0.1 if shift else found["CIDEr"] > 0.7


class OnePair(cider_scorer.CiderScorer):
    """CIDEr-D of one sentence with one reference, its document frequencies those of some images' sentences."""

    def __init__(self, images: Sequence[Sequence[str]]) -> None:
        super().__init__()
        for sentences in images:
            self += ("", list(sentences))
        self.compute_doc_freq()
        self.images = len(images)

    def similarity(self, one: str, other: str) -> float:
        self.ctest: list[object] = []
        self.crefs: list[object] = []
        self += (one, [other])
        self.crefs = Padded(self.crefs, self.images)
        return float(self.compute_cider()[0])


class Padded(list[object]):
    """A list that claims another length: the scorer takes the number of images from it."""

    def __init__(self, content: Sequence[object], length: int) -> None:
        super().__init__(content)
        self.length = length

    def __len__(self) -> int:
        return self.length


def test_equals_the_scorer_of_coco_caption_with_one_reference() -> None:
    draw = np.random.default_rng(4)
    words = [f"w{n}" for n in range(12)]
    images = [
        [" ".join(draw.choice(words, draw.integers(1, 14))) for _ in range(draw.integers(1, 4))] for _ in range(15)
    ]
    owners = np.repeat(np.arange(15) * 3, [len(sentences) for sentences in images])
    sentences = [sentence for each in images for sentence in each]
    vectors = SentenceVectors.of_images([sentence.split() for sentence in sentences], owners)
    candidates = [*sentences[:5], "w1 new w2 w3 new w1 new", "", "new", "w1", "w3 w3 w3 w3 w3 w3"]
    chosen = draw.permutation(len(sentences))[:20]
    found = vectors.similarities([candidate.split() for candidate in candidates], chosen)
    scorer = OnePair(images)
    expected = [[scorer.similarity(candidate, sentences[n]) for n in chosen] for candidate in candidates]
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)
    assert found.max() > 9
    assert 0 < np.median(found) < 1
    for row, candidate in enumerate(candidates):  # whatever is asked with it
        alone = vectors.similarities([candidate.split()], chosen[3:4])
        assert alone[0, 0] == found[row, 3]


def test_document_frequencies_of_other_images() -> None:
    draw = np.random.default_rng(5)
    words = [f"w{n}" for n in range(12)]
    background, references = (
        [[" ".join(draw.choice(words[low:], draw.integers(1, 12))) for _ in range(3)] for _ in range(count)]
        for low, count in ((0, 20), (3, 6))
    )
    candidates = [*(each[0] for each in references[1:]), "w3 w11 w4 new new"]
    scorer = OnePair(background)
    frequencies = DocumentFrequencies.count([[text.split() for text in each] for each in background])
    for some in (slice(0, 6), slice(0, 1)):  # one image alone, too
        said, known = candidates[some], references[some]
        found = cider_d(
            [text.split() for text in said], [[text.split() for text in each] for each in known], frequencies
        )
        expected = [
            np.mean([scorer.similarity(one, text) for text in each]) for one, each in zip(said, known, strict=True)
        ]
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)
        assert max(expected) > 0.5

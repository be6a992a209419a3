"""Corrections of the words of any sentence: the same choices as for phrases, the file, and files of something else."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mrnn.data.cache import open_cache
from mrnn.data.errors import EvaluationError
from mrnn.evaluate.evaluation import evaluate
from mrnn.evaluate.fit import features_for
from mrnn.evaluate.grounding.alignments import align
from mrnn.evaluate.grounding.correction import Correction, choose
from mrnn.evaluate.grounding.corrector import FILE, Corrector, read_corrector
from mrnn.evaluate.grounding.phrases import mean_word, score_phrases
from mrnn.evaluate.grounding.segments import best_regions
from mrnn.train.checkpoint import load_trained
from mrnn.train.pair_scores import region_vectors

World = Callable[..., tuple[Path, Path]]
BOXES = {"val": 0, "test": 1}


@pytest.mark.parametrize(
    "correction",
    [
        Correction(),
        Correction(mean_word=1, area=0.7, region_score=0.5),
        Correction(mean_word=0.5, area=1, region_score=0.3, temperature=0.7),
    ],
)
def test_a_phrase_of_one_word_chooses_what_its_word_chooses(correction: Correction, make_world: World) -> None:
    run, file = make_world(kind="alignment", regions=5, boxes=BOXES)
    trained, cache = load_trained(run), open_cache(file)
    features, images = features_for(trained, cache), cache.done("test")
    mean = mean_word(trained.model, cache, cache.done("val"), trained.vocabulary)
    phrases = score_phrases(trained.model, cache, features, images, trained.vocabulary, mean=mean)
    # The boxes of this world name two words each; their scores stand for those of a single word here.
    phrases = replace(phrases, words=np.ones_like(phrases.words))
    corrector = Corrector(correction, mean.double().numpy(), "")
    chosen = []
    for row, image in enumerate(images):
        places = replace(
            phrases.candidates,
            **{name: getattr(phrases.candidates, name)[row : row + 1] for name in vars(phrases.candidates)},
        )
        regions = region_vectors(trained.model, features, np.array([image]))[:, 0].numpy()
        scores = phrases.scores[phrases.image == row]
        chosen += corrector(scores, regions, places).argmax(1).tolist()
    assert chosen == choose(phrases, correction, "iou").tolist()
    assert len(set(chosen)) > 1


def test_the_file_of_an_evaluation_corrects_alignments(make_world: World, tmp_path: Path) -> None:
    run, file = make_world(kind="alignment", regions=5, boxes=BOXES)
    metrics = evaluate(run, file, output=tmp_path / "out", stages=["grounding"])
    trained, cache = load_trained(run), open_cache(file)
    corrector = read_corrector(tmp_path / "out" / FILE, trained)
    assert corrector.correction == Correction(**metrics["grounding"]["search"]["iou"]["coefficients"])
    mean = mean_word(trained.model, cache, cache.done("val"), trained.vocabulary)
    np.testing.assert_allclose(corrector.mean_word, mean, rtol=1e-6)
    assert "mean_word" not in metrics["grounding"]
    images = cache.done("test")
    plain, corrected = (list(align(trained, cache, images, beta=0, corrector=each)) for each in (None, corrector))
    assert [each.words for each in plain] == [each.words for each in corrected]
    assert [each.segments for each in plain] != [each.segments for each in corrected]
    resumed = tmp_path / "out" / FILE
    resumed.unlink()
    evaluate(run, file, output=tmp_path / "out", stages=[])
    assert read_corrector(resumed, trained).to_json() == corrector.to_json()


def test_regions_that_do_not_exist_are_never_chosen(make_world: World) -> None:
    run, file = make_world(kind="alignment", regions=5, boxes=BOXES)
    trained, cache = load_trained(run), open_cache(file)
    mean = mean_word(trained.model, cache, cache.done("val"), trained.vocabulary).double().numpy()
    for correction in (Correction(), Correction(mean_word=1, temperature=3.0)):
        for each in align(trained, cache, cache.done("test"), beta=0.1, corrector=Corrector(correction, mean, "")):
            valid = cache.regions.valid.reshape(-1, 5)[each.image]
            assert all(valid[segment.region] for segment in each.segments)
            assert all(np.isfinite(segment.score) for segment in each.segments)
    assert best_regions(np.array([[1.0, -np.inf], [0.0, -np.inf]]), beta=0.1).tolist() == [0, 0]


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"coefficients": {"other": 1}}'])
def test_files_without_corrections_are_refused(content: str, make_world: World, tmp_path: Path) -> None:
    trained = load_trained(make_world(kind="alignment", regions=5)[0])
    path = tmp_path / FILE
    with pytest.raises(EvaluationError, match=r"correction\.json: No such file"):
        read_corrector(path, trained)
    path.write_text(content)
    with pytest.raises(EvaluationError, match=r"holds no corrections; give the correction\.json that evaluate-mrnn"):
        read_corrector(path, trained)


def test_corrections_of_another_checkpoint_are_refused(make_world: World, tmp_path: Path) -> None:
    run, file = make_world(kind="alignment", regions=5, boxes=BOXES)
    evaluate(run, file, output=tmp_path / "out", stages=["grounding"])
    path = tmp_path / "out" / FILE
    path.write_text(json.dumps({**json.loads(path.read_text()), "checkpoint_sha256": "0" * 64}))
    with pytest.raises(EvaluationError, match="were chosen for another checkpoint than"):
        read_corrector(path, load_trained(run))

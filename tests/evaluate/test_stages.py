"""Stages keep what they have finished, and stopped ones end with the same results as undisturbed ones."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mrnn.data.cache import open_cache
from mrnn.data.errors import EvaluationError, Stopped
from mrnn.data.stopping import EXIT_STOPPED, StopRequest
from mrnn.evaluate import stages
from mrnn.evaluate.decode import DecodingConfig
from mrnn.evaluate.parts import Parts, ScoreFile, only_one
from mrnn.evaluate.retrieval import RetrievalScorer
from mrnn.evaluate.stages import Evaluation, generation_stage, retrieval_stage, sample_training_images, summarise
from mrnn.train.batches import Features
from mrnn.train.checkpoint import load_trained

World = Callable[..., tuple[Path, Path]]
RETRIEVAL = {"pool": None, "normaliser_images": 6, "seed": 0}


def evaluation(world: tuple[Path, Path], output: Path, *, stop: StopRequest | None = None) -> Evaluation:
    run, file = world
    cache = open_cache(file)
    parts = Parts(output, {"cache": "as it is"})
    return Evaluation(
        load_trained(run), cache, "test", cache.done("test"), Features(cache), parts, stop or StopRequest()
    )


class StopAfter(StopRequest):
    """Asks to stop when it has been looked at a number of times."""

    def __init__(self, looks: int) -> None:
        super().__init__()
        self._looks = looks

    @property
    def reason(self) -> str:
        self._looks -= 1
        return "" if self._looks >= 0 else "SIGTERM"


def test_stopped_retrieval_goes_on_where_it_was(
    make_world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = make_world()
    whole = retrieval_stage(evaluation(world, tmp_path / "whole"), **RETRIEVAL)
    with pytest.raises(Stopped) as stopped:
        retrieval_stage(evaluation(world, tmp_path / "parts", stop=StopAfter(4)), **RETRIEVAL)
    assert stopped.value.exit_code == EXIT_STOPPED
    scored = []
    score = RetrievalScorer.score
    monkeypatch.setattr(RetrievalScorer, "score", lambda self, feature: scored.append(1) or score(self, feature))
    assert retrieval_stage(evaluation(world, tmp_path / "parts"), **RETRIEVAL) == whole
    assert len(scored) == 10 + 6 - 5, "ten images and six of the prior, five of them finished before"
    assert retrieval_stage(evaluation(world, tmp_path / "parts"), **RETRIEVAL) == whole
    assert len(scored) == 11, "finished: nothing is scored again"
    names = [f"{folder}/parts/scores.npy" for folder in ("whole", "parts")]
    first, second = (np.load(tmp_path / name) for name in names)
    assert first.tobytes() == second.tobytes()


def test_retrieval_of_an_older_version_gets_its_ranks_without_scoring(
    make_world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = make_world()
    whole = retrieval_stage(evaluation(world, tmp_path), **RETRIEVAL)
    assert whole is not None
    assert len(whole["ranks"]["image_to_sentence"]) == whole["images"] == 10
    assert len(whole["ranks"]["sentence_to_image"]) == whole["sentences"]
    recall = 100 * np.mean(np.array(whole["ranks"]["sentence_to_image"]) <= 5)
    assert whole["sentence_to_image"]["R@5"] == pytest.approx(recall)
    parts = evaluation(world, tmp_path).parts
    settings = {"images": 10, "normaliser_images": 6, "seed": 0}
    assert parts.load("retrieval", settings) == whole
    old = {name: value for name, value in whole.items() if name != "ranks"}
    parts.save("retrieval", settings, old)
    monkeypatch.setattr(RetrievalScorer, "score", lambda self, feature: pytest.fail("scored again"))
    assert retrieval_stage(evaluation(world, tmp_path), **RETRIEVAL, run=False) == old
    assert retrieval_stage(evaluation(world, tmp_path), **RETRIEVAL) == whole


def test_stopped_captions_go_on_where_they_were(
    make_world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, config = make_world(), DecodingConfig(beam=2)
    whole = generation_stage(evaluation(world, tmp_path / "whole"), config)
    monkeypatch.setattr(stages, "DECODE_IMAGES", 3)
    with pytest.raises(Stopped):
        generation_stage(evaluation(world, tmp_path / "parts", stop=StopAfter(0)), config)
    assert generation_stage(evaluation(world, tmp_path / "parts"), config, run=False) is None
    done = evaluation(world, tmp_path / "parts").parts.load(
        "captions", {**stages.decoding_settings(config, ()), "kept": 2}
    )
    assert len(done) == 3
    resumed = generation_stage(evaluation(world, tmp_path / "parts"), config)
    assert whole is not None
    assert resumed is not None
    assert [[caption.words for caption in beam] for beam in resumed] == [
        [caption.words for caption in beam] for beam in whole
    ]
    assert {len(beam) for beam in resumed} == {2}
    assert resumed[0] == whole[0]


def test_other_settings_do_not_take_up_foreign_work(make_world: World, tmp_path: Path) -> None:
    world = make_world()
    one = retrieval_stage(evaluation(world, tmp_path), **RETRIEVAL)
    raw = retrieval_stage(evaluation(world, tmp_path), pool=None, normaliser_images=0, seed=0)
    assert one is not None
    assert raw is not None
    assert raw["image_to_sentence"] == raw["image_to_sentence_raw"] == one["image_to_sentence_raw"]
    assert raw["sentence_to_image"] == one["sentence_to_image"]
    pool = retrieval_stage(evaluation(world, tmp_path), pool=4, normaliser_images=0, seed=0)
    assert pool is not None
    assert pool["images"] == 4
    assert len(pool["answers"]) == 4


def test_retrieval_counts_and_answers(make_world: World, tmp_path: Path) -> None:
    world = make_world()
    cache = open_cache(world[1])
    result = retrieval_stage(evaluation(world, tmp_path), **RETRIEVAL)
    assert result is not None
    sentences = [s for i in cache.done("test") for s in cache.images[i].sentences]
    assert result["sentences"] == len(sentences) - 1, "the one without a word is left out"
    assert result["prefix_states"] < result["words_and_ends"]
    for image in (cache.images[i] for i in cache.done("test")):
        answer = result["answers"][image.id]
        rights = [right for _, right in answer["sentences"]]
        assert all(text in image.sentences for text, right in answer["sentences"] if right)
        if answer["rank"] <= len(rights) and "best_of_ties" not in result:
            assert rights.index(True) + 1 == answer["rank"]


def test_every_sentence_finds_images(make_world: World, tmp_path: Path) -> None:
    world = make_world()
    cache = open_cache(world[1])
    result = retrieval_stage(evaluation(world, tmp_path), **RETRIEVAL)
    assert result is not None
    scores, ids = np.load(tmp_path / "parts" / "scores.npy")[:10], list(result["answers"])
    own = {image.id: image.sentences for image in cache.images}
    assert len(result["sentence_answers"]) == result["sentences"]
    for number, answer in enumerate(result["sentence_answers"]):
        assert answer["sentence"] in own[answer["image_id"]]
        found = scores[[ids.index(image["image_id"]) for image in answer["images"]], number]
        assert len(found) == 5
        assert found.tolist() == sorted(scores[:, number], reverse=True)[:5]
        right = scores[ids.index(answer["image_id"]), number]
        assert all(image["right"] == (image["image_id"] == answer["image_id"]) for image in answer["images"])
        assert answer["rank"] == (scores[:, number] >= right).sum()
    hits = np.mean([answer["rank"] <= 5 for answer in result["sentence_answers"]])
    assert 100 * hits == pytest.approx(result["sentence_to_image"]["R@5"])


def test_summarise_divides_by_the_mean_over_training_images() -> None:
    sentence_images = np.array([0, 1, 2])
    scores = np.log(np.array([[0.2, 0.9, 0.1], [0.1, 0.9, 0.1], [0.1, 0.9, 0.3]], dtype=np.float32))
    prior = np.log(np.array([[0.1, 0.9, 0.1], [0.1, 0.8, 0.1]], dtype=np.float32))
    summary, answers = summarise(scores, prior, sentence_images)
    assert summary["image_to_sentence_raw"]["R@1"] == pytest.approx(100 / 3), "sentence 1 wins everywhere"
    assert summary["image_to_sentence"]["R@1"] == 100
    assert [answer["sentences"][0] for answer in answers] == [[0, True], [1, True], [2, True]]
    # sentence 1 is the same under every image: worst and best of three
    assert summary["sentence_to_image"]["R@1"] == pytest.approx(200 / 3)
    assert summary["best_of_ties"]["sentence_to_image"]["R@1"] == 100


def test_training_images_of_the_prior(make_world: World) -> None:
    cache = open_cache(make_world()[1])
    some = sample_training_images(cache, 7, seed=1)
    assert some.tolist() == sorted(set(some.tolist()))
    assert len(some) == 7
    assert {cache.images[i].split for i in some} == {"train"}
    assert some.tolist() == sample_training_images(cache, 7, seed=1).tolist()
    assert some.tolist() != sample_training_images(cache, 7, seed=2).tolist()
    assert len(sample_training_images(cache, 1000, seed=1)) == 20
    assert len(sample_training_images(cache, 0, seed=1)) == 0


def test_no_training_images_no_prior(make_world: World) -> None:
    cache = open_cache(make_world()[1])
    cache.states[cache.done("train")] = 2
    with pytest.raises(EvaluationError, match="--normaliser-images 0"):
        sample_training_images(cache, 5, seed=0)


def test_damaged_parts_are_done_again(tmp_path: Path) -> None:
    parts = Parts(tmp_path, {"checkpoint": "a"})
    parts.save("x", {"beam": 2}, [1, 2])
    assert parts.load("x", {"beam": 2}) == [1, 2]
    assert parts.load("x", {"beam": 3}) is None
    assert Parts(tmp_path, {"checkpoint": "b"}).load("x", {"beam": 2}) is None
    (parts.folder / "x.json").write_text('{"settings": ')
    assert parts.load("x", {"beam": 2}) is None

    scores = ScoreFile(parts, {}, (3, 2))
    scores.append(np.array([1, 2]))
    scores.mark()
    scores.append(np.array([3, 4]))  # a kill comes before this one is marked
    again = ScoreFile(parts, {}, (3, 2))
    assert again.done == 1
    assert again.rows[0].tolist() == [1, 2]
    assert ScoreFile(parts, {}, (3, 3)).done == 0
    (parts.folder / "scores.npy").write_bytes(b"not an array")
    assert ScoreFile(parts, {}, (3, 3)).done == 0


def test_two_evaluations_do_not_share_a_folder(tmp_path: Path) -> None:
    with only_one(tmp_path), pytest.raises(EvaluationError, match="another evaluation"), only_one(tmp_path):
        pass

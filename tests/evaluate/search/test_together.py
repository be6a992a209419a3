"""Search by several models: equal to what evaluate --combine measures, both ways; shortlists, kept values, networks."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mrnn.data.cache import open_cache
from mrnn.data.tokenize import tokenize
from mrnn.data.vocabulary import BOUNDARY, UNKNOWN, Vocabulary
from mrnn.evaluate import image_rows, open_combination
from mrnn.evaluate.combination import CombinationGallery
from mrnn.evaluate.evaluation import evaluate
from mrnn.evaluate.retrieval.combination_file import FILE, read_recipe
from mrnn.evaluate.search.search import Search
from mrnn.evaluate.search.together import shared_sentences
from mrnn.evaluate.settings import RetrievalConfig

World = tuple[Path, Path]
Make = Callable[..., World]
CONFIG = RetrievalConfig(normaliser_images=6, top=40, seed=3)
QUERY = "A dog sleeps in snow ."


@pytest.fixture
def make_combination(make_world: Make, tmp_path: Path) -> Callable[..., Path]:
    """Evaluate worlds of some kinds together, each with a weight: the combination.json of it."""

    def make(*kinds: str, config: RetrievalConfig = CONFIG) -> Path:
        worlds = [make_world(kind=kind, regions=1 if kind == "mrnn" else 3, name=f"{kind}.h5") for kind in kinds]
        (run, file), *others = worlds
        evaluate(run, file, combine=others, retrieval=config, device="cpu", output=tmp_path / "together")
        return tmp_path / "together" / FILE

    return make


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def weighted(file: Path, *weights: float) -> Path:
    """The file with other weights."""
    content = json.loads(file.read_text())
    for member, weight in zip(content["members"], weights, strict=True):
        member["weight"] = weight
    file.write_text(json.dumps(content))
    return file


def with_image(gallery: CombinationGallery, image: int, **options: Any) -> Search:
    """The sentences for an image of the caches, by its number in each of them."""
    members = gallery.together.members
    return gallery.together.by_image([each.gallery.features for each in members], [image] * len(members), **options)


@pytest.mark.parametrize(
    ("kinds", "normaliser_images", "local"),
    [
        (("mrnn", "alignment"), 6, False),
        (("mrnn", "alignment"), 6, True),
        (("devise", "mrnn", "transformer"), 6, True),
        (("alignment", "mrnn"), 0, False),
    ],
)
def test_search_and_evaluation_agree_in_both_directions(
    kinds: tuple[str, ...],
    normaliser_images: int,
    local: bool,
    make_combination: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("mrnn.evaluate.retrieval.weights.WEIGHTS", (0.7,))  # so that all members count
    config = replace(CONFIG, normaliser_images=normaliser_images, local_scaling=local)
    file = make_combination(*kinds, config=config)
    combination = open_combination(file, device="cpu")
    assert [reader.trained.name for reader in combination.readers] == list(kinds)
    gallery = combination.gallery(split="test")
    assert len(gallery.priors) == normaliser_images
    answers = lines(file.parent / "retrieved_images.jsonl")
    assert len(answers) > 20
    for answer in answers:
        found = gallery.find_pictures(answer["sentence"], top=40)
        assert found.method["exact"]
        # The evaluation leaves out what is the same for all images of a sentence.
        expected = {each["image_id"]: each["log_prob"] - answer["images"][0]["log_prob"] for each in answer["images"]}
        mine = {each.image_id: each.score - found[0].score for each in found}
        assert mine == pytest.approx(expected, rel=1e-4, abs=1e-4)
        assert [each.score for each in found] == sorted((each.score for each in found), reverse=True)
        gaps = np.diff([each["log_prob"] for each in answer["images"]])
        if (gaps < -1e-3).all():
            assert [each.image_id for each in found] == [each["image_id"] for each in answer["images"]]
    cache = open_cache(combination.caches[0].path)
    numbers = {image.id: number for number, image in enumerate(cache.images)}
    for answer in lines(file.parent / "retrieved_sentences.jsonl"):
        found = with_image(gallery, numbers[answer["image_id"]], top=100)
        theirs = {" ".join(tokenize(each["sentence"])): each["combined"][0] for each in answer["sentences"]}
        mine = {" ".join(tokenize(each.sentences[0])): each.score for each in found}
        assert mine == pytest.approx(theirs, rel=1e-4, abs=1e-4), "each different sentence once"
        assert [mine[text] for text in theirs] == pytest.approx(sorted(mine.values(), reverse=True), abs=1e-4)


def test_members_without_weight_are_left_out(
    make_combination: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mrnn.evaluate.retrieval.weights.WEIGHTS", (0.0,))
    file = make_combination("mrnn", "alignment")
    (member,) = read_recipe(file).members
    assert (member.model, member.weight) == ("mrnn", 1.0)
    found = open_combination(file, device="cpu").gallery(split="test").find_pictures(QUERY)
    assert found.method["text"] == "exact: all 10 images were scored by 1 model"


def test_the_file_says_what_metrics_say(make_combination: Callable[..., Path]) -> None:
    file = make_combination("mrnn", "devise")
    metrics = json.loads((file.parent / "metrics.json").read_text())
    recipe, measured = read_recipe(file), metrics["combined"]["members"]
    assert (recipe.normaliser_images, recipe.seed) == (6, 3)
    for member, said in zip(recipe.members, (each for each in measured if each["weight"]), strict=True):
        assert (member.weight, member.scale, member.model) == (said["weight"], said["scale"], said["model"])
        assert (member.checkpoint_sha256, member.cache_sha256) == (said["checkpoint_sha256"], said["cache_sha256"])


@pytest.fixture
def combined(make_combination: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("mrnn.evaluate.retrieval.weights.WEIGHTS", (0.7,))
    return make_combination("mrnn", "alignment")


def test_a_shortlist_is_chosen_by_the_captioners_and_scored_by_all(combined: Path) -> None:
    gallery = open_combination(combined, device="cpu").gallery()
    exact = {each.image_id: each.score for each in gallery.find_pictures(QUERY, top=100)}
    found = gallery.find_pictures(QUERY, top=2, percent=30)
    assert found.method["text"] == (
        "shortlist: 11 of 34 images (32 %), the best by mrnn alone, were scored by 2 models"
    )
    assert (found.method["exact"], found.method["scored_exactly"]) == (False, 11)
    assert [each.score for each in found] == pytest.approx([exact[each.image_id] for each in found], rel=1e-4)
    alone = open_combination(weighted(combined, 1, 0), device="cpu").gallery()
    first = [each.image_id for each in alone.find_pictures(QUERY, top=11)]
    best = sorted(first, key=lambda image_id: -exact[image_id])[:2]
    assert [each.image_id for each in found] == best, "34 images have 34 anchors, so that first order is exact"


def test_a_shortlist_of_sentences_shows_exact_scores(combined: Path) -> None:
    gallery = open_combination(combined, device="cpu").gallery()
    exact = with_image(gallery, 2, top=100)
    scores = {each.sentences[0]: each.score for each in exact}
    found = with_image(gallery, 2, top=3, percent=50)
    assert found.method["text"].startswith(
        f"shortlist: {-(-len(exact) // 2)} of {len(exact)} different sentences (50 %)"
    )
    assert [each.score for each in found] == pytest.approx([scores[each.sentences[0]] for each in found], abs=1e-3)
    nearly_all = with_image(gallery, 2, top=3, percent=98)
    assert [each.sentences for each in nearly_all] == [each.sentences for each in exact[:3]]


def test_large_galleries_get_a_shortlist_by_themselves(combined: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gallery = open_combination(combined, device="cpu").gallery()
    assert gallery.find_pictures(QUERY, top=2).method["exact"]
    monkeypatch.setattr("mrnn.evaluate.search.numbers.CHEAP", 1)
    assert gallery.find_pictures(QUERY, top=2).method["scored_exactly"] == 4  # 10 % of 34
    found = with_image(gallery, 2, top=2)
    assert found.method["scored_exactly"] == -(-found.gallery // 5)


def test_what_is_computed_once_is_kept_in_files(
    combined: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def search() -> list[Any]:
        gallery = open_combination(combined, device="cpu").gallery(split="test", index=tmp_path / "index")
        return [gallery.find_pictures(QUERY).results, with_image(gallery, 3).results]

    first = search()
    files = {file.name: file.stat().st_mtime_ns for file in (tmp_path / "index" / "1").iterdir()}
    kinds = ("images", "sentences", "training-images")
    assert sorted(files) == [f"moments-of-{kind}-test.safetensors" for kind in kinds]
    monkeypatch.setattr("mrnn.evaluate.search.moments.Moments._add", None)
    assert search() == first, "nothing was computed again"
    assert files == {file.name: file.stat().st_mtime_ns for file in (tmp_path / "index" / "1").iterdir()}
    with pytest.raises(TypeError):
        open_combination(combined, device="cpu").gallery(split="val", index=tmp_path / "index").find_pictures(QUERY)


def test_sentences_differ_where_one_model_tells_them_apart(make_world: Make) -> None:
    cache = open_cache(make_world()[1])
    texts = {" ".join(tokenize(text)) for image in cache.images for text in image.sentences} - {""}
    every = Vocabulary((BOUNDARY, UNKNOWN, *sorted({word for text in texts for word in text.split()})))
    few = Vocabulary((BOUNDARY, UNKNOWN, "a", "cat"))
    images = np.arange(len(cache.images))
    both, alone = shared_sentences(cache, images, [few, every]), shared_sentences(cache, images, [few])
    assert len(both[0].tokens) == len(both[1].tokens) == len(texts) > len(alone[0].tokens)
    assert [" ".join(tokenize(text)) for text in both[1].texts] == [" ".join(every.decode(t)) for t in both[1].tokens]


def test_two_runs_with_one_kind_of_features_read_one_network(
    make_pictured: Make, write_combination: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[Any] = []
    rebuild = image_rows.rebuild_backbone
    monkeypatch.setattr(image_rows, "rebuild_backbone", lambda *a, **k: loaded.append(a) or rebuild(*a, **k))
    file = write_combination(*[make_pictured(source="grid", kind=kind) for kind in ("mrnn", "alignment", "devise")])
    gallery = open_combination(file, device="cpu").gallery()
    cache = open_cache(read_recipe(file).members[0].features)
    found = gallery.find_sentences(cache.root / cache.images[3].path)
    assert len(loaded) == 1
    expected = with_image(gallery, 3)
    assert [each.sentences for each in found] == [each.sentences for each in expected]
    assert [each.score for each in found] == pytest.approx([each.score for each in expected], rel=1e-2, abs=1e-2)

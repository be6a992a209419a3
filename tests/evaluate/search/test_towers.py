"""Search with models that match: brute-force order, standardised as in retrieval, picture files, refusals."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from torch import Tensor

from mrnn.data.cache import open_cache
from mrnn.data.errors import SettingError
from mrnn.data.tokenize import tokenize
from mrnn.evaluate.commands.search import main
from mrnn.evaluate.search import towers
from mrnn.evaluate.search.gallery import Gallery
from mrnn.evaluate.search.search import open_gallery, prior_images, search_by_image, search_by_sentence
from mrnn.train.checkpoint import load_trained
from mrnn.train.features import RegionRows
from mrnn.train.models.two_towers import TwoTowers
from mrnn.train.pair_scores import region_vectors
from mrnn.train.pairs import pack_pairs
from mrnn.train.sentences import encode_sentences

World = tuple[Path, Path]
Make = Callable[..., World]
KINDS = [("alignment", {"score": "max"}), ("alignment", {"score": "sum"}), ("devise", {})]


def open_world(world: World, *, split: str | None = None) -> Gallery:
    return open_gallery(load_trained(world[0]), open_cache(world[1]), split=split)


def score(gallery: Gallery, image: int, text: str) -> float:
    """S of one pair, by the model's own forward pass."""
    one = encode_sentences([tokenize(text)], np.array([image]), gallery.trained.vocabulary)
    value: float = gallery.trained.model(pack_pairs(one, np.array([0]), gallery.features)).item()
    return value


@pytest.mark.parametrize(("kind", "settings"), KINDS)
def test_images_come_in_brute_force_order(make_world: Make, kind: str, settings: dict) -> None:
    gallery = open_world(make_world(kind=kind, regions=3, settings=settings), split="test")
    found = search_by_sentence(gallery, "A zebra sleeps in snow", top=4)
    scores = {gallery.cache.images[i].id: score(gallery, i, "a zebra sleeps in snow") for i in gallery.images}
    best = sorted(scores, key=lambda image_id: -scores[image_id])[:4]
    assert [result.image_id for result in found.results] == best
    assert [result.score for result in found.results] == pytest.approx([scores[each] for each in best], rel=1e-4)
    assert found.unknown_words == ["zebra"]
    assert found.method["text"] == "exact: all 10 images were scored"


@pytest.mark.parametrize("priors", [0, 6])
@pytest.mark.parametrize(("kind", "settings"), KINDS)
def test_sentences_come_in_brute_force_order_in_parts_too(
    make_world: Make, kind: str, settings: dict, priors: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    gallery = open_world(make_world(kind=kind, regions=3, settings=settings), split="val")
    numbers = prior_images(gallery, priors, seed=1)
    expected = {}
    for text in {" ".join(tokenize(text)) for i in gallery.images for text in gallery.cache.images[i].sentences}:
        theirs = np.array([score(gallery, i, text) for i in numbers] or [-1, 1])
        expected[text] = (score(gallery, 2, text) - theirs.mean()) / theirs.std()
    best = sorted(expected, key=lambda text: -expected[text])
    found = search_by_image(gallery, gallery.features, 2, top=100, priors=numbers)
    assert [" ".join(tokenize(result.sentences[0])) for result in found.results] == best
    assert [result.score for result in found.results] == pytest.approx([expected[each] for each in best], rel=1e-3)
    monkeypatch.setattr(towers, "SENTENCES", 2)
    again = search_by_image(gallery, gallery.features, 2, top=100, priors=numbers)
    assert [result.sentences for result in again.results] == [result.sentences for result in found.results]
    assert again.method["text"] == f"exact: all {len(best)} different sentences were scored"


@pytest.mark.parametrize(("kind", "settings"), KINDS)
def test_a_second_search_computes_no_vectors_of_regions_unless_they_are_too_large_to_keep(
    make_world: Make, kind: str, settings: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(towers, "IMAGES", 4)  # several parts
    gallery = open_world(make_world(kind=kind, regions=3, settings=settings), split="test")
    asked = ["a cat sleeps", "a dog", "a cat sleeps"]
    computed: list[int] = []

    def counted(model: TwoTowers, features: RegionRows, images: np.ndarray) -> Tensor:
        computed.extend(images)
        return region_vectors(model, features, images)

    monkeypatch.setattr(towers, "region_vectors", counted)
    kept = [search_by_sentence(gallery, sentence).results for sentence in asked]
    assert computed == list(gallery.images)
    rows = gallery.trained.model.config.rows(3)
    size = 4 * gallery.trained.model.config.joint * rows * len(gallery.images)
    monkeypatch.setattr("mrnn.evaluate.search.gallery.KEPT_BYTES", size - 1)
    computed.clear()
    assert [search_by_sentence(replace(gallery), sentence).results for sentence in asked] == kept, "to the last bit"
    assert computed == 3 * list(gallery.images)
    monkeypatch.setattr("mrnn.evaluate.search.gallery.KEPT_BYTES", size)
    computed.clear()
    again = replace(gallery)
    assert [search_by_sentence(again, sentence).results for sentence in asked] == kept
    assert computed == list(gallery.images)


def test_what_there_is_no_need_of_is_refused(make_world: Make, tmp_path: Path) -> None:
    run, file = world = make_world(kind="alignment", regions=3)
    with pytest.raises(SettingError, match="alignment, which scores all .* exactly.*; leave out --index"):
        open_gallery(load_trained(run), open_cache(file), index=tmp_path)
    gallery = open_world(world)
    with pytest.raises(SettingError, match="leave out --shortlist"):
        search_by_sentence(gallery, "a cat", percent=20)
    with pytest.raises(SettingError, match="leave out --shortlist"):
        search_by_image(gallery, gallery.features, percent=20, priors=np.arange(0))
    assert len(search_by_sentence(gallery, "a cat", percent=100).results) == 10


def run_search(world: World, *arguments: str | Path | int) -> dict:
    options = ["--checkpoint", world[0], "--features", world[1], "--json", *arguments]
    done = CliRunner().invoke(main, [str(option) for option in options])
    assert done.exit_code == 0, done.output
    found: dict = json.loads(done.stdout)
    return found


@pytest.mark.parametrize(("kind", "features"), [("alignment", "crop"), ("devise", "crop"), ("devise", "roi")])
def test_a_picture_of_the_cache_as_a_file_finds_what_the_image_finds(
    make_pictured: Make, kind: str, features: str, tmp_path: Path
) -> None:
    world = make_pictured(source="grid", kind=kind, features=features)
    gallery = open_world(world)
    expected = search_by_image(gallery, gallery.features, 3, priors=prior_images(gallery, 3))
    page = tmp_path / "found.html"
    found = run_search(world, "--image", tmp_path / "3.png", "--normaliser-images", 3, "--html", page)
    assert [result["sentences"] for result in found["results"]] == [each.sentences for each in expected.results]
    assert [result["score"] for result in found["results"]] == pytest.approx(
        [each.score for each in expected.results], rel=1e-2, abs=1e-2
    )
    assert page.read_text().count("data:image/webp") == 3, "two sentences and the picture asked with"
    assert run_search(world, "a dog runs")["method"]["exact"]

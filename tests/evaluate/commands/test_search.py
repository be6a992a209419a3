"""search-images over a small cache: brute-force order, shortlists and their index files, errors, the contact sheet."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image as Picture

from mrnn.data.cache import open_cache
from mrnn.data.tokenize import tokenize
from mrnn.evaluate.commands.search import main
from mrnn.evaluate.retrieval.late_fusion import LateFusionScorer
from mrnn.evaluate.retrieval.pair_scorer import log_normaliser
from mrnn.evaluate.retrieval.prefix_tree import build_prefix_tree
from mrnn.evaluate.retrieval.stage import sample_training_images
from mrnn.evaluate.search.index_file import new_index, open_index
from mrnn.extract.backbones import Backbone, build_backbone
from mrnn.extract.runner import rows_of_pictures
from mrnn.extract.sampling import WholePictures
from mrnn.train.checkpoint import load_trained
from mrnn.train.features import Features

NETWORK = "torchvision:shufflenet_v2_x0_5"
QUERY = "a cat sleeps in snow"
World = tuple[Path, Path]


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return build_backbone(NETWORK, weights="random:0", overrides={"resize": 64, "crop": 64})


@pytest.fixture
def world(make_world: Callable[..., World]) -> World:
    return make_world()


@pytest.fixture
def pictured(make_world: Callable[..., World], backbone: Backbone) -> World:
    """A world whose features a picture file can be compared with."""
    return make_world(provenance={**backbone.provenance(), "dtype": "float16"}, size=backbone.feature_size)


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 255, (80, 120, 3), dtype=np.uint8)
    Picture.fromarray(pixels).save(tmp_path / "asked.png")
    return tmp_path / "asked.png"


def search(world: World, *arguments: str | Path | int) -> Result:
    run, cache = world
    return CliRunner().invoke(main, ["--checkpoint", str(run), "--features", str(cache), *map(str, arguments)])


def answer(world: World, *arguments: str | Path | int) -> dict:
    done = search(world, "--json", *arguments)
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def brute_force_images(world: World, sentence: str, *, split: str | None = None) -> list[tuple[str, float]]:
    trained, cache = load_trained(world[0]), open_cache(world[1])
    scorer = LateFusionScorer(trained.model, build_prefix_tree([trained.vocabulary.encode(tokenize(sentence))]))
    rows = Features(cache)
    scored = [(cache.images[i].id, scorer.score(rows[np.array([i])][0])[0]) for i in cache.done(split)]
    return sorted(scored, key=lambda pair: -pair[1])


def brute_force_sentences(world: World, feature: torch.Tensor) -> dict[str, float]:
    """The score of every sentence of the cache, by its words."""
    trained, cache = load_trained(world[0]), open_cache(world[1])
    texts = [text for image in cache.images for text in image.sentences if tokenize(text)]
    tree = build_prefix_tree([trained.vocabulary.encode(tokenize(text)) for text in texts])
    scorer, rows = LateFusionScorer(trained.model, tree), Features(cache)
    priors = rows[sample_training_images(cache, 1000, seed=0)]
    scores = scorer.score(feature) - log_normaliser(np.stack([scorer.score(row) for row in priors]))
    return {" ".join(tokenize(text)): score for text, score in zip(texts, scores, strict=True)}


@pytest.mark.parametrize("split", [None, "test"])
def test_images_come_in_brute_force_order(world: World, split: str | None) -> None:
    found = answer(world, QUERY, "--top", 7, *(["--split", split] if split else []))
    expected = brute_force_images(world, QUERY, split=split)
    assert [result["image_id"] for result in found["results"]] == [image_id for image_id, _ in expected[:7]]
    np.testing.assert_allclose([r["score"] for r in found["results"]], [s for _, s in expected[:7]], atol=1e-4)
    cache = open_cache(world[1])
    images = {image.id: image for image in cache.images}
    for rank, result in enumerate(found["results"], start=1):
        image = images[result["image_id"]]
        assert result["rank"] == rank
        assert result["path"] == str(cache.root / image.path)
        assert result["sentences"] == list(image.sentences)
    assert found["method"]["exact"]
    assert found["method"]["gallery"] == len(expected)


def test_sentences_come_in_brute_force_order(pictured: World, picture: Path, backbone: Backbone) -> None:
    sampler = WholePictures(backbone, batch_size=1, device=torch.device("cpu"), precision="float32")
    rows = rows_of_pictures(sampler, [picture]).features[:, 0]
    expected = brute_force_sentences(pictured, torch.from_numpy(rows.astype(np.float16).astype(np.float32))[0])
    found = answer(pictured, "--image", picture, "--top", 100)
    texts = [" ".join(tokenize(result["sentences"][0])) for result in found["results"]]
    assert texts == sorted(expected, key=lambda text: -expected[text]), "each different sentence once"
    np.testing.assert_allclose([r["score"] for r in found["results"]], sorted(expected.values())[::-1], atol=1e-4)
    images = {image.id: image for image in open_cache(pictured[1]).images}
    assert all(result["sentences"][0] in images[result["image_id"]].sentences for result in found["results"])


def test_a_shortlist_holds_the_best_by_first_order_scored_exactly(world: World) -> None:
    exact = answer(world, QUERY, "--top", 40)["results"]
    nearly_all = answer(world, QUERY, "--top", 3, "--shortlist", 99)
    assert nearly_all["results"] == exact[:3]
    few = answer(world, QUERY, "--top", 3, "--shortlist", 20)
    assert few["method"]["scored_exactly"] == 7
    assert not few["method"]["exact"]
    assert "recall_of_top_10" in few["method"]
    scores = {result["image_id"]: result["score"] for result in exact}
    assert [r["score"] for r in few["results"]] == pytest.approx([scores[r["image_id"]] for r in few["results"]])
    assert few["results"] == exact[:3], "34 images have 34 anchors of their own, so that first order is exact"


def test_a_shortlist_of_sentences_says_what_is_exact(pictured: World, picture: Path) -> None:
    raw = answer(pictured, "--image", picture, "--top", 3, "--normaliser-images", 0)
    shortlisted = answer(pictured, "--image", picture, "--top", 3, "--normaliser-images", 0, "--shortlist", 99.9)
    assert shortlisted["results"] == raw["results"]
    assert raw["method"]["exact"]
    assert not shortlisted["method"]["exact"]
    exact = {r["sentences"][0]: r["score"] for r in answer(pictured, "--image", picture, "--top", 100)["results"]}
    found = answer(pictured, "--image", picture, "--top", 3, "--shortlist", 20)
    assert found["method"]["text"].startswith(f"shortlist: {found['method']['scored_exactly']} of {len(exact)} ")
    for result in found["results"]:
        assert result["score"] == pytest.approx(exact[result["sentences"][0]], abs=1e-3)


def test_an_index_is_kept_and_made_anew_only_when_something_changed(world: World) -> None:
    def written() -> int:
        return (world[0] / "search" / "images-all.safetensors").stat().st_mtime_ns

    first = answer(world, QUERY, "--shortlist", 30)
    before = written()
    assert answer(world, QUERY, "--shortlist", 30) == first
    assert answer(world, QUERY, "--shortlist", 50)
    assert written() == before
    checkpoint = world[0] / "checkpoint_best.pt"
    content = torch.load(checkpoint, weights_only=True)
    content["weights"]["output.bias"] += torch.linspace(0, 1, len(content["vocabulary"]))
    torch.save(content, checkpoint)
    assert answer(world, QUERY, "--shortlist", 30)["results"][0]["score"] != first["results"][0]["score"]
    assert written() != before


def test_index_files_hold_what_was_put_in(tmp_path: Path) -> None:
    path, about = tmp_path / "new" / "x.safetensors", {"kind": "x", "seed": 3}
    assert open_index(path, about) is None
    layout = {"i": ("I64", (3,)), "f": ("F32", (2, 3)), "h": ("F16", (2, 3, 5))}
    rng = np.random.default_rng(0)
    expected = {name: (9 * rng.standard_normal(shape)) for name, (_, shape) in layout.items()}
    with new_index(path, about, layout) as arrays:
        for name, array in arrays.items():
            array[...] = expected[name]
    handle = open_index(path, about)
    for name, (dtype, _) in layout.items():
        kind = {"I64": np.int64, "F32": np.float32, "F16": np.float16}[dtype]
        np.testing.assert_array_equal(handle.get_tensor(name), expected[name].astype(kind))
    np.testing.assert_array_equal(handle.get_slice("h")[1], expected["h"][1].astype(np.float16))
    assert open_index(path, {**about, "seed": 4}) is None
    path.write_bytes(path.read_bytes()[:-1])
    assert open_index(path, about) is None, "a file that is cut off is no index"


def test_unknown_words_are_named(world: World) -> None:
    done = search(world, "a cat sleeps beside a zeppelin")
    assert done.exit_code == 0
    assert "does not know 'beside', 'zeppelin'" in done.stderr
    assert "'a cat sleeps <unk> a <unk>'" in done.stderr
    assert answer(world, "a zeppelin")["unknown_words"] == ["zeppelin"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["zeppelin over atlantis"], "knows no word of 'zeppelin over atlantis'"),
        ([" ...!"], "there is no word in ' ...!'"),
        ([""], "there is no word in ''"),
        (["--image", "missing.png"], "missing.png"),
        (["a cat", "--split", "val"], "no image with features in the split 'val'"),
    ],
)
def test_what_cannot_be_searched_is_one_sentence(
    make_world: Callable[..., World], backbone: Backbone, arguments: list[str], message: str
) -> None:
    world = make_world(
        provenance={**backbone.provenance(), "dtype": "float16"}, size=backbone.feature_size, val=0, train=4, test=2
    )
    done = search(world, *arguments)
    assert done.exit_code == 1, done.output
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_cache_of_other_features_is_refused(make_world: Callable[..., World]) -> None:
    run, _ = make_world()
    other = make_world(provenance={"backbone": "other", "layer": "fc7"}, name="other.h5")[1]
    make_world(name="again.h5")  # the run folder is that of the first cache again
    done = search((run, other), QUERY)
    assert done.exit_code == 1
    assert "holds other features than" in done.stderr


def test_a_sentence_or_a_picture_not_both(world: World, picture: Path) -> None:
    assert search(world).exit_code == 2
    assert search(world, QUERY, "--image", picture).exit_code == 2


def test_more_than_there_are(world: World) -> None:
    done = search(world, QUERY, "--split", "test", "--top", 50)
    assert done.exit_code == 0
    assert "only 10 to show, fewer than the 50 asked for" in done.stderr
    assert len(done.stdout.splitlines()) == 2 * 10 + 1


def test_the_contact_sheet_is_self_contained_and_escaped(world: World, tmp_path: Path) -> None:
    cache = open_cache(world[1])
    for image in cache.images[:20]:
        file = tmp_path / image.path
        file.parent.mkdir(exist_ok=True)
        Picture.new("RGB", (40, 30), "navy").save(file)
    page = tmp_path / "found.html"
    done = search(world, "a cat <script>alert(1)</script>", "--html", page, "--top", 34)
    assert done.exit_code == 0, done.output
    text = page.read_text()
    assert "alert(1)<" not in text
    assert "a cat &lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "picture &lt;3&gt; &amp; co.png" in text
    assert text.count('<img src="data:image/webp;base64,') == 20
    assert text.count('class="nothing"') == 14
    assert "http" not in text.replace("http-equiv", "").split("<script", maxsplit=1)[0]


@pytest.mark.parametrize("kind", ["rnn-base", "lbl"])
def test_models_that_do_not_look_at_images_are_refused_for_that(kind: str, make_world: Callable[..., World]) -> None:
    run, file = make_world(kind=kind)
    done = CliRunner().invoke(main, ["--checkpoint", str(run), "--features", str(file), "a dog"])
    assert done.exit_code == 1
    assert f"is an {kind}, which does not look at images" in done.output

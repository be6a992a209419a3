"""A run opened in Python: what the commands do, for pictures in any form, in any thread, without a word."""

import json
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from mrnn.data.cache import open_cache
from mrnn.data.errors import CorpusError, EvaluationError, ImageError, MrnnError
from mrnn.evaluate import open_run
from mrnn.evaluate.commands.align import main as align_command
from mrnn.evaluate.commands.caption import main as caption_command
from mrnn.evaluate.commands.search import main as search_command
from mrnn.evaluate.image_rows import Picture
from mrnn.evaluate.run import Run
from mrnn.evaluate.settings import DecodingConfig
from mrnn.extract.backbones import build_backbone
from mrnn.extract.sampling import WholePictures

World = Callable[..., tuple[Path, Path]]
NETWORK = "torchvision:shufflenet_v2_x0_5"


@pytest.fixture(scope="module")
def backbone() -> Any:
    return build_backbone(NETWORK, weights="random:0", overrides={"resize": 64, "crop": 64})


@pytest.fixture
def world(make_world: World, backbone: Any) -> tuple[Path, Path]:
    return make_world(provenance={**backbone.provenance(), "dtype": "float16"}, size=backbone.feature_size, end=-1.0)


@pytest.fixture
def run(world: tuple[Path, Path]) -> Run:
    return open_run(world[0], device="cpu")


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    generator = np.random.default_rng(0)
    paths = [tmp_path / f"{number}.png" for number in range(3)]
    for path in paths:
        Image.fromarray(generator.integers(0, 255, (80, 120, 3), dtype=np.uint8)).save(path)
    return paths


def said_by(command: Any, *arguments: object) -> Any:
    """What a command prints as JSON, or as lines of JSON."""
    done = CliRunner().invoke(command, [str(argument) for argument in arguments])
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    return json.loads(done.stdout) if lines[0] in "[{" else [json.loads(line) for line in lines]


def plain(value: Any) -> Any:
    return json.loads(json.dumps(value))


def test_captions_in_a_thread_are_those_of_the_command(
    run: Run, files: list[Path], quietly: Callable[..., Any]
) -> None:
    wide = DecodingConfig(beam=3)
    found = quietly(run.caption, files, decoding=wide, prefix="a cat")
    options = ("--checkpoint", run.trained.run, "--json", "--beam", 3, "--prefix", "a cat")
    assert said_by(caption_command, *options, *files) == plain([caption.to_json() for caption in found])
    one = quietly(run.caption, str(files[1]), decoding=wide, prefix="a cat")
    assert (one.picture, one.text) == (found[1].picture, found[1].text)
    assert one.log_prob == pytest.approx(found[1].log_prob, abs=1e-3)
    assert one.said[:2] == ("a", "cat")
    assert str(one) == one.text == " ".join(one.said)
    assert repr(one) == f"PictureCaption({str(files[1])!r}, {one.text!r}, log_prob={one.log_prob:.2f})"
    assert len(one.words) == len(one.said) + one.complete
    assert run.caption([]) == []


def test_the_parts_of_a_word_add_up(run: Run, files: list[Path]) -> None:
    captions = run.caption(files)
    for word in (word for caption in captions for word in caption.words):
        assert word.parts is not None
        assert word.parts.base + word.parts.words + word.parts.image == pytest.approx(word.log_prob, abs=1e-4)
    assert len({word.parts for caption in captions for word in caption.words}) > 3
    assert plain(captions[0].to_json())["words"][0]["parts"].keys() == {"base", "words", "image"}


def test_a_model_without_a_sum_has_no_parts(make_world: World, backbone: Any, files: list[Path]) -> None:
    about = {**backbone.provenance(), "dtype": "float16"}
    made = make_world(provenance=about, size=backbone.feature_size, kind="generator")
    caption = open_run(made[0]).caption(files[0])
    assert {word.parts for word in caption.words} == {None}
    assert caption.to_json()["words"][0].keys() == {"word", "log_prob"}


def turned(image: Image.Image) -> Image.Image:
    """The same picture stored on its side, with the orientation that says so."""
    stored = image.transpose(Image.Transpose.ROTATE_90)
    stored.getexif()[0x0112] = 6
    return stored


def test_pictures_in_any_form_reach_the_network_as_the_file_does(
    run: Run, files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def pixels_themselves(self: WholePictures, pixels: torch.Tensor, regions: Any) -> np.ndarray:
        return pixels.flatten(1)[:, :: pixels[0].numel() // self.feature_size][:, : self.feature_size].float().numpy()

    monkeypatch.setattr(WholePictures, "compute", pixels_themselves)
    image, path = Image.open(files[0]), str(files[0])
    forms: list[Picture] = [
        path,
        files[0],
        files[0].read_bytes(),
        image,
        Image.open(files[0]),
        image.convert("RGBA"),
        image.convert("RGB"),
        turned(image.convert("RGB")),
        np.asarray(image),
        np.asarray(image)[:, ::-1][:, ::-1],
    ]
    rows = run.reader.rows(forms)
    assert rows.names == [path, path, "picture 3", path, path, *(f"picture {number}" for number in range(6, 11))]
    features = rows.features[:, 0].numpy()
    np.testing.assert_array_equal(features, np.repeat(features[:1], len(forms), axis=0))
    grey = image.convert("L")
    pixels = np.asarray(grey)
    greys = run.reader.rows([grey, pixels, np.stack([pixels] * 3, axis=-1), grey.convert("LA")]).features[:, 0].numpy()
    np.testing.assert_array_equal(greys, np.repeat(greys[:1], 4, axis=0))
    assert abs(greys[0] - features[0]).max() > 9
    assert abs(run.reader.rows(files[1:2]).features[0, 0].numpy() - features[0]).max() > 9


def test_what_is_no_picture_is_refused(run: Run, files: list[Path], tmp_path: Path) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"not an image")
    refused: list[tuple[Any, str]] = [
        ("nowhere.png", "nowhere.png: missing"),
        (broken, "broken.jpg: not a picture"),
        (b"<html>", "picture 1: a web page"),
        (np.zeros((3, 64, 64), np.uint8), r"picture 1: an array of uint8 with the shape \(3, 64, 64\); give uint8"),
        (np.zeros((64, 64, 3)), "picture 1: an array of float64"),
        (np.zeros((64, 64, 4), np.uint8), "picture 1: an array"),
        (np.zeros(64, np.uint8), "picture 1: an array"),
        (np.zeros((0, 5), np.uint8), "picture 1: 5 x 0 pixels"),
        (Image.new("F", (5, 5)), "picture 1: real numbers as pixels"),
        (Image.open(BytesIO(files[0].read_bytes()[:4000])), "picture 1: truncated"),
    ]
    for picture, reason in refused:
        with pytest.raises(ImageError, match=reason):
            run.caption(picture)
    with pytest.raises(ImageError, match="picture 2 is of the type Tensor; give the path"):
        run.caption([files[0], torch.zeros(3, 4, 4)])  # type: ignore[list-item]
    with pytest.raises(CorpusError, match=r"https://example\.org/dog\.jpg: an address on the web"):
        run.caption(Path("https://example.org/dog.jpg"))
    with pytest.raises(EvaluationError, match="zebra"):
        run.caption(files, prefix="a zebra")


def test_scores_are_the_log_probabilities_of_captions(
    make_world: World, backbone: Any, files: list[Path], quietly: Callable[..., Any]
) -> None:
    about = {**backbone.provenance(), "dtype": "float16"}
    run = open_run(make_world(provenance=about, size=backbone.feature_size, end=4.0)[0], device="cpu")
    captions = run.caption(files, decoding=DecodingConfig(beam=3), prefix="a cat")
    assert all(caption.complete for caption in captions)
    texts = [caption.text for caption in captions]
    scores = quietly(run.score, [np.asarray(Image.open(caption.picture)) for caption in captions], [*texts, texts[0]])
    assert scores.shape == (len(captions), len(captions) + 1)
    assert scores.dtype == np.float64
    for number, caption in enumerate(captions):
        assert scores[number, number] == pytest.approx(caption.log_prob, abs=1e-2)
    np.testing.assert_array_equal(scores[:, 0], scores[:, -1])
    assert run.score(files[0], texts[0]).shape == (1, 1)
    assert run.score([], texts).shape == (0, len(texts))
    with pytest.raises(EvaluationError, match="knows no word of 'zebra'"):
        run.score(files, ["a cat", "zebra"])


def test_an_ensemble_scores_by_the_mean_of_its_members(make_world: World, backbone: Any, files: list[Path]) -> None:
    like = {"provenance": {**backbone.provenance(), "dtype": "float16"}, "size": backbone.feature_size}
    runs = [make_world(kind=kind, name=f"{kind}.h5", **like)[0] for kind in ("mrnn", "generator")]
    sentences = ["a dog", "a girl in snow", "a cat sleeps"]
    alone = [open_run(run, device="cpu").score(files[:2], sentences) for run in runs]
    assert not np.allclose(alone[0], alone[1])
    together = open_run(*runs, device="cpu")
    np.testing.assert_allclose(together.score(files[:2], sentences), (alone[0] + alone[1]) / 2, rtol=1e-12)
    assert together.score(files[0], "a dog").shape == (1, 1)
    assert together.score(files[:2], []).shape == (2, 0)


@pytest.mark.parametrize("percent", [100.0, 30.0])
def test_a_gallery_finds_what_the_command_finds(
    run: Run, world: tuple[Path, Path], files: list[Path], percent: float, quietly: Callable[..., Any]
) -> None:
    gallery = run.gallery(open_cache(world[1]), normaliser_images=7)
    options = ["--checkpoint", world[0], "--features", world[1], "--json", "--top", 4, "--shortlist", percent]
    root = gallery.gallery.cache.root
    found = quietly(gallery.find_pictures, "a dog in snow", top=4, percent=percent)
    expected = said_by(search_command, *options, "a dog in snow")
    assert [result.to_json(root) for result in found] == approximately(expected["results"])
    assert (len(found), found[0].rank, found.method) == (4, 1, expected["method"])
    found = quietly(gallery.find_sentences, Image.open(files[1]), top=4, percent=percent)
    expected = said_by(search_command, *options, "--normaliser-images", 7, "--image", files[1])
    assert [result.to_json(root) for result in found] == approximately(expected["results"])


def approximately(results: list[dict]) -> list[dict]:
    return [{**result, "score": pytest.approx(result["score"], abs=1e-3)} for result in results]


def test_a_gallery_keeps_its_indexes_in_memory(
    run: Run, world: tuple[Path, Path], files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = sorted(world[0].rglob("*"))
    gallery = run.gallery(world[1], normaliser_images=7)
    first = [gallery.find_pictures("a dog", percent=30), gallery.find_sentences(files[0], percent=30)]
    exact = gallery.find_sentences(files[0])

    def never(*arguments: Any, **options: Any) -> Any:
        raise AssertionError("computed again")

    for name in ("image_index", "sentence_index", "log_normaliser", "gallery_sentences", "sha256_of"):
        monkeypatch.setattr(f"mrnn.evaluate.search.gallery.{name}", never)
    assert [gallery.find_pictures("a dog", percent=30), gallery.find_sentences(files[0], percent=30)] == first
    assert gallery.find_sentences(files[0]) == exact
    assert sorted(world[0].rglob("*")) == before, "nothing is written"


def test_align_finds_the_segments_of_the_command(make_pictured: World, quietly: Callable[..., Any]) -> None:
    run, file = make_pictured(source="grid")
    picture, texts = open_cache(file).root / "1.png", ["A dog runs in snow", "a cat"]
    opened = open_run(run)
    found = quietly(opened.align, picture, texts, beta=0.3)
    options = ("--checkpoint", run, "--image", picture, "--beta", 0.3, "--sentence", texts[0], "--sentence", texts[1])
    assert said_by(align_command, *options) == plain([each.to_json() for each in found])
    one = opened.align(np.asarray(Image.open(picture)), texts[0], beta=0.3)
    assert [phrase.words for phrase in one.phrases] == [phrase.words for phrase in found[0].phrases]
    assert " ".join(phrase.words for phrase in one.phrases) == "a dog runs in snow"
    assert one.phrases[0].rectangle == pytest.approx(one.rectangles[one.phrases[0].region])
    assert one.phrases[0].words in repr(one.phrases[0])
    assert len(repr(one)) < 500
    assert opened.score(picture, texts[0])[0, 0] == pytest.approx(
        sum(each.score for each in opened.align(picture, texts[0], beta=0).segments), rel=1e-4
    )


def test_what_a_model_cannot_do_is_said_as_by_the_commands(
    make_pictured: World, make_world: World, files: list[Path]
) -> None:
    matching, _ = make_pictured(source="grid")
    blind, cache = make_world(kind="rnn-base", name="blind.h5")

    def refusal(act: Callable[[], Any]) -> str:
        with pytest.raises(MrnnError) as raised:
            act()
        return str(raised.value)

    def error(command: Any, *arguments: object) -> str:
        done = CliRunner().invoke(command, [str(argument) for argument in arguments])
        assert done.exit_code == 1
        return done.stderr.strip()

    said = refusal(lambda: open_run(matching).caption(files[0]))
    assert said in error(caption_command, "--checkpoint", matching, files[0])
    said = refusal(lambda: open_run(blind).gallery(cache))
    assert said in error(search_command, "--checkpoint", blind, "--features", cache, "a dog")
    said = refusal(lambda: open_run(blind).align(files[0], "a dog"))
    assert said in error(align_command, "--checkpoint", blind, "--image", files[0], "--sentence", "a dog")


def test_threads_share_a_run_and_a_gallery(
    run: Run, world: tuple[Path, Path], files: list[Path], capfd: pytest.CaptureFixture[str]
) -> None:
    handlers = {number: signal.getsignal(number) for number in signal.valid_signals()}
    gallery = run.gallery(world[1], normaliser_images=7)
    threads = torch.get_num_threads()

    def work(number: int) -> Any:
        picture = Image.open(files[number % 3])
        return (
            run.caption([picture, files[0]]),
            run.score(picture, ["a dog", "a girl in snow"]).tolist(),
            gallery.find_pictures("a dog in snow", top=3, percent=40),
            gallery.find_sentences(picture, top=3, percent=40),
        )

    barrier = threading.Barrier(4)

    def together(number: int) -> Any:
        barrier.wait()
        return work(number)

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(together, range(4)))
    shared = run.gallery(world[1], normaliser_images=7)
    assert shared.find_pictures("a dog in snow", top=3, percent=40) == found[0][2]
    assert found == [work(number) for number in range(4)]
    assert {number: signal.getsignal(number) for number in signal.valid_signals()} == handlers
    assert torch.get_num_threads() == threads
    assert capfd.readouterr() == ("", "")


def test_sampling_draws_by_name(run: Run, files: list[Path]) -> None:
    sampled = DecodingConfig(beam=1, sample=True, seed=1)
    first = run.caption(files, decoding=sampled)
    alone = run.caption(files[1:], decoding=sampled)
    assert [caption.text for caption in alone] == [caption.text for caption in first[1:]]
    other = run.caption(files, decoding=DecodingConfig(beam=1, sample=True, seed=2))
    assert [caption.text for caption in other] != [caption.text for caption in first]

"""caption-images: the way from a picture file to words, with a small network of random weights."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image as Picture

from mrnn.evaluate.commands.caption import main
from mrnn.evaluate.evaluation import evaluate
from mrnn.evaluate.generation.consensus import Consensus
from mrnn.evaluate.generation.decode import Caption, generate
from mrnn.evaluate.image_rows import PictureReader
from mrnn.evaluate.settings import DecodingConfig
from mrnn.extract.backbones import Backbone, build_backbone
from mrnn.extract.runner import rows_of_pictures
from mrnn.extract.sampling import WholePictures
from mrnn.train.checkpoint import load_trained

NETWORK = "torchvision:shufflenet_v2_x0_5"


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return build_backbone(NETWORK, weights="random:0", overrides={"resize": 64, "crop": 64})


@pytest.fixture
def run(make_world: Callable[..., tuple[Path, Path]], backbone: Backbone) -> Path:
    provenance = {**backbone.provenance(), "dtype": "float16"}
    return make_world(provenance=provenance, size=backbone.feature_size, end=-1.0)[0]


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    generator = np.random.default_rng(0)
    paths = []
    for ending, mode in (("jpg", "RGB"), ("png", "RGBA"), ("webp", "RGB"), ("gif", "L")):
        pixels = generator.integers(0, 255, (80, 120), dtype=np.uint8)
        paths.append(tmp_path / f"picture.{ending}")
        Picture.fromarray(pixels).convert(mode).save(paths[-1])
    return paths


def caption(run: Path, *arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["--checkpoint", str(run), *map(str, arguments)])


def test_a_line_for_every_picture_whatever_its_format(run: Path, pictures: list[Path]) -> None:
    done = caption(run, *pictures)
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert [line.split(": ")[0] for line in lines] == [str(path) for path in pictures]


def test_json_says_what_the_model_says(run: Path, pictures: list[Path], backbone: Backbone) -> None:
    said = json.loads(caption(run, "--json", "--beam", "3", *pictures).stdout)
    assert [entry["file"] for entry in said] == [str(path) for path in pictures]
    trained = load_trained(run)
    sampler = WholePictures(backbone, batch_size=4, device=torch.device("cpu"), precision="float32")
    features = rows_of_pictures(sampler, pictures).features[:, 0]
    rows = torch.from_numpy(features.astype(np.float16).astype(np.float32))
    for entry, (best, *_) in zip(said, generate(trained.model.double(), rows, DecodingConfig(beam=3)), strict=True):
        words = trained.vocabulary.decode(best.words)
        assert entry["caption"] == " ".join(words)
        assert entry["log_prob"] == pytest.approx(best.log_prob, abs=1e-4)
        assert entry["log_prob"] == pytest.approx(sum(word["log_prob"] for word in entry["words"]))
        assert [word["word"] for word in entry["words"]] == [*words, *(["<end>"] if best.complete else [])]
        for word in entry["words"]:
            assert word["parts"].keys() == {"base", "words", "image"}
            assert sum(word["parts"].values()) == pytest.approx(word["log_prob"], abs=1e-4)


def test_a_caption_does_not_depend_on_the_pictures_beside_it(run: Path, pictures: list[Path]) -> None:
    together = caption(run, *pictures).stdout.splitlines()
    assert all(len(line.split(": ")[1].split()) > 1 for line in together), "there is something to compare"
    assert [caption(run, picture).stdout.splitlines()[0] for picture in pictures] == together


def test_several_layers_and_views_are_computed_as_in_training(
    make_world: Callable[..., tuple[Path, Path]], pictures: list[Path]
) -> None:
    settings: dict[str, Any] = {"weights": "random:0", "layer": "stage2+penultimate", "views": "flip"}
    backbone = build_backbone(NETWORK, overrides={"resize": 64, "crop": 64}, **settings)
    provenance = {**backbone.provenance(), "dtype": "float16"}
    run = make_world(provenance=provenance, size=backbone.feature_size, end=-1.0)[0]
    done = caption(run, *pictures)
    assert done.exit_code == 0, done.output
    sampler = WholePictures(backbone, batch_size=4, device=torch.device("cpu"), precision="float32")
    features = rows_of_pictures(sampler, pictures).features[:, 0]
    rows = PictureReader(load_trained(run)).rows(pictures).features[:, 0]
    assert rows.shape == (4, 48 + 1024)
    np.testing.assert_array_equal(rows.numpy(), features.astype(np.float16).astype(np.float32))
    plain = build_backbone(NETWORK, overrides={"resize": 64, "crop": 64}, **{**settings, "views": "none"})
    other = make_world(provenance={**plain.provenance(), "dtype": "float16"}, size=plain.feature_size, name="other.h5")
    assert not np.allclose(PictureReader(load_trained(other[0])).rows(pictures).features[:, 0], rows, rtol=1e-2)


def test_a_page_with_the_same_captions(run: Path, pictures: list[Path], tmp_path: Path) -> None:
    broken, html = tmp_path / "broken.jpg", tmp_path / "captions.html"
    broken.write_bytes(b"not a picture")
    done = caption(run, "--json", "--beam", "3", "--html", html, *pictures, broken)
    assert done.exit_code == 3
    said = json.loads(done.stdout)
    block = re.search(r'id="data">(.*?)</script>', html.read_text(), flags=re.DOTALL)
    assert block is not None
    cards = json.loads(block[1])["cards"]
    assert [card["id"] for card in cards] == [str(path) for path in pictures]
    for card, entry in zip(cards, said, strict=True):
        assert card["picture"].startswith("data:image/webp")
        words = card["said"][0]["words"]
        assert [word for word, *_ in words] == [word["word"] for word in entry["words"]]
        expected = [word["log_prob"] for word in entry["words"]]
        assert [sum(parts) for _, *parts in words] == pytest.approx(expected, abs=5e-3)
        assert len(card["said"][0]["others"]) == 2


def test_consensus_with_the_captions_of_a_cache(
    run: Path, pictures: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ("--consensus", "--features", tmp_path / "feats.h5")
    html = tmp_path / "agreed.html"
    done = caption(run, "--json", *options, "--html", html, *pictures)
    assert done.exit_code == 0, done.output
    assert "consensus_images" in html.read_text()
    said = [entry["caption"] for entry in json.loads(done.stdout)]
    alone = json.loads(caption(run, "--json", *options, pictures[1]).stdout)
    assert [entry["caption"] for entry in alone] == said[1:2], "it does not depend on the pictures beside it"
    widths = []

    def turned(self: Consensus, features: torch.Tensor, beams: list[list[Caption]]) -> list[list[Caption]]:
        widths.extend(map(len, beams))
        return [beam[::-1] for beam in beams]

    monkeypatch.setattr(Consensus, "rank", turned)
    last = [entry["caption"] for entry in json.loads(caption(run, "--json", *options, *pictures).stdout)]
    assert widths == [10] * 4
    assert all(one != other for one, other in zip(last, said, strict=True))


def test_consensus_names_what_it_lacks(
    make_world: Callable[..., tuple[Path, Path]], run: Path, pictures: list[Path], tmp_path: Path
) -> None:
    for given in (["--consensus"], ["--features", str(tmp_path / "feats.h5")]):
        done = caption(run, *given, pictures[0])
        assert done.exit_code == 2
        assert "--consensus needs --features FILE" in " ".join(done.output.split())
    done = caption(run, "--consensus", "--features", tmp_path / "nowhere.h5", pictures[0])
    assert (done.exit_code, done.stdout) == (1, "")
    assert "nowhere.h5" in done.stderr
    done = caption(run, "--consensus", "--beam", "1", "--features", tmp_path / "feats.h5", pictures[0])
    assert done.exit_code == 2
    content = run.joinpath("checkpoint_best.pt").read_bytes()
    other = make_world(name="other.h5", provenance={"backbone": "noise", "layer": "fc6"})[1]
    run.joinpath("checkpoint_best.pt").write_bytes(content)
    done = caption(run, "--consensus", "--features", other, pictures[0])
    assert (done.exit_code, done.stdout) == (1, "")
    assert "other.h5 holds other features" in done.stderr


def test_bad_files_are_listed_and_the_others_captioned(run: Path, pictures: list[Path], tmp_path: Path) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"not a picture")
    done = caption(run, pictures[0], broken, tmp_path / "missing.png", pictures[1])
    assert done.exit_code == 3
    assert [line.split(": ")[0] for line in done.stdout.splitlines()] == [str(pictures[0]), str(pictures[1])]
    assert [line.split(": ")[0] for line in done.stderr.splitlines()] == [str(broken), str(tmp_path / "missing.png")]
    assert caption(run, broken).exit_code == 3


def test_other_weights_are_refused(run: Path, pictures: list[Path]) -> None:
    done = caption(run, "--weights", "random:1", pictures[0])
    assert done.exit_code == 1
    assert "SHA-256" in done.stderr
    assert "--weights" in done.stderr


@pytest.mark.parametrize(
    "features",
    [
        {"backbone": "noise"},
        {"backbone": "nonesuch", "layer": "x", "weights": "random:0", "preprocessing": "{}"},
        {"backbone": NETWORK, "layer": "x", "weights": "random:0", "preprocessing": "nothing"},
    ],
)
def test_features_of_unknown_origin(
    make_world: Callable[..., Any], pictures: list[Path], features: dict[str, str]
) -> None:
    done = caption(make_world(provenance=features)[0], pictures[0])
    assert done.exit_code == 1
    assert "does not record how to compute its features again" in done.stderr


def test_prefix_and_usage(run: Path, pictures: list[Path]) -> None:
    assert caption(run, "--prefix", "A dog", pictures[0]).stdout.split(": ")[1].startswith("a dog")
    assert caption(run).exit_code == 2
    assert caption(run, "--beam", "0", pictures[0]).exit_code == 2
    assert "Example:" in CliRunner().invoke(main, ["--help"]).output


def test_folders_and_patterns_are_taken_and_listed_in_order(run: Path, pictures: list[Path]) -> None:
    folder = pictures[0].parent
    (folder / "notes.txt").write_text("no picture")
    (folder / "picture.jfif").write_bytes(pictures[0].read_bytes())
    names = sorted(["gif", "jfif", "jpg", "png", "webp"])
    for given, endings in ((folder, names), (folder / "picture.*g", ["jpg", "png"]), (folder / "*.jfif", ["jfif"])):
        done = caption(run, given)
        assert done.exit_code == 0, done.output
        assert [line.split(": ")[0] for line in done.stdout.splitlines()] == [
            str(folder / f"picture.{ending}") for ending in endings
        ]


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("{}/empty", "empty: a folder without pictures (found nothing)"),
        ("{}/*.xyz", "no file fits this pattern"),
        ("https://example.org/a.jpg", "https://example.org/a.jpg: an address on the web; download the image"),
    ],
)
def test_what_is_no_picture_is_said_with_what_is_taken(run: Path, tmp_path: Path, given: str, says: str) -> None:
    (tmp_path / "empty").mkdir()
    done = caption(run, given.format(tmp_path))
    assert done.exit_code == 1
    assert says in done.output


def test_a_photograph_is_never_replaced_by_the_page(run: Path, pictures: list[Path]) -> None:
    """`--html holiday/*.jpg`: the shell makes the first photograph the page."""
    before = [path.read_bytes() for path in pictures]
    done = caption(run, "--html", *pictures)
    assert done.exit_code == 2
    assert f"--html {pictures[0]} exists and is not a web page" in " ".join(done.output.split())
    assert [path.read_bytes() for path in pictures] == before
    page = pictures[0].with_name("page.html")
    assert caption(run, "--html", page, pictures[1]).exit_code == 0
    assert caption(run, "--html", page, pictures[2]).exit_code == 0, "a page of ours is replaced"


def test_captions_can_be_drawn_with_a_seed(run: Path, pictures: list[Path]) -> None:
    options = ("--sample", "--top-p", "0.9", "--temperature", "2", "--block-ngrams", "1", "--max-steps", "8")
    one, again, other = (caption(run, *options, "--seed", seed, *pictures).stdout for seed in ("1", "1", "2"))
    assert one == again != other
    for line in one.splitlines():
        words = line.split(": ")[1].split()
        assert len(set(words)) == len(words)
    assert caption(run, "--sample", "--beam", "2", *pictures).exit_code == 2


def test_confidence_is_shown_with_every_caption(run: Path, pictures: list[Path], tmp_path: Path) -> None:
    evaluate(run, tmp_path / "feats.h5", output=tmp_path / "val", split="val", stages=["generation"])
    file = tmp_path / "val" / "confidence.json"
    content = json.loads(file.read_text())
    middle = json.loads(caption(run, "--json", pictures[0]).stdout)[0]
    sure = middle["log_prob"] / len(middle["words"])
    assert "confidence" not in middle
    content["steps"] = [
        {"lower": sure - 9, "captions": 70, "cider": 0.25},
        {"lower": sure - 1e-4, "captions": 60, "cider": 0.75},
    ]
    file.write_text(json.dumps(content))
    done = caption(run, "--confidence", file, "--html", tmp_path / "page.html", pictures[0])
    assert done.stdout.endswith("(captions this sure scored CIDEr 0.75 on dev)\n")
    page = (tmp_path / "page.html").read_text()
    assert "CIDEr on dev of captions this sure" in page
    assert '"dev_cider": 0.75' in page.replace('"dev_cider":0.75', '"dev_cider": 0.75')
    said = json.loads(caption(run, "--json", "--confidence", file, *pictures).stdout)
    assert said[0].pop("confidence") == {
        "log_prob_per_word": pytest.approx(sure),
        "dev_CIDEr": 0.75,
        "dev_captions": 60,
    }
    assert said[0]["log_prob"] == pytest.approx(middle["log_prob"], abs=1e-4)  # the batch is another one
    assert {**said[0], "log_prob": 0, "words": 0} == {**middle, "log_prob": 0, "words": 0}
    for entry in said[1:]:
        assert entry["confidence"]["log_prob_per_word"] == pytest.approx(entry["log_prob"] / len(entry["words"]))
    done = caption(run, "--confidence", file, "--beam", "2", pictures[0])
    assert (done.exit_code, done.stdout) == (1, "")
    assert "beam 5 there, 2 here" in done.stderr
    done = caption(run, "--confidence", file, "--regions", "grid", pictures[0])
    assert done.exit_code == 2

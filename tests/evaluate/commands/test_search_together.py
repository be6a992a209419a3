"""search-images --combination: both directions as a command, files that were moved, and every refusal in a sentence."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result

from mrnn.data.cache import open_cache
from mrnn.evaluate import open_combination
from mrnn.evaluate.commands.search import main

World = tuple[Path, Path]
Make = Callable[..., World]
QUERY = "a dog runs in snow"


@pytest.fixture
def worlds(make_pictured: Make) -> list[World]:
    """Two models on one cache of pictures with regions."""
    return [make_pictured(source="grid", kind=kind) for kind in ("mrnn", "alignment")]


@pytest.fixture
def file(worlds: list[World], write_combination: Callable[..., Path]) -> Path:
    return write_combination(*worlds)


def search(*arguments: str | Path | int) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def answer(*arguments: str | Path | int) -> dict[str, Any]:
    done = search("--json", *arguments)
    assert done.exit_code == 0, done.output
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_a_sentence_finds_images(file: Path) -> None:
    expected = open_combination(file).gallery(split="test").find_pictures(QUERY, top=3)
    found = answer("--combination", file, QUERY, "--split", "test", "--top", 3)
    assert [each["image_id"] for each in found["results"]] == [each.image_id for each in expected]
    assert [each["score"] for each in found["results"]] == pytest.approx([each.score for each in expected], rel=1e-5)
    assert found["method"] == {
        "exact": True,
        "gallery": 4,
        "scored_exactly": 4,
        "models": ["mrnn", "alignment"],
        "text": "exact: all 4 images were scored by 2 models",
    }
    assert (found["sentence"], found["unknown_words"], found["split"]) == (QUERY, [], "test")
    assert sorted(folder.name for folder in (file.parent / "search").iterdir()) == ["1"], "m-RNN needed no index"


def test_a_picture_file_finds_sentences(file: Path, tmp_path: Path) -> None:
    page = tmp_path / "found.html"
    found = answer("--combination", file, "--image", tmp_path / "3.png", "--html", page)
    expected = open_combination(file).gallery().find_sentences(tmp_path / "3.png")
    assert [each["sentences"] for each in found["results"]] == [each.sentences for each in expected]
    assert found["normaliser_images"] == 3
    assert page.read_text().count("data:image/webp") == 3, "two sentences and the picture asked with"
    text = search("--combination", file, "--image", tmp_path / "3.png").stdout
    assert text.endswith("exact: all 2 different sentences were scored by 2 models\n")


def test_unknown_words_are_named(file: Path) -> None:
    done = search("--combination", file, "a dog beside a zeppelin")
    assert "does not know 'beside', 'zeppelin'" in done.stderr


def test_runs_and_caches_are_found_where_they_were_moved_to_with_the_file(
    worlds: list[World],
    write_combination: Callable[..., Path],
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    before = write_combination(*worlds)
    expected = answer("--combination", before, QUERY)["results"]
    moved = tmp_path_factory.mktemp("moved") / "here"
    shutil.copytree(tmp_path, moved)
    for run, _ in worlds:
        shutil.rmtree(run)
    worlds[0][1].unlink()
    found = answer("--combination", moved / before.name, QUERY)["results"]
    assert [each["image_id"] for each in found] == [each["image_id"] for each in expected]
    content = json.loads((moved / before.name).read_text())
    content["members"] = [
        {**each, "run": Path(each["run"]).name, "features": Path(each["features"]).name} for each in content["members"]
    ]
    (moved / "written.json").write_text(json.dumps(content))
    assert answer("--combination", moved / "written.json", QUERY)["results"] == found


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([QUERY], "give either --checkpoint RUN and --features FILE, or --combination FILE"),
        ([QUERY, "--checkpoint", "run"], "give either --checkpoint RUN and --features FILE, or --combination FILE"),
        ([QUERY, "--combination", "x", "--features", "f"], "give either --checkpoint RUN and"),
        ([QUERY, "--combination", "x", "--checkpoint", "c", "--features", "f"], "give either --checkpoint RUN and"),
        ([QUERY, "--combination", "x", "--normaliser-images", 5], "leave out --normaliser-images and --seed"),
        ([QUERY, "--combination", "x", "--seed", 5], "leave out --normaliser-images and --seed"),
        (["--combination", "x"], "give either a sentence"),
        ([QUERY, "--combination", "x", "--image", "y.png"], "give either a sentence"),
    ],
)
def test_options_that_exclude_each_other(arguments: list[str | int], message: str) -> None:
    done = search(*arguments)
    assert done.exit_code == 2
    assert message in done.stderr


def change(file: Path, *, member: int | None = None, **values: Any) -> None:
    content = json.loads(file.read_text())
    (content if member is None else content["members"][member]).update(values)
    file.write_text(json.dumps(content))


def spoil_checkpoint(file: Path) -> None:
    path = Path(json.loads(file.read_text())["members"][1]["run"]) / "checkpoint_best.pt"
    content = torch.load(path, weights_only=True)
    content["progress"]["step"] += 1
    torch.save(content, path)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda file: file.unlink(), "No such file or directory"),
        (lambda file: file.write_text("{"), "holds no combination of models; give the combination.json"),
        (lambda file: file.write_text("[]"), "holds no combination of models"),
        (lambda file: file.write_bytes(b"\xff"), "holds no combination of models"),
        (lambda file: change(file, members=[]), "holds no combination of models"),
        (lambda file: change(file, seed=None), "holds no combination of models"),
        (lambda file: change(file, normaliser_images=-1), "holds no combination of models"),
        (lambda file: change(file, format="mrnn-features"), "holds no combination of models"),
        (lambda file: change(file, member=0, scale=0), "holds no combination of models"),
        (lambda file: change(file, member=0, weight=float("nan")), "holds no combination of models"),
        (lambda file: change(file, member=0, weight="1"), "holds no combination of models"),
        (lambda file: change(file, member=0, more=1), "holds no combination of models"),
        (lambda file: change(file, version=2), "combination version 2; this mrnn reads version 1"),
        (lambda file: change(file, member=1, run="nowhere"), "nowhere, which is missing; put it back"),
        (
            lambda file: change(file, member=1, features="/nowhere.h5"),
            "the feature cache /nowhere.h5, which is missing",
        ),
        (spoil_checkpoint, "checkpoint_best.pt is not the one that"),
        (lambda file: change(file, member=0, cache_sha256="0"), "feats.h5 is not the one that"),
    ],
)
def test_files_that_do_not_fit_are_one_sentence(
    make_world: Make, write_combination: Callable[..., Path], spoil: Callable[[Path], object], message: str
) -> None:
    file = write_combination(make_world(), make_world(kind="alignment", regions=3, name="regions.h5"))
    spoil(file)
    done = search("--combination", file, QUERY)
    assert done.exit_code == 1, done.output
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("kinds", "arguments", "code", "message"),
    [
        (("mrnn", "alignment"), ["zeppelin over atlantis"], 1, "knows no word of 'zeppelin over atlantis'"),
        (("mrnn", "alignment"), ["a cat", "--split", "val"], 1, "no image with features in the split 'val'"),
        (("generator", "alignment"), ["a cat"], 1, "too slow for a search"),
        (("devise", "alignment"), ["a cat", "--shortlist", 50], 2, "leave out --shortlist"),
    ],
)
def test_what_cannot_be_searched_is_one_sentence(
    make_world: Make,
    write_combination: Callable[..., Path],
    kinds: tuple[str, ...],
    arguments: list[str | int],
    code: int,
    message: str,
) -> None:
    file = write_combination(
        *[make_world(kind=kind, regions=3, name=f"{kind}.h5", train=4, val=0, test=2) for kind in kinds]
    )
    done = search("--combination", file, *arguments)
    assert done.exit_code == code, done.output
    assert message in done.stderr


def test_caches_of_other_pictures_are_refused(make_world: Make, write_combination: Callable[..., Path]) -> None:
    worlds = make_world(), make_world(kind="alignment", regions=3, name="regions.h5", test=9)
    file = write_combination(*worlds)
    done = search("--combination", file, QUERY)
    assert done.exit_code == 1
    assert "cannot be combined: of the image" in done.stderr
    assert len(open_cache(worlds[1][1]).images) == 33
    assert answer("--combination", file, QUERY, "--split", "val")["method"]["gallery"] == 4

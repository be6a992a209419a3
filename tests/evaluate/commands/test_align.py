"""align-sentences: JSON lines that agree with the model, the page, and refusals."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from mrnn.data.cache import open_cache
from mrnn.data.tokenize import tokenize
from mrnn.evaluate.commands.align import main
from mrnn.evaluate.evaluation import evaluate
from mrnn.evaluate.grounding.alignments import align
from mrnn.train.checkpoint import load_trained
from mrnn.train.features import Features
from mrnn.train.pairs import pack_pairs
from mrnn.train.sentences import sentences_of

World = Callable[..., tuple[Path, Path]]


def call(world: tuple[Path, Path], *arguments: str) -> Result:
    return CliRunner().invoke(main, ["--checkpoint", str(world[0]), "--features", str(world[1]), *arguments])


def lines(world: tuple[Path, Path], *arguments: str) -> list[dict]:
    done = call(world, *arguments)
    assert done.exit_code == 0, done.output
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_segments_of_every_sentence(make_world: World) -> None:
    world = make_world(kind="alignment", regions=3)
    cache = open_cache(world[1])
    found = lines(world, "--beta", "0.2")
    texts = [(image.id, n) for image in cache.images for n, text in enumerate(image.sentences)
             if image.split == "test" and tokenize(text)]  # fmt: skip
    assert [(line["image_id"], line["number"]) for line in found] == texts
    for line in found:
        words = tokenize(line["sentence"])
        assert " ".join(segment["words"] for segment in line["segments"]).split() == words
        assert all(0 <= segment["region"] < 3 and len(segment["rectangle"]) == 4 for segment in line["segments"])


def test_with_beta_0_the_scores_add_up_to_the_score_of_the_pair(make_world: World) -> None:
    run, file = world = make_world(kind="alignment", regions=3)
    trained, cache = load_trained(run), open_cache(file)
    features, sentences = Features(cache, rows=3), sentences_of(cache, "test", trained.vocabulary)
    for n, line in enumerate(lines(world, "--beta", "0")[:5]):
        score = trained.model(pack_pairs(sentences, np.array([n]), features)).item()
        assert sum(segment["score"] for segment in line["segments"]) == pytest.approx(score, rel=1e-4)
    one = lines(world, "--beta", "1e6", "--limit", "2")
    assert all(len(line["segments"]) == 1 for line in one)
    assert len({line["image_id"] for line in one}) == 2


def test_several_splits_go_to_one_file_that_appears_whole(
    make_world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, output = make_world(kind="alignment", regions=3), tmp_path / "segments.jsonl"
    expected = lines(world, "--split", "train") + lines(world, "--split", "val")
    done = call(world, "--split", "val,train", "--output", str(output))
    assert done.exit_code == 0, done.output
    assert done.stdout == ""
    written = output.read_bytes()
    assert [json.loads(line) for line in written.splitlines()] == expected
    limited = lines(world, "--split", "train,val", "--limit", "2")
    assert len({line["image_id"] for line in limited}) == 4
    found, said = align(load_trained(world[0]), open_cache(world[1]), np.arange(3), beta=0.1), []

    def breaks(*arguments: Any, **options: Any) -> Iterator[Any]:
        said.append(next(found))
        yield said[0]
        raise KeyboardInterrupt

    monkeypatch.setattr("mrnn.evaluate.grounding.alignments.align", breaks)
    stopped = call(world, "--output", str(output))
    assert stopped.exit_code != 0
    assert said
    assert output.read_bytes() == written
    assert [path.name for path in tmp_path.glob("*segments*")] == ["segments.jsonl"]
    monkeypatch.undo()
    assert call(world, "--output", str(output)).exit_code == 0
    output.write_text('{"mine": 1}\n')
    refused = call(world, "--output", str(output))
    assert refused.exit_code == 2
    assert "is not a file of segments that mrnn wrote" in refused.output
    assert output.read_text() == '{"mine": 1}\n'


def test_the_page_has_a_figure_per_image_and_escapes_texts(make_world: World, tmp_path: Path) -> None:
    page = tmp_path / "aligned.html"
    lines(make_world(kind="alignment", regions=3), "--html", str(page))
    content = page.read_text()
    assert content.count("<figure>") == 10
    assert "picture &lt;24&gt; &amp; co.png" in content
    assert "picture <24>" not in content
    assert "none of the pictures was found" in content


def test_a_figure_for_every_line(make_pictured: World, make_world: World, tmp_path: Path) -> None:
    world = make_pictured(source="grid")
    found = lines(world, "--figures", str(tmp_path / "figures"))
    names = {f"{line['image_id'].removesuffix('.png')}-{line['number']}" for line in found}
    files = {path.name for path in (tmp_path / "figures").iterdir()}
    assert files == {f"{name}.{form}" for name in names for form in ("png", "svg")}
    assert b"<image" in (tmp_path / "figures" / "1-0.svg").read_bytes()
    own = ("--image", tmp_path / "1.png", "--sentence", "a dog", "--figures", tmp_path / "own")
    assert call_files(world[0], *own).exit_code == 0
    assert {path.name for path in (tmp_path / "own").iterdir()} == {"1-0.png", "1-0.svg"}
    (tmp_path / "own" / "1-0.png").write_text("mine")
    refused = call_files(world[0], *own)
    assert refused.exit_code == 2
    assert refused.stdout == ""
    assert (tmp_path / "own" / "1-0.png").read_text() == "mine"


def test_pictures_that_are_not_there_are_warned_of(make_world: World, tmp_path: Path) -> None:
    world = make_world(kind="alignment", regions=3)
    done = call(world, "--limit", "1", "--figures", str(tmp_path / "figures"))
    assert done.exit_code == 0
    assert "warning: 1 of 1 images are not found" in done.stderr
    assert [*(tmp_path / "figures").glob("picture_24_co-0.png")]


def test_other_kinds_are_refused(make_world: World) -> None:
    refused = call(make_world(kind="devise"))
    assert refused.exit_code == 1
    assert "is of the kind devise, which does not align words with regions" in refused.output


def call_files(run: Path, *arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["--checkpoint", str(run), *map(str, arguments)])


@pytest.mark.parametrize(
    ("source", "features", "settings"),
    [
        ("grid", "crop", {}),
        ("grid", "roi", {}),
        ("grid+detector:yolox-nano:random:0", "roi", {}),
        ("grid", "crop", {"regions": 2}),
        ("grid", "roi", {"regions": 1}),
    ],
)
def test_a_picture_of_the_cache_as_a_file_gives_the_lines_of_the_cache(
    make_pictured: World, source: str, features: str, settings: dict
) -> None:
    run, file = world = make_pictured(source=source, features=features, seed=1, **settings)
    cache = open_cache(file)
    expected = lines(world, "--beta", "0")
    said = [option for text in cache.images[3].sentences for option in ("--sentence", text)]
    files = [cache.root / name for name in ("1.png", "3.png", "5.png", "7.png")]
    done = call_files(run, "--beta", "0", *said, *(option for path in files for option in ("--image", path)))
    assert done.exit_code == 0, done.output
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["image_id"] for line in found] == [str(path) for path in files for _ in range(2)]
    # A fact of the seed, without which the comparison would be weaker.
    assert len({segment["region"] for line in found for segment in line["segments"]}) > (settings != {"regions": 1})
    for line, same in zip(found, expected, strict=True):
        for segment, true in zip(line["segments"], same["segments"], strict=True):
            assert segment.pop("score") == pytest.approx(true.pop("score"), rel=2e-3, abs=1e-3)
            assert segment == true
        assert line | {"image_id": ""} == same | {"image_id": ""}


def test_the_page_of_files_has_a_figure_per_sentence_with_its_picture(make_pictured: World, tmp_path: Path) -> None:
    run, file = make_pictured(source="grid")
    file.unlink()  # the checkpoint knows all that is needed
    page = tmp_path / "own.html"
    done = call_files(run, "--image", tmp_path / "3.png", "--sentence", "a dog", "--sentence", "snow & <ice>",
                      "--html", page)  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "the model does not know 'ice'; it reads the sentence as 'snow <unk>'" in done.stderr
    content = page.read_text()
    assert content.count("<figure>") == content.count('<image href="data:image/webp') == 2
    assert "snow & <ice>" not in content


def test_files_that_cannot_be_read_are_listed(make_pictured: World, tmp_path: Path) -> None:
    run, _ = make_pictured(source="grid")
    done = call_files(run, "--image", tmp_path / "no.png", "--image", tmp_path / "1.png", "--sentence", "a dog")
    assert done.exit_code == 3
    assert [json.loads(line)["image_id"] for line in done.stdout.splitlines()] == [str(tmp_path / "1.png")]
    assert f"{tmp_path / 'no.png'}: missing" in done.stderr
    assert call_files(run, "--image", tmp_path / "no.png", "--sentence", "a dog").exit_code == 3


def test_what_cannot_be_computed_for_a_file_is_refused(make_pictured: World, tmp_path: Path) -> None:
    asked = ("--image", tmp_path / "3.png", "--sentence", "a dog")
    run, _ = make_pictured(source="grid+boxes:annotated")
    refused = call_files(run, *asked)
    assert refused.exit_code == 1
    assert "trained on boxes that came with its images (boxes:annotated), which a new picture does not have" in (
        refused.output
    )
    (tmp_path / "regions.h5").unlink()
    run, _ = make_pictured(source="detector:yolox-nano:random:0", features="roi")
    refused = call_files(run, *asked, "--region-weights", "random:1")
    assert refused.exit_code == 1
    assert "the weights random:1 of yolox-nano are not those that found the regions" in refused.output
    assert "the model knows no word of 'zzz'" in call_files(run, *asked[:2], "--sentence", "zzz").output


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("", "give either --features FILE"),
        ("--features a.h5 --image b.png", "give either --features FILE"),
        ("--image b.png", "--image needs a --sentence"),
        ("--image b.png --sentence dog --split val", "--split goes with --features only"),
        ("--features a.h5 --sentence dog", "--sentence goes with --image only"),
        ("--features a.h5 --weights w.pt", "--weights goes with --image only"),
    ],
)
def test_options_that_do_not_go_together(options: str, said: str) -> None:
    refused = call_files(Path("nowhere"), *options.split())
    assert refused.exit_code == 2
    assert said in refused.output


def test_scores_are_corrected_by_the_file_of_an_evaluation(make_world: World, tmp_path: Path) -> None:
    world = make_world(kind="alignment", regions=5, boxes={"val": 0, "test": 1})
    evaluate(*world, output=tmp_path / "out", stages=["grounding"])
    file = str(tmp_path / "out" / "correction.json")
    page = tmp_path / "page.html"
    plain, corrected = lines(world), lines(world, "--correct", file, "--html", str(page))
    assert [line["sentence"] for line in plain] == [line["sentence"] for line in corrected]
    assert plain != corrected
    assert file in page.read_text()
    refused = call(world, "--correct", str(tmp_path / "out" / "metrics.json"))
    assert refused.exit_code == 1
    assert "holds no corrections" in refused.output
    assert refused.stdout == ""

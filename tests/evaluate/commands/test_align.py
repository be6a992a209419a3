"""align-sentences: JSON lines that agree with the model, the page, and refusals."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from mrnn.data.cache import open_cache
from mrnn.data.tokenize import tokenize
from mrnn.evaluate.commands.align import main
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


def test_the_page_has_a_figure_per_image_and_escapes_texts(make_world: World, tmp_path: Path) -> None:
    page = tmp_path / "aligned.html"
    lines(make_world(kind="alignment", regions=3), "--html", str(page))
    content = page.read_text()
    assert content.count("<figure>") == 10
    assert "picture &lt;24&gt; &amp; co.png" in content
    assert "picture <24>" not in content
    assert "none of the pictures was found" in content


def test_other_kinds_are_refused(make_world: World) -> None:
    refused = call(make_world(kind="devise"))
    assert refused.exit_code == 1
    assert "is of the kind devise, which does not align words with regions" in refused.output

"""Captions of regions: which regions people name, the model's words for them, the best training segments, refusals."""

import json
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result

from mrnn.data.cache import FeatureCache, open_cache
from mrnn.data.cache_creation import create_cache
from mrnn.data.cache_writer import CacheWriter
from mrnn.data.captions import Box, Corpus
from mrnn.data.errors import Stopped
from mrnn.data.regions import NO_CLASS, Regions
from mrnn.data.stopping import StopRequest
from mrnn.data.tokenize import tokenize
from mrnn.evaluate.commands.compare_results import main as compare
from mrnn.evaluate.commands.evaluate import main
from mrnn.evaluate.commands.score_captions import main as score
from mrnn.evaluate.evaluation import evaluate
from mrnn.evaluate.generation import region_captions
from mrnn.evaluate.generation.decode import DecodingConfig, generate
from mrnn.evaluate.generation.region_phrases import NamedRegion, named_regions, people
from mrnn.evaluate.grounding import best_segments as ranking
from mrnn.evaluate.grounding.best_segments import best_segments
from mrnn.evaluate.metrics.captions import score_captions
from mrnn.train.checkpoint import load_trained
from mrnn.train.pair_scores import word_vectors
from mrnn.train.segment_files import read_segments
from mrnn.train.sentences import encode_sentences

World = tuple[Path, Path]
MakeWorld = Callable[..., World]
ROWS = 4
PLACES = ((10.0, 20.0, 30.0, 40.0), (5.0, 5.0, 50.0, 20.0), (60.0, 10.0, 70.0, 30.0))  # the last leaves the picture


def boxed(corpus: Corpus) -> Corpus:
    """Boxes in PLACES: two of every sentence for the first, one of the first sentence for the others, one for '!'."""
    images = []
    for image in corpus.images:
        said = ((n, tokenize(text)) for n, text in enumerate(image.sentences))
        boxes = [Box(*PLACES[0], f"A {words[1]}", n) for n, words in said if words]
        boxes += [Box(*PLACES[0], "the thing", 0), Box(*PLACES[1], "at home", 0), Box(*PLACES[2], "snow", -1)]
        images.append(replace(image, boxes=(*boxes, Box(1, 1, 9, 9, "!", 0))))
    return replace(corpus, images=tuple(images))


@pytest.fixture
def make(make_world: MakeWorld, tmp_path: Path) -> Callable[..., World]:
    """A run, and a cache whose regions are the boxes; the first test image lacks the last one."""

    def build(kind: str = "generator", *, name: str = "boxes.h5", **settings: Any) -> World:
        run, plain = make_world(kind=kind, regions=ROWS, name=f"plain-{name}", **settings)
        cache = open_cache(plain)
        path, count = tmp_path / name, len(cache.images)
        create_cache(path, boxed(cache.corpus()), cache.provenance, feature_size=12, rows_per_image=ROWS)
        regions = Regions.empty(count * ROWS)
        inside = np.array([(0, 0, 100, 80), *PLACES[:2], (60, 10, 40, 30)], np.float32)
        regions.rectangles[:] = np.tile(inside, (count, 1))
        regions.classes[:] = NO_CLASS
        regions.valid[:] = 1
        regions.valid[(int(cache.done("test")[0]) + 1) * ROWS - 1] = 0
        with CacheWriter(path) as writer:
            writer.write(np.arange(count), np.array(cache.features, np.float32), regions=regions)
        return run, path

    return build


def call(world: World, *arguments: str) -> Result:
    command = ["--checkpoint", str(world[0]), "--features", str(world[1]), *arguments]
    return CliRunner().invoke(main, command, catch_exceptions=False)


def measure(world: World, output: Path, **options: Any) -> dict[str, Any]:
    return evaluate(*world, output=output, stages=["regions"], **options)


def write_segments(path: Path, cache: FeatureCache) -> Path:
    """Every training sentence with two words or more in two segments, of regions that this cache does not have."""
    lines = []
    for i in cache.done("train"):
        for number, text in enumerate(cache.images[i].sentences):
            cuts = (0, 2, len(tokenize(text)))
            segments = [
                {"first": first, "end": end, "region": 99, "score": 0.0, "rectangle": [0, 0, 1, 1]}
                for first, end in pairwise(cuts)
            ]
            lines.append({"image_id": cache.images[i].id, "number": number, "sentence": text, "segments": segments})
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_regions_are_the_boxes_with_all_their_phrases(make: Callable[..., World]) -> None:
    cache = open_cache(make()[1])
    images = cache.done("test")
    found = named_regions(cache, images)
    assert len(found) == 3 * len(images) - 1, "one is not there"
    first, second = (region for region in found if region.image == images[0])
    sentences = [text for text in cache.images[images[0]].sentences if tokenize(text)]
    assert first.phrases == (*(f"A {tokenize(text)[1]}" for text in sentences), "the thing")
    assert first.row == images[0] * ROWS + 1
    assert first.name == f"{cache.images[images[0]].id}#1"
    assert second.references() == [["at", "home"]]
    assert found[-1].phrases == ("snow",), "its box is cut to the picture"
    assert not named_regions(replace(cache, images=tuple(replace(i, boxes=()) for i in cache.images)), images)


def test_people_are_measured_by_the_phrases_of_other_sentences() -> None:
    region = NamedRegion(0, 1, "x#1", ("a dog", "the dog", "an animal", "it", "fur"), (0, 0, 1, -1, -1))
    assert region.by_others(0) == [["an", "animal"], ["it"], ["fur"]]
    assert region.by_others(3) == [["a", "dog"], ["the", "dog"], ["an", "animal"], ["fur"]]
    alone = NamedRegion(0, 2, "x#2", ("a dog", "the dog"), (0, 0))
    said, others = people([region, alone], np.random.default_rng(0))
    assert said.keys() == others.keys() == {"x#1"}
    drawn = {" ".join(people([region], np.random.default_rng(seed))[0]["x#1"]) for seed in range(50)}
    assert drawn == {"a dog", "the dog", "an animal", "it", "fur"}


def test_the_words_are_the_model_s_for_each_region_and_the_scores_are_theirs(
    make: Callable[..., World], tmp_path: Path
) -> None:
    world = make()
    decoding = DecodingConfig(beam=3, max_steps=6)
    metrics = measure(world, tmp_path / "out", decoding=decoding)
    cache, trained = open_cache(world[1]), load_trained(world[0])
    regions = named_regions(cache, cache.done("test"))
    features = torch.from_numpy(cache.features[[region.row for region in regions]].astype(np.float32))
    said = [trained.vocabulary.decode(best.words) for best, *_ in generate(trained.model, features, decoding)]
    assert len({*map(tuple, said)}) > 2
    captions = json.loads((tmp_path / "out" / "region_captions.json").read_text())
    assert [each["caption"].split() for each in captions] == said
    assert [each["image_id"] for each in captions] == [region.name for region in regions]
    scores = score_captions(
        {region.name: words for region, words in zip(regions, said, strict=True)},
        {region.name: region.references() for region in regions},
    ).corpus
    found = metrics["regions"]
    assert (found["regions"], found["images"]) == (len(regions), 10)
    for key, value in scores.items():
        assert metrics[f"region_{key}"] == pytest.approx(value) == found["model"][key]
        low, high = metrics["intervals"][f"region_{key}"]
        assert low <= value <= high
    assert found["people"]["regions"] < len(regions)
    assert found["people"].keys() - {"regions"} == found["beside_people"].keys()
    assert "beside_people" in metrics["definitions"]["regions"]
    records = [json.loads(line) for line in (tmp_path / "out" / "per_image.jsonl").read_text().splitlines()]
    assert sum(record["regions"]["scores"]["CIDEr"] for record in records) / len(regions) == pytest.approx(
        scores["CIDEr"]
    )
    plain = CliRunner().invoke(
        score,
        [
            str(tmp_path / "out" / "region_captions.json"),
            "--references",
            str(tmp_path / "out" / "region_references.json"),
            "--no-meteor",
            *("--tokenizer", "plain", "--output", str(tmp_path / "scores.json")),
        ],
    )
    assert plain.exit_code == 0, plain.output
    assert json.loads((tmp_path / "scores.json").read_text())["Bleu_1"] == pytest.approx(scores["Bleu_1"])


def test_an_interrupted_stage_resumes_with_the_same_numbers(
    make: Callable[..., World],
    tmp_path: Path,
    stop_after: Callable[[int], StopRequest],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = make()
    whole = measure(world, tmp_path / "whole")
    monkeypatch.setattr("mrnn.evaluate.generation.stage.DECODE_IMAGES", 7)
    with pytest.raises(Stopped):
        measure(world, tmp_path / "parts", stop=stop_after(2))
    assert (tmp_path / "parts" / "parts" / "region-captions.json").exists()
    assert measure(world, tmp_path / "parts")["regions"] == whole["regions"]
    monkeypatch.setattr(region_captions, "named_regions", None)
    assert measure(world, tmp_path / "parts")["regions"] == whole["regions"]
    assert evaluate(*world, output=tmp_path / "parts", stages=[])["regions"] == whole["regions"]


def test_the_best_segments_are_those_of_enumeration(
    make: Callable[..., World], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, file = make("alignment")
    cache, trained = open_cache(file), load_trained(run)
    segments = read_segments(write_segments(tmp_path / "s.jsonl", cache), cache, any_regions=True).of("train")
    rows = [region.row for region in named_regions(cache, cache.done("test"))]
    vectors = trained.model.regions(
        torch.from_numpy(cache.features[rows].astype(np.float32))[:, None], torch.ones(len(rows), 1, dtype=torch.bool)
    )[0]
    scores = []
    for image, number, first, end in zip(segments.image, segments.number, segments.first, segments.end, strict=True):
        words = tokenize(cache.images[image].sentences[number])
        each = word_vectors(trained.model, encode_sentences([words], np.zeros(1, np.int64), trained.vocabulary)).vectors
        scores.append((each[first:end].sum(dim=0) @ vectors.T).detach().numpy())
    table = np.stack(scores)  # (S, n)
    for tile in (10**6, 5):
        monkeypatch.setattr(ranking, "SEGMENTS", tile)
        monkeypatch.setattr(ranking, "REGIONS", tile)
        chosen, best = best_segments(trained, cache, rows, segments)
        np.testing.assert_allclose(best, table.max(axis=0), rtol=1e-4)
        np.testing.assert_allclose(table[chosen, np.arange(len(rows))], best, rtol=1e-4)
    metrics = measure((run, file), tmp_path / "out", segments=tmp_path / "s.jsonl")
    captions = json.loads((tmp_path / "out" / "region_captions.json").read_text())
    assert [each["caption"].split() for each in captions] == segments[chosen].words(cache)
    assert [each["score"] for each in captions] == pytest.approx(best.tolist())
    assert metrics["regions"]["model"]["Bleu_1"] > 0


def test_the_command_prints_and_reports_and_two_systems_compare(make: Callable[..., World], tmp_path: Path) -> None:
    folders = []
    for kind in ("mrnn", "generator"):
        folders.append(str(tmp_path / f"results-{kind}"))
        run, _ = make(kind, name=f"{kind}.h5")
        done = call((run, tmp_path / "mrnn.h5"), "--only", "regions", "--output", folders[-1])
        assert done.exit_code == 0, done.output
    assert "captions of 29 regions" in done.output
    assert "people: one phrase against the others" in done.output
    assert "region_CIDEr" in done.output
    report = (Path(folders[0]) / "report.html").read_text()
    assert '<section id="regions">' in report
    assert '<a href="#regions">' in report
    assert report.count('<rect class="segment') == 29
    compared = CliRunner().invoke(compare, [*folders, "--json"], catch_exceptions=False)
    assert compared.exit_code == 0, compared.output
    names = {row["name"] for row in json.loads(compared.stdout)["differences"]}
    assert {"region_Bleu_1", "region_CIDEr"} <= names


def test_what_cannot_be_described_is_left_out_with_a_line(
    make: Callable[..., World], make_world: MakeWorld, tmp_path: Path
) -> None:
    worlds = {
        "has whole pictures alone": make_world(name="whole.h5"),
        "no region of the split 'test' in": make_world(regions=3, name="unnamed.h5"),
        "devise describes no regions": make("devise", name="devise.h5"),
        "alignment writes no captions, and there are no --segments": make("alignment", name="alignment.h5"),
    }
    for number, (reason, world) in enumerate(worlds.items()):
        options = ("--only", "retrieval,regions", "--normaliser-images", "6", "--output", str(tmp_path / str(number)))
        done = call(world, *options)
        assert done.exit_code == 0, done.output
        (line,) = [line for line in done.output.splitlines() if line.endswith("; left out: regions")]
        assert reason in line
        refused = call(world, "--only", "regions", "--output", str(tmp_path / "refused"))
        assert refused.exit_code == 1
        assert "regions cannot be measured: " in refused.output
        assert reason in refused.output
        assert not (tmp_path / "refused").exists()


def test_segments_are_refused_where_they_cannot_serve(make: Callable[..., World], tmp_path: Path) -> None:
    world, (other, _) = make("alignment", name="alignment.h5"), make("mrnn", name="mrnn.h5")
    segments = write_segments(tmp_path / "s.jsonl", open_cache(world[1]))
    (tmp_path / "empty.jsonl").touch()
    for run, file, reason in (
        (world[0], tmp_path / "empty.jsonl", "has no segments of the split 'train'"),
        (other, segments, "--segments are for an alignment model"),
    ):
        options = ("--only", "regions", "--segments", str(file), "--output", str(tmp_path / "out"))
        refused = call((run, world[1]), *options)
        assert refused.exit_code != 0
        assert reason in refused.output
        assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("trained_on", "fits"),
    [
        ({"regions": "grid", "region_settings": "{}", "region_features": "crop", "region_sampling": "{}"}, True),
        ({"regions": "grid", "region_features": "roi", "region_sampling": "{}"}, False),
        ({"region_features": "crop", "region_sampling": '{"side": 320}'}, False),
        ({}, True),
        ({"layer": "fc6"}, False),
    ],
)
def test_other_regions_fit_if_their_features_are_computed_alike(
    trained_on: dict[str, str], fits: bool, make: Callable[..., World], tmp_path: Path
) -> None:
    about = {"backbone": "noise", "layer": "fc7", "weights": "random:0", "dtype": "float16"}
    own = {"regions": "boxes:annotated", "region_settings": "", "region_features": "crop", "region_sampling": "{}"}
    run, _ = make("alignment", provenance=about | trained_on, name="one.h5")
    _, file = make("mrnn", provenance=about | own, name="other.h5")
    segments = write_segments(tmp_path / "s.jsonl", open_cache(file))
    done = call((run, file), "--only", "regions", "--segments", str(segments), "--output", str(tmp_path / "out"))
    assert done.exit_code == (0 if fits else 1), done.output
    if not fits:
        assert "holds other features than" in done.output
        assert not (tmp_path / "out").exists()


def test_an_ensemble_describes_regions_as_its_members_do(make: Callable[..., World], tmp_path: Path) -> None:
    run, file = make()
    alone = evaluate(run, file, output=tmp_path / "alone", stages=["regions"])["regions"]
    twice = evaluate([run, run], file, output=tmp_path / "twice", stages=["regions"])["regions"]
    assert twice["model"] == pytest.approx(alone["model"])

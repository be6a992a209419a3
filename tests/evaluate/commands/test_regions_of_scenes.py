"""From drawn scenes, whose boxes carry words, to captions of regions."""

import json
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from mrnn.data.scenes.reader import read_scenes
from mrnn.evaluate.commands.align import main as align
from mrnn.evaluate.commands.caption import main as caption
from mrnn.evaluate.commands.evaluate import main as evaluate
from mrnn.extract.config import ExtractionConfig
from mrnn.extract.extraction import extract_dataset
from mrnn.train.cli import main as train


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def call(command: click.Command, line: str) -> str:
    done = CliRunner().invoke(command, line.split(), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_segments_train_a_generator_that_describes_regions(here: Path) -> None:
    config = ExtractionConfig(
        backbone="torchvision:squeezenet1_1",
        weights="random:0",
        resize=64,
        crop=64,
        threads=1,
        device="cpu",
        regions="boxes:annotated",
    )
    cache = extract_dataset(read_scenes(here / "scenes", count=36), here / "true.h5", config=config).cache
    common = "--features true.h5 --cutoff 1 --device cpu --no-tensorboard --epochs 4 --lr 0.01 --warmup 10"
    call(train, f"{common} --model alignment --joint 12 --embedding 8 --hidden 10 --output aligned")
    call(align, "--checkpoint aligned --features true.h5 --split train,val --beta 0.3 --output segments.jsonl")
    sizes = "--embedding 8 --hidden 16 --batch-size 10"
    reported = call(train, f"{common} --model generator {sizes} --segments segments.jsonl --output regions")
    written = [json.loads(line) for line in Path("segments.jsonl").read_text().splitlines()]
    split_of = {image.id: image.split for image in cache.images}
    pairs = sum(len(line["segments"]) for line in written if split_of[line["image_id"]] == "train")
    assert f"{pairs} segments" in reported
    call(train, f"{common} --model generator {sizes} --output whole")
    found = {}
    for run, more in (("regions", ""), ("whole", ""), ("aligned", "--segments segments.jsonl")):
        call(evaluate, f"--checkpoint {run} --features true.h5 --only regions --beam 1 --device cpu {more}")
        metrics = json.loads(Path(run, "evaluation-test", "metrics.json").read_text())
        found[run] = metrics["regions"]
    boxes = {
        (image.id, box.left, box.top, box.width, box.height)
        for image in (cache.images[i] for i in cache.done("test"))
        for box in image.boxes
    }
    assert {each["regions"] for each in found.values()} == {len(boxes)}
    assert len({json.dumps(each["people"]) for each in found.values()}) == 1, "people do not depend on the model"
    assert found["regions"]["model"] != found["whole"]["model"]
    picture = cache.root / cache.images[0].path
    (entry,) = json.loads(call(caption, f"--checkpoint regions --regions grid --regions-per-image 2 --json {picture}"))
    assert len(entry["regions"]) == 2

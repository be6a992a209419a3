"""VGG-16's fc7 from elsewhere: NeuralTalk's own file of 16 photographs, imported, trained on and evaluated."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from mrnn.data.cache import open_cache
from mrnn.data.cli import import_
from mrnn.evaluate.commands.evaluate import main as evaluate
from mrnn.train.checkpoint import load_trained
from mrnn.train.cli import main as train


def test_features_of_neuraltalk_are_imported_trained_on_and_evaluated(tmp_path: Path, real_data: Path) -> None:
    pytest.importorskip("scipy.io", reason="the extra analysis is not installed")
    source, root = real_data / "neuraltalk-example", tmp_path / "data"
    names = (source / "tasks.txt").read_text().split()
    said = json.loads((source / "result_struct.json").read_text())["imgblobs"]
    sentence = {Path(entry["img_path"]).name: entry["candidate"]["text"] for entry in said}
    splits = ["train"] * 10 + ["val"] * 2 + ["test"] * 4
    rows = [f"{name},{sentence[name]},{split}" for name, split in zip(names, splits, strict=True)]
    root.mkdir()
    (root / "captions.csv").write_text("\n".join(["image,caption,split", *rows]))
    cache, run = tmp_path / "vgg.h5", tmp_path / "run"

    arguments = [str(source / "vgg_feats.mat"), "--dataset", "folder", "--root", str(root), "--output", str(cache)]
    done = CliRunner().invoke(import_, [*arguments, "--ids", str(source / "tasks.txt"), "--layer", "fc7"])
    assert done.exit_code == 0, done.output
    assert open_cache(cache).features.shape == (16, 4096)

    network = "--embedding1 16 --embedding2 32 --recurrent 32 --multimodal 32 --dropout 0 --image-dropout 0"
    steps = "--epochs 16 --batch-size 2 --lr 0.02 --warmup 5 --patience 0 --cutoff 1 --no-tensorboard --device cpu"
    done = CliRunner().invoke(train, ["--features", str(cache), "--output", str(run), *network.split(), *steps.split()])
    assert done.exit_code == 0, done.output
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    bits = [line["train_bits"] for line in lines if line["kind"] == "epoch"]
    assert bits[-1] < bits[0] / 2, f"ten sentences become familiar: {bits}"
    trained = load_trained(run)
    rows_of_training = open_cache(cache).features[[i for i, split in enumerate(splits) if split == "train"]]
    mean = rows_of_training.astype(np.float32).mean(axis=0)
    np.testing.assert_allclose(trained.model.feature_mean.numpy(), mean, atol=1e-4)

    command = ["--checkpoint", str(run), "--features", str(cache), "--normaliser-images", "5"]
    done = CliRunner().invoke(evaluate, command)
    assert done.exit_code == 0, done.output
    metrics = json.loads((run / "evaluation-test" / "metrics.json").read_text())
    assert metrics["retrieval"]["images"] == 4
    assert metrics["perplexity"] > 1
    assert len(json.loads((run / "evaluation-test" / "captions.json").read_text())) == 4

import os
import pickle
from pathlib import Path

import pytest
import torch

from mrnn.data.cache import FeatureCache
from mrnn.data.errors import CheckpointError
from mrnn.data.exhaustion import DiskFull
from mrnn.train.checkpoint import load_trained, read_checkpoint, write_checkpoint
from mrnn.train.features import Features
from mrnn.train.loop import train
from mrnn.train.run_files import BEST, LAST, PREVIOUS
from mrnn.train.run_folder import RunFolder
from mrnn.train.sentences import sentences_of
from mrnn.train.settings import RunOptions, TrainSettings
from mrnn.train.tasks.captioning import perplexity

CONTENT = {name: {} for name in ("config", "vocabulary", "features", "settings", "progress")} | {"model": "mrnn"}


@pytest.fixture(scope="module")
def run(cache: FeatureCache, tiny: TrainSettings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    train(cache, folder, tiny, options=RunOptions(device="cpu", tensorboard=False), report=lambda line: None)
    return folder


def content(number: int) -> dict[str, object]:
    return {**CONTENT, "weights": {"w": torch.full((50,), float(number))}}


def test_a_checkpoint_rebuilds_its_model(run: Path, cache: FeatureCache, tiny: TrainSettings) -> None:
    trained = load_trained(run)
    assert trained.file == run / BEST
    assert (trained.run, trained.name, trained.features) == (run, "mrnn", cache.provenance)
    assert trained.settings["lr"] == tiny.lr
    assert not trained.model.training
    found = perplexity(trained.model, sentences_of(cache, "val", trained.vocabulary), Features(cache))
    assert found.perplexity == trained.progress["best"]
    by_file = load_trained(run / LAST)
    assert by_file.progress["epoch"] == tiny.epochs == load_trained(run, which="last").progress["epoch"]


def test_a_run_from_before_the_variants_opens_and_is_finished(
    run: Path, cache: FeatureCache, tiny: TrainSettings, tmp_path: Path
) -> None:
    """Its config and settings lack recurrence, word_path and share_words, and the network is that of 2014."""
    weights = load_trained(run).model.state_dict()
    for name in (BEST, LAST):
        old = read_checkpoint(run / name)
        for part in (old["config"], old["settings"]):
            assert [part.pop(setting) for setting in ("recurrence", "word_path", "share_words")]
        write_checkpoint(tmp_path / name, old)
    opened = load_trained(tmp_path).model.state_dict()
    assert opened.keys() == weights.keys()
    assert all(torch.equal(opened[name], weights[name]) for name in weights)
    lines: list[str] = []
    train(cache, tmp_path, tiny, options=RunOptions(device="cpu", tensorboard=False), report=lines.append)
    assert "nothing to do" in lines[-1]


@pytest.mark.parametrize("name", [BEST, LAST])
def test_a_damaged_checkpoint_is_refused_in_a_sentence(run: Path, name: str, tmp_path: Path) -> None:
    whole = (run / name).read_bytes()
    for damage in (b"", whole[: len(whole) // 2], b"\0" * 2000, b"PK\3\4" + whole[50:]):
        (tmp_path / name).write_bytes(damage)
        with pytest.raises(CheckpointError, match=name):
            load_trained(tmp_path / name)


def test_a_flipped_byte_of_the_weights_is_noticed(run: Path, tmp_path: Path) -> None:
    whole = bytearray((run / BEST).read_bytes())
    weights = load_trained(run).model.output.weight.detach().numpy().tobytes()
    at = bytes(whole).index(weights) + 40
    whole[at] ^= 1
    (tmp_path / BEST).write_bytes(whole)
    with pytest.raises(CheckpointError, match="damaged"):
        load_trained(tmp_path)


def test_missing_and_foreign_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        load_trained(tmp_path)
    torch.save({"weights": {}}, tmp_path / "other.pt")
    with pytest.raises(CheckpointError, match="not a checkpoint of mrnn"):
        load_trained(tmp_path / "other.pt")
    torch.save({"format": "mrnn-checkpoint", "version": 99}, tmp_path / "newer.pt")
    with pytest.raises(CheckpointError, match="version 99"):
        load_trained(tmp_path / "newer.pt")
    write_checkpoint(tmp_path / "odd.pt", content(1))
    with pytest.raises(CheckpointError, match="does not describe a model"):
        load_trained(tmp_path / "odd.pt")


class Malicious:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("executed",)


def test_nothing_in_a_checkpoint_is_executed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"format": "mrnn-checkpoint", "x": Malicious()}, tmp_path / "bad.pt")
    (tmp_path / "bad.pickle").write_bytes(pickle.dumps(Malicious()))
    for name in ("bad.pt", "bad.pickle"):
        with pytest.raises(CheckpointError):
            load_trained(tmp_path / name)
    assert not (tmp_path / "executed").exists()


def test_the_previous_checkpoint_stays_and_stands_in(tmp_path: Path) -> None:
    for number in (1, 2, 3):
        write_checkpoint(tmp_path / LAST, content(number), previous=tmp_path / PREVIOUS)
    assert read_checkpoint(tmp_path / LAST)["weights"]["w"][0] == 3
    assert read_checkpoint(tmp_path / PREVIOUS)["weights"]["w"][0] == 2
    os.truncate(tmp_path / LAST, 100)
    notices: list[str] = []
    with RunFolder(tmp_path, report=notices.append) as folder:
        last = folder.read_last()
        assert last is not None
        assert last["weights"]["w"][0] == 2
        assert LAST in notices[0]
        os.truncate(tmp_path / PREVIOUS, 100)
        with pytest.raises(CheckpointError, match="--overwrite"):
            folder.read_last()


def test_a_write_that_fails_leaves_the_file_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_checkpoint(tmp_path / LAST, content(1), previous=tmp_path / PREVIOUS)

    def full_disk(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(DiskFull, match=r"no space left on the disk for .*checkpoint_last\.pt"):
        write_checkpoint(tmp_path / LAST, content(2), previous=tmp_path / PREVIOUS)
    assert read_checkpoint(tmp_path / LAST)["weights"]["w"][0] == 1

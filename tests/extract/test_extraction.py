"""Stage 1 called from Python: in a thread, silent, with nothing but return values and errors."""

import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mrnn.data.cache import open_cache
from mrnn.data.captions import Corpus
from mrnn.data.datasets import read_dataset
from mrnn.data.errors import CacheError, CorpusError, SettingError, Stopped
from mrnn.data.foreign.formats import Given, read_sources
from mrnn.data.foreign.importing import import_features
from mrnn.data.merge import merge_caches
from mrnn.data.stopping import stop_on_signals
from mrnn.data.verify import verify_cache
from mrnn.extract.config import ExtractionConfig
from mrnn.extract.extraction import extract_dataset

CONFIG = ExtractionConfig(
    backbone="torchvision:squeezenet1_1", weights="random:0", resize=64, crop=64, batch_size=2, threads=1, workers=1
)


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    root = tmp_path / "photos"
    root.mkdir()
    generator = np.random.default_rng(0)
    lines = ["image,caption"]
    for number in range(6):
        Image.fromarray(generator.integers(0, 256, (70, 90, 3), dtype=np.uint8)).save(root / f"{number}.png")
        lines.append(f"{number}.png,picture number {number}")
    (root / "captions.csv").write_text("\n".join(lines))
    return read_dataset("folder", str(root))


def in_a_thread(work: Callable[[], Any]) -> Any:
    """The result of a function in another thread; its error is raised here."""
    results: list[Any] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(work())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


def test_all_of_stage_1_runs_silently_in_a_thread(
    corpus: Corpus, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    handlers = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)]
    (corpus.root / "5.png").write_bytes(b"")

    def work() -> list[Any]:
        with stop_on_signals() as stop:  # as a command would, but this is not the main thread
            whole = extract_dataset(corpus, str(tmp_path / "whole.h5"), config=CONFIG, stop=stop)
            for index in range(2):
                extract_dataset(corpus, tmp_path / f"{index}.h5", config=CONFIG, shard=(index, 2))
            merged = merge_caches(str(tmp_path / "merged.h5"), [str(tmp_path / "0.h5"), tmp_path / "1.h5"], stop=stop)
        np.save(tmp_path / "rows.npy", np.ones((6, 3), np.float32))
        sources = read_sources([tmp_path / "rows.npy"], Given(count=6))
        imported = import_features(tmp_path / "own.h5", corpus, sources, layer="fc7", dtype="float32")
        return [whole, merged, verify_cache(str(tmp_path / "merged.h5")), imported.absent]

    whole, merged, verification, absent = in_a_thread(work)
    assert (whole.computed, whole.problems) == (6, {"picture failed": 1})
    assert whole.report.read_text().splitlines()[1].startswith("picture failed\t5.png\t")
    done = whole.cache.done()
    assert len(done) == 5
    assert merged.features[done].tobytes() == whole.cache.features[done].tobytes()
    assert (verification.done, verification.failed, verification.damaged) == (5, 1, ())
    assert not absent
    assert capfd.readouterr() == ("", "")
    assert handlers == [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)]


def test_what_a_user_should_know_is_reported(corpus: Corpus, tmp_path: Path) -> None:
    (corpus.root / "5.png").write_bytes(b"")
    first = extract_dataset(corpus, tmp_path / "a.h5", config=CONFIG)
    lines: list[str] = []
    again = extract_dataset(corpus, tmp_path / "a.h5", config=CONFIG, report=lines.append)
    assert (first.computed, again.computed, lines) == (6, 0, [])
    retried = extract_dataset(corpus, tmp_path / "a.h5", config=CONFIG, retry_failed=True, report=lines.append)
    assert (retried.computed, lines) == (1, ["1 failed image is tried again"])


def test_a_stop_is_an_exception_and_the_next_call_resumes(corpus: Corpus, tmp_path: Path) -> None:
    with stop_on_signals(time_limit=0.0) as stop, pytest.raises(Stopped, match="0 of 6 images are done"):
        extract_dataset(corpus, tmp_path / "a.h5", config=CONFIG, stop=stop)
    whole = extract_dataset(corpus, tmp_path / "b.h5", config=CONFIG)
    resumed = extract_dataset(corpus, tmp_path / "a.h5", config=CONFIG)
    assert resumed.cache.features.tobytes() == whole.cache.features.tobytes()
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()


@pytest.mark.parametrize(
    ("changes", "output", "says"),
    [
        ({"backbone": "nope"}, "a.h5", "no backbone 'nope'"),
        ({"crop": 65}, "a.h5", "the crop of 65 pixels"),
        ({"mean": (0.0, 0.0)}, "a.h5", "three finite numbers"),
        ({"device": "abacus"}, "a.h5", "'abacus'"),
        ({"precision": "bfloat16", "device": "cpu"}, "a.h5", "bfloat16 is for CUDA devices"),
        ({}, "nowhere/a.h5", "there is no folder"),
    ],
)
def test_settings_that_cannot_be_are_named_before_anything_is_written(
    corpus: Corpus, tmp_path: Path, changes: dict[str, Any], output: str, says: str
) -> None:
    config = ExtractionConfig(**{**vars(CONFIG), **changes})
    with pytest.raises(SettingError, match=says):
        extract_dataset(corpus, tmp_path / output, config=config)
    assert not list(tmp_path.glob("*.h5"))


def test_a_data_set_without_images_is_refused(corpus: Corpus, tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="there are no images"):
        extract_dataset(Corpus("folder", corpus.root, ()), tmp_path / "a.h5", config=CONFIG)


def test_another_extraction_is_not_resumed(corpus: Corpus, tmp_path: Path) -> None:
    extract_dataset(corpus, tmp_path / "a.h5", config=CONFIG)
    with pytest.raises(CacheError, match="started with different settings: dtype was float16, now float32"):
        extract_dataset(corpus, tmp_path / "a.h5", config=ExtractionConfig(**{**vars(CONFIG), "dtype": "float32"}))
    assert len(open_cache(str(tmp_path / "a.h5")).done()) == 6

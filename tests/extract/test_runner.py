"""The way from pending pictures to rows: interrupted, sharded and repeated runs give the same bytes."""

import itertools
import resource
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as Picture
from torch import nn

from mrnn.data.cache import STATE_DONE, STATE_FAILED, STATE_PENDING, open_cache
from mrnn.data.cache_creation import create_cache
from mrnn.data.cache_writer import CacheWriter
from mrnn.data.captions import Corpus, Image
from mrnn.data.errors import CacheError, CorpusError, ImageError, Stopped
from mrnn.data.stopping import StopRequest
from mrnn.extract import pipeline, runner
from mrnn.extract.backbones import Backbone
from mrnn.extract.config import ExtractionConfig, parse_shard, shard_range
from mrnn.extract.images import Preprocessing, load_image
from mrnn.extract.network import BatchNetwork, choose_device, repeatable
from mrnn.extract.sampling import WholePictures

COUNT, BATCH, SIZE = 22, 4, 12
PREPROCESSING = Preprocessing(36, 32, "bilinear", (0.4, 0.5, 0.6), (0.2, 0.2, 0.2))


class Spy(nn.Module):
    """A small network that keeps the shapes it was called with."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.layers = nn.Sequential(
                nn.Conv2d(3, 8, 5, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, SIZE)
            )
        self.shapes: list[tuple[int, ...]] = []
        self.hook: Callable[[], None] = lambda: None

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        self.shapes.append(tuple(batch.shape))
        self.hook()
        features: torch.Tensor = self.layers(batch)
        return features


@pytest.fixture
def backbone() -> Backbone:
    backbone = Backbone("spy", "last", "none", PREPROCESSING, "random:0", "0" * 64, Spy())
    backbone.network.shapes.clear()
    return backbone


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    root = tmp_path / "root"
    (root / "pictures").mkdir(parents=True)
    generator = np.random.default_rng(0)
    images = []
    for number in range(COUNT):
        name = f"{number:02}.png"
        pixels = generator.integers(0, 256, (40 + number, 50, 3), dtype=np.uint8)
        Picture.fromarray(pixels).save(root / "pictures" / name)
        images.append(Image(name, f"pictures/{name}", "train", (f"picture {number}",)))
    return Corpus("test", root, tuple(images))


def sampler_of(backbone: Backbone, *, batch_size: int, device: str, precision: str = "float32") -> WholePictures:
    return WholePictures(backbone, batch_size=batch_size, device=choose_device(device), precision=precision)


def extract_to(path: Path, corpus: Corpus, backbone: Backbone, **options: Any) -> Path:
    if not path.exists():
        create_cache(path, corpus, {"threads": 1}, feature_size=SIZE, dtype="float32")
    with CacheWriter(path) as writer:
        sampler = sampler_of(
            backbone,
            batch_size=options.pop("batch_size", BATCH),
            device=options.pop("device", "cpu"),
            precision=options.pop("precision", "float32"),
        )
        runner.extract(writer, sampler, corpus.root, **{"threads": 1, "workers": 3, **options})
    return path


def contents(path: Path) -> tuple[bytes, bytes]:
    cache = open_cache(path)
    return cache.features.tobytes(), cache.states.tobytes()


def break_pictures(corpus: Corpus, *numbers: int) -> None:
    for number in numbers:
        (corpus.root / corpus.images[number].path).write_bytes(b"<html>")


def test_rows_are_the_networks_output_for_each_picture(tmp_path: Path, corpus: Corpus, backbone: Backbone) -> None:
    cache = open_cache(extract_to(tmp_path / "a.h5", corpus, backbone))
    for number, image in enumerate(corpus.images):
        pixels = load_image(corpus.root / image.path, PREPROCESSING) / 255.0
        batch = torch.from_numpy((pixels - PREPROCESSING.mean) / PREPROCESSING.std).permute(2, 0, 1).float()[None]
        with torch.inference_mode():
            expected = backbone.network(batch)[0].numpy()
        np.testing.assert_allclose(cache.features[number], expected, rtol=1e-4, atol=1e-5)


def test_every_pass_has_exactly_the_batch_size(tmp_path: Path, corpus: Corpus, backbone: Backbone) -> None:
    break_pictures(corpus, 3, 9)
    extract_to(tmp_path / "a.h5", corpus, backbone)
    assert set(backbone.network.shapes) == {(BATCH, 3, 32, 32)}
    assert len(backbone.network.shapes) == -(-COUNT // BATCH)


def test_failed_pictures_are_marked_and_do_not_change_their_neighbours(
    tmp_path: Path, corpus: Corpus, backbone: Backbone
) -> None:
    whole = open_cache(extract_to(tmp_path / "whole.h5", corpus, backbone))
    break_pictures(corpus, 2, 4, 5, 6, 7, 21)
    (corpus.root / corpus.images[11].path).unlink()
    cache = open_cache(extract_to(tmp_path / "a.h5", corpus, backbone))
    failed = [2, 4, 5, 6, 7, 11, 21]
    assert np.flatnonzero(cache.states == STATE_FAILED).tolist() == failed
    assert "web page" in cache.reasons["02.png"]
    assert "missing" in cache.reasons["11.png"]
    others = np.flatnonzero(cache.states == STATE_DONE)
    assert len(others) == COUNT - len(failed)
    assert cache.features[others].tobytes() == whole.features[others].tobytes()


def test_retried_pictures_get_the_rows_of_an_undisturbed_run(
    tmp_path: Path, corpus: Corpus, backbone: Backbone
) -> None:
    whole = contents(extract_to(tmp_path / "whole.h5", corpus, backbone))
    kept = (corpus.root / corpus.images[6].path).read_bytes()
    break_pictures(corpus, 6)
    path = extract_to(tmp_path / "a.h5", corpus, backbone)
    (corpus.root / corpus.images[6].path).write_bytes(kept)
    with CacheWriter(path) as writer:
        assert writer.reopen_failed() == 1
    backbone.network.shapes.clear()
    assert contents(extract_to(path, corpus, backbone)) == whole
    assert backbone.network.shapes == [(BATCH, 3, 32, 32)]


@pytest.mark.parametrize("after", [1, 2, 5])
def test_stopped_and_resumed_equals_uninterrupted(
    tmp_path: Path, corpus: Corpus, backbone: Backbone, after: int
) -> None:
    whole = contents(extract_to(tmp_path / "whole.h5", corpus, backbone))
    backbone.network.shapes.clear()
    request = StopRequest()
    backbone.network.hook = lambda: request.receive(15, None) if len(backbone.network.shapes) == after else None
    path = tmp_path / "a.h5"
    with pytest.raises(Stopped, match=f"{after * BATCH} of {COUNT} images are done") as stopped:
        extract_to(path, corpus, backbone, stop=request)
    assert stopped.value.exit_code == 75
    states = open_cache(path, allow_partial=True).states
    assert (states == STATE_DONE).sum() == after * BATCH
    backbone.network.hook = lambda: None
    assert contents(extract_to(path, corpus, backbone)) == whole
    assert len(backbone.network.shapes) == -(-COUNT // BATCH), "no batch was computed twice"


def test_a_stop_in_the_last_batch_is_not_needed(tmp_path: Path, corpus: Corpus, backbone: Backbone) -> None:
    request = StopRequest()
    backbone.network.hook = lambda: request.receive(15, None) if len(backbone.network.shapes) == 6 else None
    extract_to(tmp_path / "a.h5", corpus, backbone, stop=request)
    open_cache(tmp_path / "a.h5")


def test_batches_marked_in_part_are_completed(tmp_path: Path, corpus: Corpus, backbone: Backbone) -> None:
    """A kill between two marks leaves some pictures of a batch pending."""
    path = extract_to(tmp_path / "a.h5", corpus, backbone)
    whole = contents(path)
    with CacheWriter(path) as writer:
        writer._put("features", np.array([1, 5, 6]), np.full((3, SIZE), 9, dtype=np.float32))
        writer._mark(np.array([1, 5, 6]), STATE_PENDING)
    assert contents(extract_to(path, corpus, backbone)) == whole


@pytest.mark.parametrize("count", [2, 3, 6])
def test_shards_put_together_equal_the_whole(tmp_path: Path, corpus: Corpus, backbone: Backbone, count: int) -> None:
    features, states = contents(extract_to(tmp_path / "whole.h5", corpus, backbone))
    parts = []
    for index in range(count):
        begin, end = shard_range(COUNT, batch_size=BATCH, index=index, count=count)
        part = replace(corpus, images=corpus.images[begin:end])
        parts.append(contents(extract_to(tmp_path / f"{index}.h5", part, backbone)))
    assert b"".join(part[0] for part in parts) == features
    assert b"".join(part[1] for part in parts) == states


@pytest.mark.parametrize("workers", [1, 7])
def test_workers_do_not_change_the_rows(tmp_path: Path, corpus: Corpus, backbone: Backbone, workers: int) -> None:
    whole = contents(extract_to(tmp_path / "a.h5", corpus, backbone))
    assert contents(extract_to(tmp_path / "b.h5", corpus, backbone, workers=workers)) == whole


def test_on_error_fail_names_the_first_and_keeps_what_is_done(
    tmp_path: Path, corpus: Corpus, backbone: Backbone
) -> None:
    break_pictures(corpus, 9, 10)
    with pytest.raises(ImageError, match=r"09\.png.*web page"):
        extract_to(tmp_path / "a.h5", corpus, backbone, on_error="fail")
    states = open_cache(tmp_path / "a.h5", allow_partial=True).states
    assert states.tolist() == [STATE_DONE] * 8 + [STATE_PENDING] * 14


def test_a_folder_that_is_not_there_marks_nothing(tmp_path: Path, corpus: Corpus, backbone: Backbone) -> None:
    shutil.rmtree(corpus.root / "pictures")
    with pytest.raises(CorpusError, match="is --root the right folder"):
        extract_to(tmp_path / "a.h5", corpus, backbone)
    assert not open_cache(tmp_path / "a.h5", allow_partial=True).states.any()


@pytest.mark.parametrize("leave_root", [True, False])
def test_a_folder_that_vanishes_marks_nothing(
    tmp_path: Path, corpus: Corpus, backbone: Backbone, leave_root: bool
) -> None:
    path = tmp_path / "a.h5"

    def vanish() -> None:
        if len(backbone.network.shapes) == 1:
            shutil.rmtree(corpus.root / "pictures" if leave_root else corpus.root)

    backbone.network.hook = vanish
    kept = tmp_path / "kept"
    shutil.copytree(corpus.root, kept)
    with pytest.raises(CorpusError, match="have disappeared"):
        extract_to(path, corpus, backbone, workers=1)
    assert not (open_cache(path, allow_partial=True).states == STATE_FAILED).any()
    with pytest.raises(CorpusError, match="have disappeared"):
        extract_to(path, corpus, backbone)  # still away: what was done bears witness
    shutil.copytree(kept, corpus.root, dirs_exist_ok=True)
    backbone.network.hook = lambda: None
    done = contents(extract_to(path, corpus, backbone))
    assert done == contents(extract_to(tmp_path / "whole.h5", corpus, backbone))


def test_a_first_batch_of_missing_pictures_is_no_vanished_folder(
    tmp_path: Path, corpus: Corpus, backbone: Backbone
) -> None:
    for image in corpus.images[:BATCH]:
        (corpus.root / image.path).unlink()
    cache = open_cache(extract_to(tmp_path / "a.h5", corpus, backbone))
    assert len(cache.reasons) == BATCH


def test_memory_is_bounded_and_stages_overlap(
    tmp_path: Path, corpus: Corpus, backbone: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Never more batches under way than the bound, and pictures of later batches are read while the network works."""
    made: list[int] = []
    empty_batch = BatchNetwork.empty_batch
    monkeypatch.setattr(BatchNetwork, "empty_batch", lambda self: (made.append(1), empty_batch(self))[1])
    read: list[str] = []
    threads: set[str] = set()
    together = threading.Barrier(3)  # none of the three reads on before all have begun
    load = pipeline.read_bytes

    def noted(path: Path) -> bytes:
        if threading.current_thread().name not in threads:
            threads.add(threading.current_thread().name)
            together.wait()
        content = load(path)
        read.append(path.name)
        return content

    monkeypatch.setattr(pipeline, "read_bytes", noted)

    def hook() -> None:
        """The network does not end its work before the pictures of the batches ahead are read."""
        batches = len(backbone.network.shapes) + pipeline.BATCHES_AHEAD
        while len(read) < min(BATCH * batches, COUNT):
            time.sleep(0.001)
        assert len(made) <= batches
        assert len(read) <= BATCH * batches

    backbone.network.hook = hook
    extract_to(tmp_path / "a.h5", corpus, backbone)
    assert len(read) == COUNT
    assert len(threads) == 3
    assert all(name.startswith("decode") for name in threads)


def test_memory_stays_flat_over_thousands_of_pictures(tmp_path: Path, corpus: Corpus, backbone: Backbone) -> None:
    """Kept for good, the pixels of the last 2,000 pictures alone would be 25 MB. `make memory` takes 100,000."""
    images = tuple(replace(corpus.images[n % COUNT], id=f"{n}.png") for n in range(3000))
    large = replace(backbone, preprocessing=replace(PREPROCESSING, resize=64, crop=64))
    used: list[float] = []
    backbone.network.hook = lambda: used.append(
        int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 1e6
    )
    extract_to(tmp_path / "a.h5", replace(corpus, images=images), large, batch_size=50)
    assert len(used) == 60
    assert max(used[20:]) - max(used[10:20]) < 8


@pytest.mark.parametrize("value", [float("nan"), 1e30])
def test_an_error_of_the_writer_ends_the_run(tmp_path: Path, corpus: Corpus, backbone: Backbone, value: float) -> None:
    create_cache(tmp_path / "a.h5", corpus, {"threads": 1}, feature_size=SIZE, dtype="float16")
    with torch.no_grad():
        backbone.network.layers[-1].bias[0] = value
    with pytest.raises(CacheError, match=r"00\.png"):
        extract_to(tmp_path / "a.h5", corpus, backbone)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith(("decode", "write"))]


def test_an_error_of_the_machine_ends_the_run(
    tmp_path: Path, corpus: Corpus, backbone: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: Path) -> bytes:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(pipeline, "read_bytes", fail)
    with pytest.raises(OSError, match="Too many"):
        extract_to(tmp_path / "a.h5", corpus, backbone)
    assert not open_cache(tmp_path / "a.h5", allow_partial=True).states.any()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith(("decode", "write"))]


def test_rows_of_pictures_equal_those_in_a_cache(tmp_path: Path, corpus: Corpus, backbone: Backbone) -> None:
    break_pictures(corpus, 5)
    cache = open_cache(extract_to(tmp_path / "a.h5", corpus, backbone))
    paths = [corpus.root / image.path for image in corpus.images]
    sampler = sampler_of(backbone, batch_size=BATCH, device="cpu")
    found = runner.rows_of_pictures(sampler, paths, workers=2, threads=1)
    assert list(found.reasons) == [5]
    assert np.isnan(found.features[5]).all()
    done = cache.done()
    assert found.features[done].tobytes() == cache.features[done].tobytes()
    assert found.regions[done].rectangles.tolist() == cache.regions.rectangles[done].tolist()
    assert found.regions.valid.tolist() == [number != 5 for number in range(COUNT)]
    assert runner.rows_of_pictures(sampler, []).features.shape == (0, 1, SIZE)


def test_recorded_threads_are_used_and_given_back(tmp_path: Path, corpus: Corpus, backbone: Backbone) -> None:
    before, seen = torch.get_num_threads(), set()
    backbone.network.hook = lambda: seen.add(torch.get_num_threads())
    extract_to(tmp_path / "a.h5", corpus, backbone, threads=before + 1)
    assert seen == {before + 1}
    assert torch.get_num_threads() == before


def test_devices() -> None:
    assert choose_device("cpu").type == "cpu"
    assert choose_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    for name in ("tpu9", "meta", "cuda:99"):
        with pytest.raises(ValueError, match=name):
            choose_device(name)


def test_bfloat16_is_for_cuda(backbone: Backbone) -> None:
    with pytest.raises(ValueError, match="CUDA"):
        BatchNetwork(backbone, batch_size=2, device=torch.device("cpu"), precision="bfloat16")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_equals_cpu(tmp_path: Path, corpus: Corpus, backbone: Backbone) -> None:
    on_cpu = open_cache(extract_to(tmp_path / "cpu.h5", corpus, backbone, device="cpu")).features.copy()
    on_cuda = contents(extract_to(tmp_path / "a.h5", corpus, backbone, device="cuda"))
    assert contents(extract_to(tmp_path / "b.h5", corpus, backbone, device="cuda")) == on_cuda
    np.testing.assert_allclose(open_cache(tmp_path / "a.h5").features, on_cpu, rtol=1e-4, atol=1e-5)
    rough = open_cache(extract_to(tmp_path / "c.h5", corpus, backbone, device="cuda", precision="bfloat16")).features
    assert 0 < np.abs(rough - on_cpu).max() < 0.05


def test_repeatable_gives_everything_back() -> None:
    before = torch.get_num_threads(), torch.backends.cudnn.deterministic
    with pytest.raises(KeyError), repeatable(threads=3):
        assert torch.get_num_threads() == 3
        raise KeyError
    assert (torch.get_num_threads(), torch.backends.cudnn.deterministic) == before


@given(total=st.integers(1, 500), batch_size=st.integers(1, 70), count=st.integers(1, 60))
def test_shard_ranges_tile_the_whole(total: int, batch_size: int, count: int) -> None:
    batches = -(-total // batch_size)
    if count > batches:
        with pytest.raises(ValueError, match=rf"at most {batches} shards"):
            shard_range(total, batch_size=batch_size, index=0, count=count)
        return
    ranges = [shard_range(total, batch_size=batch_size, index=index, count=count) for index in range(count)]
    assert ranges[0][0] == 0
    assert ranges[-1][1] == total
    assert all(left[1] == right[0] for left, right in itertools.pairwise(ranges))
    assert all(begin % batch_size == 0 and begin < end for begin, end in ranges)
    sizes = [-(-(end - begin) // batch_size) for begin, end in ranges]
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("text", ["", "1", "2/2", "-1/2", "0/0", "a/b", "1/2/3", "0.5/2", " 0/2"])
def test_shards_that_cannot_be(text: str) -> None:
    with pytest.raises(ValueError, match="I/N"):
        parse_shard(text)


def test_settings_that_cannot_be() -> None:
    for change in ({"batch_size": 0}, {"workers": 0}, {"threads": -1}, {"dtype": "int8"}, {"on_error": "x"}):
        with pytest.raises(ValueError, match=next(iter(change))):
            ExtractionConfig(**change)


def test_futures_are_cancelled_when_the_run_ends(corpus: Corpus, backbone: Backbone) -> None:
    sampler = sampler_of(backbone, batch_size=BATCH, device="cpu")
    wanted = pipeline.Wanted(tuple(i.id for i in corpus.images), tuple(corpus.root / i.path for i in corpus.images))
    batches = pipeline.prepared_batches([[0, 1], [4], [8]], wanted, sampler, workers=1)
    assert next(batches).places == [0, 1]
    batches.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith(("decode", "write"))]

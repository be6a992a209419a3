"""Writing into a cache: order, locks, refusals, and kills at any moment."""

import errno
import fcntl
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mrnn.data import cache_writer
from mrnn.data.cache import STATE_DONE, STATE_FAILED, open_cache
from mrnn.data.cache_creation import create_cache
from mrnn.data.cache_writer import CacheWriter
from mrnn.data.captions import Corpus, Image
from mrnn.data.errors import CacheError
from mrnn.data.exhaustion import DiskFull
from mrnn.data.verify import verify_cache

ROOT = Path(__file__).resolve().parents[2]
N, D = 40, 64


def make_cache(folder: Path, dtype: str = "float16") -> Path:
    images = tuple(Image(f"{i}.jpg", f"{i}.jpg", "train", ("a dog",)) for i in range(N))
    create_cache(folder / "feats.h5", Corpus("folder", folder, images), {}, feature_size=D, dtype=dtype)
    return folder / "feats.h5"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return make_cache(tmp_path)


def rows(n: int, value: float = 1.0) -> np.ndarray:
    return np.full((n, D), value, dtype=np.float32)


def test_rows_land_where_they_belong_whatever_their_order(path: Path) -> None:
    indices = np.array([7, 3, 4, 39, 0])
    features = np.random.default_rng(0).normal(size=(5, D)).astype(np.float16)
    with CacheWriter(path) as writer:
        writer.write(indices, features)
        assert set(writer.pending().tolist()) == set(range(N)) - set(indices.tolist())
    cache = open_cache(path, allow_partial=True)
    assert cache.done().tolist() == sorted(indices.tolist())
    np.testing.assert_array_equal(cache.features[indices], features)
    assert verify_cache(path).damaged == ()


def test_failed_images_have_a_reason_and_can_be_reopened(path: Path) -> None:
    with CacheWriter(path) as writer:
        writer.fail(np.array([5, 6]), ["truncated: ümlaut", "x" * 300])
    cache = open_cache(path, allow_partial=True)
    assert cache.reasons == {"5.jpg": "truncated: ümlaut", "6.jpg": "x" * 200}
    assert verify_cache(path).failed == 2
    with CacheWriter(path) as writer:
        assert writer.reopen_failed() == 2
        assert len(writer.pending()) == N


@pytest.mark.parametrize(("value", "hint"), [(7e4, "--dtype float32"), (np.nan, "weights"), (-np.inf, "weights")])
def test_values_that_cannot_be_stored_are_refused_before_anything_is_marked(
    path: Path, value: float, hint: str
) -> None:
    features = rows(3)
    features[1, 2] = value
    with CacheWriter(path) as writer, pytest.raises(CacheError, match=rf"'9.jpg' has the activation .*{hint}"):
        writer.write(np.array([8, 9, 10]), features)
    assert len(open_cache(path, allow_partial=True).done()) == 0


def test_large_values_fit_into_float32(tmp_path: Path) -> None:
    path = make_cache(tmp_path, dtype="float32")
    with CacheWriter(path) as writer:
        writer.write(np.array([0]), rows(1, 7e4))
    assert open_cache(path, allow_partial=True).features[0, 0] == np.float32(7e4)


def test_a_second_writer_is_refused_and_the_first_goes_on(path: Path) -> None:
    with CacheWriter(path) as writer:
        with pytest.raises(CacheError, match="another process is writing"):
            CacheWriter(path)
        writer.write(np.arange(3), rows(3))
    with CacheWriter(path) as writer:
        assert len(writer.pending()) == N - 3


def test_a_reader_during_writing_sees_what_is_done(path: Path) -> None:
    with CacheWriter(path) as writer:
        writer.write(np.arange(3), rows(3))
        assert open_cache(path, allow_partial=True).done().tolist() == [0, 1, 2]
        with pytest.raises(CacheError, match="not complete: 37 of 40"):
            open_cache(path)


def test_without_locks_the_message_names_the_option(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unsupported(*_: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(cache_writer.fcntl, "flock", unsupported)
    with pytest.raises(CacheError, match=r"cannot lock files \(No locks available\).*--no-lock"):
        CacheWriter(path)
    with CacheWriter(path, lock=False) as writer:
        writer.write(np.arange(1), rows(1))


def test_marks_are_written_after_rows_are_synced(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that dies at the sync leaves rows behind, but no mark that vouches for them."""

    class Died(Exception):
        pass

    def die(descriptor: int) -> None:
        raise Died

    writer = CacheWriter(path)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", die)
        with pytest.raises(Died):
            writer.write(np.arange(2), rows(2))
    os.close(writer._file)
    assert len(open_cache(path, allow_partial=True).done()) == 0


def test_a_finished_cache_is_nobodys_to_lock(path: Path) -> None:
    with CacheWriter(path) as writer:
        writer.write(np.arange(N - 1), rows(N - 1))
        writer.fail(np.array([N - 1]), ["bad"])
    with path.open("rb") as holder:
        fcntl.flock(holder, fcntl.LOCK_SH)  # as h5py does in a notebook
        with CacheWriter(path) as writer:
            assert len(writer.pending()) == 0
            with pytest.raises(CacheError, match=r"open for reading .*locking=False.*--no-lock"):
                writer.reopen_failed()
    with CacheWriter(path) as writer:
        assert writer.reopen_failed() == 1


def test_who_holds_the_lock_is_said_truly(path: Path) -> None:
    with path.open("rb") as holder:
        fcntl.flock(holder, fcntl.LOCK_SH)
        with pytest.raises(CacheError, match="open for reading"):
            CacheWriter(path)
        fcntl.flock(holder, fcntl.LOCK_EX)
        with pytest.raises(CacheError, match="another process is writing"):
            CacheWriter(path)
    with CacheWriter(path, lock=False) as writer:
        assert len(writer.pending()) == N


def test_systems_without_fdatasync_are_served(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "fdatasync")
    monkeypatch.delattr(os, "posix_fallocate")
    with CacheWriter(path) as writer:
        writer.write(np.arange(3), rows(3))
    (path.parent / "other").mkdir()
    other = make_cache(path.parent / "other")
    assert open_cache(other, allow_partial=True).features.shape == open_cache(path, allow_partial=True).features.shape


def test_a_full_disk_while_rows_are_written_names_the_cache(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with CacheWriter(path) as writer:
        monkeypatch.setattr(os, "pwrite", full)
        with pytest.raises(DiskFull, match=path.name):
            writer.write(np.arange(3), rows(3))


# argv: the cache, and the number of the function call before which the process dies, from the opened cache on, or 0.
WRITE_ALL = """
import sys
from pathlib import Path
import numpy as np
import numpy.random  # else loaded among the calls that count, so that some would die before any work
from mrnn.data.cache_writer import CacheWriter
from tests.kills import count_calls
with CacheWriter(Path(sys.argv[1])) as writer:
    calls = count_calls(die_at=int(sys.argv[2]))
    for i in writer.pending():
        features = np.random.default_rng(int(i)).normal(size=(1, 64))
        writer.fail(np.array([i]), ["bad"]) if i % 7 == 3 else writer.write(np.array([i]), features)
    print(calls())
"""


def write_all(path: Path, *, die_at: int = 0) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", WRITE_ALL, str(path), str(die_at)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done


def test_killed_writers_leave_a_cache_that_the_next_one_finishes(tmp_path: Path) -> None:
    (tmp_path / "whole").mkdir()
    whole, killed = make_cache(tmp_path / "whole"), make_cache(tmp_path)
    calls = int(write_all(whole).stdout)
    draw, kills = random.Random(0), 0
    while write_all(killed, die_at=draw.randint(1, calls // 3)).returncode:  # so that three die at least
        kills += 1
        assert verify_cache(killed).damaged == ()
    assert kills >= 3
    one, other = open_cache(whole), open_cache(killed)
    done = one.done()
    np.testing.assert_array_equal(one.features[done], other.features[done])
    assert one.reasons == other.reasons
    assert ((other.states == STATE_FAILED) | (other.states == STATE_DONE)).all()

"""A full disk and memory that ran out, as torch, numpy, safetensors and Python report them."""

import errno
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from mrnn.data.exhaustion import DiskFull, OutOfMemory, is_out_of_memory, memory_for, writing
from mrnn.data.files import write_whole

# A limit on the size of files (SIGXFSZ is ignored by Python) is a disk that is full after so many bytes.
SMALL_DISK = """
import resource, sys
from pathlib import Path
import h5py, numpy as np, torch
from safetensors.torch import save_file
from mrnn.data.errors import MrnnError
from mrnn.data.files import new_file
path = Path(sys.argv[1])
path.write_bytes(b"old")
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
writers = {
    "python": lambda draft: draft.write_bytes(bytes(10**6)),
    "torch": lambda draft: torch.save({"a": torch.zeros(10**6)}, draft),
    "safetensors": lambda draft: save_file({"a": torch.zeros(10**6)}, draft),
    "numpy": lambda draft: np.save(draft.open("wb"), np.zeros(10**6)),
}
try:
    with new_file(path, replace=True) as draft:
        writers[sys.argv[2]](draft)
except MrnnError as error:
    print(error)
"""


@pytest.mark.parametrize("library", ["python", "torch", "safetensors", "numpy"])
def test_a_full_disk_is_one_line_with_file_and_space(tmp_path: Path, library: str) -> None:
    path = tmp_path / "checkpoint_last.pt"
    done = subprocess.run([sys.executable, "-c", SMALL_DISK, path, library], capture_output=True, text=True, check=True)
    assert re.fullmatch(
        rf"no space left on the disk for {re.escape(str(path))}: the first [\d.]+ MB of it could be written, and "
        rf"{re.escape(str(tmp_path))} now has [\d.]+ MB free; make room and run the same command again\n",
        done.stdout,
    )
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]
    assert path.read_bytes() == b"old"


def test_other_errors_stay_what_they_are(tmp_path: Path) -> None:
    draft = tmp_path / "draft"
    draft.write_bytes(b"part")
    with pytest.raises(RuntimeError, match="unexpected pos"), writing(tmp_path / "a", draft=draft):
        raise RuntimeError("unexpected pos 576 vs 534")
    with pytest.raises(ValueError, match="what"), writing(tmp_path / "a"):
        raise ValueError("what")


def test_an_error_of_the_system_names_the_file(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"Input/output error: '.*/a'") as caught, writing(tmp_path / "a"):
        raise OSError(errno.EIO, os.strerror(errno.EIO))
    assert caught.value.filename == str(tmp_path / "a")
    with pytest.raises(DiskFull, match=r"/a: "), writing(tmp_path / "a"):
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))


def test_a_disk_that_is_full_before_the_first_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "touch", full)
    with pytest.raises(DiskFull, match="/a: the first 0.0 MB"):
        write_whole(tmp_path / "a", b"x")


def allocate_with_torch() -> None:
    torch.empty(10**14)


def allocate_with_numpy() -> None:
    np.empty(10**14)


def allocate_with_python() -> None:
    bytearray(10**14)


def allocate_on_a_gpu() -> None:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has ...\nmore lines")


@pytest.mark.parametrize(
    "allocate", [allocate_with_torch, allocate_with_numpy, allocate_with_python, allocate_on_a_gpu]
)
def test_memory_that_ran_out_is_one_line_with_work_and_remedy(allocate: object) -> None:
    with pytest.raises(OutOfMemory) as caught, memory_for("batch 3", remedy="lower --batch-size"):
        allocate()  # type: ignore[operator]
    text = str(caught.value)
    assert re.fullmatch(r"not enough memory for batch 3 \(.+\); lower --batch-size", text)
    assert "enforce fail" not in text


def test_errors_that_are_not_about_memory_pass() -> None:
    assert not is_out_of_memory(RuntimeError("shapes differ"))
    assert not is_out_of_memory(ValueError("out of memory"))
    with pytest.raises(RuntimeError, match="shapes"), memory_for("batch 3", remedy="lower --batch-size"):
        raise RuntimeError("shapes differ")

"""Running out of disk space or memory, in one line that names the file or the work and says what to do.

Libraries report both in ways of their own (torch: "unexpected pos 576 vs 534", "DefaultCPUAllocator: can't allocate
memory"), so what happened is told from the error and, for a disk, from a test write.
"""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mrnn.data.errors import MrnnError

DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
DISK_WORDS = ("No space left on device", "Disk quota exceeded", "File too large")
MEMORY_WORDS = ("can't allocate memory", "out of memory", "not enough memory", "bad_alloc", "ALLOC_FAILED")
PROBE_BYTES = 2**20


class DiskFull(MrnnError):
    """A file cannot be written since its disk, or the user's quota on it, is full."""


class OutOfMemory(MrnnError):
    """The machine or the GPU has not the memory for a piece of work."""


def free_bytes(folder: Path) -> int:
    """What the user may still write into the file system of a folder."""
    status = os.statvfs(folder)
    return status.f_bavail * status.f_frsize


@contextmanager
def writing(path: Path, *, draft: Path | None = None) -> Iterator[None]:
    """Turn a full disk in the block, however it shows, into DiskFull, and name the file in an OSError that does not.

    path : the file being written, for the message. draft : the file that is open meanwhile, removed if the disk is
    full; without, errors of libraries that do not say what happened are left as they are.
    """
    try:
        yield
    except MrnnError:
        raise
    except Exception as error:
        if _is_disk_full(error, draft):
            written = draft.stat().st_size / 1e6 if draft is not None and draft.exists() else 0
            if draft is not None:
                draft.unlink(missing_ok=True)
            free = free_bytes(path.parent) / 1e6
            raise DiskFull(
                f"no space left on the disk for {path}: the first {written:.1f} MB of it could be written, and "
                f"{path.parent} now has {free:.1f} MB free; make room and run the same command again"
            ) from error
        if isinstance(error, OSError) and error.strerror and error.filename is None:
            raise type(error)(error.errno, error.strerror, str(path)) from error
        raise


def _is_disk_full(error: Exception, draft: Path | None) -> bool:
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in DISK_ERRORS
    if any(words in str(error) for words in DISK_WORDS):
        return True
    if draft is None or not draft.exists():
        return False
    try:  # the error says nothing; a write to the same file does
        with draft.open("ab") as stream:
            stream.write(bytes(PROBE_BYTES))
    except OSError as refused:
        return refused.errno in DISK_ERRORS
    return False


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error of Python, numpy or torch says that memory ran out."""
    if isinstance(error, MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in MEMORY_WORDS)


@contextmanager
def memory_for(work: str, *, remedy: str) -> Iterator[None]:
    """Turn running out of memory in the block into OutOfMemory.

    work : what was being done, such as "picture a.jpg". remedy : what to do, such as "lower --batch-size".
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise OutOfMemory(f"not enough memory for {work} ({first_line(error)}); {remedy}") from error


def first_line(error: BaseException) -> str:
    """The first line of an error's text, without the place in a library's source that it may begin with."""
    text = str(error).strip().split("\n")[0]
    return text.removeprefix("[enforce fail at").split("] . ")[-1].split("err == 0. ")[-1][:160] or type(error).__name__

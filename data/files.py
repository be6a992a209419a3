"""Files that appear whole or not at all: written under a temporary name, synced, renamed.

Also the calls for disk space and syncing that not every system has (macOS lacks posix_fallocate and fdatasync).
"""

import errno
import fcntl
import json
import os
import platform
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mrnn.data.exhaustion import writing


@contextmanager
def new_file(path: str | Path, *, replace: bool = False, previous: Path | None = None) -> Iterator[Path]:
    """Yield a temporary path beside `path`; when the block succeeds, sync it and rename it to `path`.

    path : the file to create.
    replace : whether it may exist; otherwise FileExistsError is raised if it does.
    previous : with replace, the name under which the old file is kept.

    The block must create the file. If it raises, the temporary file is removed and `path` is unchanged. A killed
    process leaves the temporary file behind; its name has the machine and the process number, and the next call there
    removes it. Raises DiskFull if there is no space for the file, and the OSError that names `path` if its folder does
    not exist or cannot be written.
    """
    path = Path(path)
    _remove_abandoned(path)
    draft = path.with_name(f"{_draft_prefix(path)}{os.getpid()}.draft")
    try:
        draft.touch()
        draft.unlink()
    except OSError as error:  # with the name of the file asked for; libraries name the draft, or nothing
        with writing(path):
            raise type(error)(error.errno, error.strerror, str(path)) from None
    try:
        with writing(path, draft=draft):
            yield draft
            with draft.open("rb") as stream:
                sync_file(stream.fileno())
        if replace:
            if previous is not None and path.exists():
                path.replace(previous)
            draft.replace(path)
        else:
            _rename_to_new(draft, path)
        sync_folder(path.parent)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def write_whole(path: str | Path, content: bytes) -> None:
    """Write a file so that a reader or a restart sees either the old content or the new, never a part."""
    with new_file(path, replace=True) as draft:
        draft.write_bytes(content)


def sync_folder(folder: Path) -> None:
    """Make a rename in the folder survive a power failure."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        sync_file(descriptor)
    finally:
        os.close(descriptor)


def sync_file(descriptor: int) -> None:
    """Make what was written to an open file last through a power failure.

    On macOS fsync leaves the bytes in the drive's own memory; F_FULLFSYNC, where the file system has it, does not.
    """
    full_sync = getattr(fcntl, "F_FULLFSYNC", None)
    if full_sync is not None:
        try:
            fcntl.fcntl(descriptor, full_sync)
        except OSError:  # a network file system; fsync is all there is
            os.fsync(descriptor)
    else:
        os.fsync(descriptor)


def sync_data(descriptor: int) -> None:
    """As sync_file, for a file whose size does not change, which is faster where the system has a call for it."""
    if hasattr(os, "fdatasync"):
        os.fdatasync(descriptor)
    else:
        sync_file(descriptor)


def reserve_space(descriptor: int, size: int) -> None:
    """Give an open file `size` bytes on the disk now, its content unchanged. Raises the OSError of a disk that is full.

    Where the system or the file system cannot reserve space, the file is extended without, after a look at the space
    that is free; another program may then still take it.
    """
    if hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(descriptor, 0, size)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS):
                raise
        else:
            return
    status = os.fstat(descriptor)
    volume = os.fstatvfs(descriptor)
    if volume.f_bavail * volume.f_frsize < size - status.st_blocks * 512:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    if status.st_size < size:
        os.ftruncate(descriptor, size)
        os.pwrite(descriptor, b"\0", size - 1)  # a quota or a limit on the size of files shows now


def _rename_to_new(draft: Path, path: Path) -> None:
    try:
        os.link(draft, path)  # unlike a rename, it never replaces what another process has created meanwhile
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        if path.exists():
            raise FileExistsError(f"{path} exists") from None
        draft.rename(path)
    else:
        draft.unlink()


def _draft_prefix(path: Path) -> str:
    return f".{path.name}.{platform.node()}."


def write_json(path: str | Path, content: Any) -> None:
    """Write JSON to a file, whole or not at all."""
    write_whole(path, (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode())


def write_json_lines(path: Path, records: Iterable[Mapping[str, Any]]) -> None:
    """Write one JSON object per line to a file, whole or not at all."""
    write_whole(path, "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records).encode())


def _remove_abandoned(path: Path) -> None:
    """Remove drafts of `path` whose process on this machine has ended."""
    if not path.parent.is_dir():
        return
    for name in os.listdir(path.parent):
        number = name.removeprefix(_draft_prefix(path)).removesuffix(".draft")
        if name == f"{_draft_prefix(path)}{number}.draft" and number.isdigit() and not _is_alive(int(number)):
            path.with_name(name).unlink(missing_ok=True)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True

"""Files that appear whole or not at all."""

import errno
import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mrnn.data.files import new_file, reserve_space, sync_data, sync_file, write_whole


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def test_a_file_appears_at_the_end_of_the_block(tmp_path: Path) -> None:
    with new_file(tmp_path / "a") as draft:
        draft.write_text("whole")
        assert not (tmp_path / "a").exists()
    assert (tmp_path / "a").read_text() == "whole"
    assert names(tmp_path) == ["a"]


def test_an_error_leaves_nothing_behind_and_the_old_file_as_it_was(tmp_path: Path) -> None:
    write_whole(tmp_path / "a", b"old")
    with pytest.raises(RuntimeError), new_file(tmp_path / "a", replace=True) as draft:
        draft.write_text("ne")
        raise RuntimeError
    assert (tmp_path / "a").read_text() == "old"
    assert names(tmp_path) == ["a"]


def test_a_file_that_came_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    with pytest.raises(FileExistsError), new_file(tmp_path / "a") as draft:
        draft.write_text("mine")
        (tmp_path / "a").write_text("theirs")
    assert (tmp_path / "a").read_text() == "theirs"
    assert names(tmp_path) == ["a"]


def test_file_systems_without_hard_links_are_served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    with new_file(tmp_path / "a") as draft:
        draft.write_text("whole")
    assert names(tmp_path) == ["a"]
    with pytest.raises(FileExistsError), new_file(tmp_path / "a") as draft:
        draft.write_text("again")


def test_a_folder_that_is_not_there_is_named_by_the_file_asked_for(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"No such file or directory: '.*none/a'"):
        write_whole(tmp_path / "none" / "a", b"x")


def test_drafts_of_dead_processes_are_removed_and_those_of_live_ones_kept(tmp_path: Path) -> None:
    code = "import os, sys; from pathlib import Path; from mrnn.data.files import new_file\n"
    code += "with new_file(Path(sys.argv[1])) as draft: draft.write_text('part'); os._exit(9)"
    subprocess.run([sys.executable, "-c", code, tmp_path / "a"], check=False)
    (abandoned,) = names(tmp_path)
    assert abandoned.endswith(".draft")
    alive = abandoned.replace(abandoned.split(".")[-2], str(os.getppid()))
    (tmp_path / alive).write_text("part")
    write_whole(tmp_path / "a", b"whole")
    assert names(tmp_path) == sorted(["a", alive])


@pytest.mark.parametrize("how", ["posix_fallocate", "none", "unsupported"])
def test_space_is_reserved_or_at_least_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    """macOS has no posix_fallocate, some network file systems refuse it."""

    def refuse(*_: object) -> None:
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    if how == "none":
        monkeypatch.delattr(os, "posix_fallocate", raising=False)
    elif how == "unsupported":
        monkeypatch.setattr(os, "posix_fallocate", refuse)
    path = tmp_path / "a"
    path.write_bytes(b"begin")
    with path.open("r+b") as stream:
        reserve_space(stream.fileno(), 10_000)
        reserve_space(stream.fileno(), 100)
    assert path.read_bytes() == b"begin" + bytes(9_995)
    with path.open("r+b") as stream, pytest.raises(OSError, match="device|large") as caught:
        reserve_space(stream.fileno(), 2**60)
    assert caught.value.errno in (errno.ENOSPC, errno.EFBIG)
    assert path.stat().st_size == 10_000


def test_syncing_with_what_the_system_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda _: called.append("fsync"))
    monkeypatch.setattr(os, "fdatasync", lambda _: called.append("fdatasync"), raising=False)
    monkeypatch.setattr(fcntl, "fcntl", lambda _, command: called.append(f"fcntl {command}"))
    monkeypatch.delattr(fcntl, "F_FULLFSYNC", raising=False)
    with (tmp_path / "a").open("wb") as stream:
        sync_file(stream.fileno())
        sync_data(stream.fileno())
        monkeypatch.delattr(os, "fdatasync")
        sync_data(stream.fileno())
        monkeypatch.setattr(fcntl, "F_FULLFSYNC", 51, raising=False)
        sync_data(stream.fileno())

        def refuse(*_: object) -> None:
            raise OSError(errno.ENOTSUP, "Operation not supported")

        monkeypatch.setattr(fcntl, "fcntl", refuse)
        sync_file(stream.fileno())
    assert called == ["fsync", "fdatasync", "fsync", "fcntl 51", "fsync"]

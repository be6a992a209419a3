"""Files that appear whole or not at all."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mrnn.data.files import new_file, write_whole


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

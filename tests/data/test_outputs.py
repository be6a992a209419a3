"""Outputs replace nothing that mrnn did not make, and nothing that the same command reads."""

import json
from collections.abc import Callable
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from mrnn.data.command import command
from mrnn.data.commands import COMMANDS, load
from mrnn.data.errors import SettingError
from mrnn.data.options import path_type
from mrnn.data.outputs import (
    OutputFile,
    is_cache,
    is_json_line_with,
    is_json_with,
    is_page,
    refuse_foreign_folder,
)
from mrnn.evaluate.report.page import Page, render

PAGE = render(Page("A page", cards=())).encode()
CACHE = b'{"format": "mrnn-features", "version": 1'
SCORES = json.dumps({"Bleu_1": 1, "counts": {}}).encode()
KINDS: dict[str, tuple[Callable[[Path], bool], bytes]] = {
    "a web page": (is_page, PAGE),
    "a feature cache": (is_cache, CACHE),
    "a file of scores": (is_json_with("Bleu_1", "counts"), SCORES),
    "a file of segments": (is_json_line_with("image_id", "segments"), b'{"image_id": "1", "segments": []}\n{}\n'),
}
FOREIGN = {
    "photo.jpg": b"\xff\xd8\xff\xe0 not ours",
    "page.html": b'<!doctype html>\n<html lang="en"><title>My page</title>',
    "other.h5": b"\x89HDF\r\n\x1a\n",
    "scores.json": b'{"mine": 1}',
    "list.json": b"[]",
    "notes.txt": b"do not lose this",
}


def run(kind: str, *arguments: str) -> Result:
    is_ours, content = KINDS[kind]

    @command("write-something")
    @click.argument("inputs", nargs=-1, type=path_type)
    @click.option("--output", type=OutputFile(kind, is_ours))
    @click.option("--second", type=OutputFile(kind, is_ours))
    @click.option("--overwrite", is_flag=True)
    def main(inputs: tuple[Path, ...], output: Path, second: Path | None, overwrite: bool) -> None:
        output.write_bytes(content)

    return CliRunner().invoke(main, arguments)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", FOREIGN)
@pytest.mark.parametrize("overwrite", [(), ("--overwrite",)])
def test_foreign_files_are_never_replaced(tmp_path: Path, kind: str, name: str, overwrite: tuple[str, ...]) -> None:
    path = tmp_path / name
    path.write_bytes(FOREIGN[name])
    result = run(kind, "--output", str(path), *overwrite)
    assert result.exit_code == 2
    assert f"--output {path} exists and is not {kind} that mrnn wrote" in " ".join(result.output.split())
    assert path.read_bytes() == FOREIGN[name]


@pytest.mark.parametrize("kind", KINDS)
def test_new_empty_and_own_files_are_written(tmp_path: Path, kind: str) -> None:
    for before in (None, b"", KINDS[kind][1]):
        path = tmp_path / "out"
        if before is not None:
            path.write_bytes(before)
        assert run(kind, "--output", str(path)).exit_code == 0
        assert path.read_bytes() == KINDS[kind][1]


@pytest.mark.parametrize("kind", KINDS)
def test_inputs_are_never_written_to(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "mine"
    path.write_bytes(KINDS[kind][1] + b" ")
    (tmp_path / "link").symlink_to(path)
    for output in (path, tmp_path / "link", tmp_path / "." / "mine"):
        result = run(kind, "--output", str(output), str(tmp_path / "x"), str(path))
        assert result.exit_code == 2
        assert "is also an input of this command" in " ".join(result.output.split())
    assert path.read_bytes() == KINDS[kind][1] + b" "
    result = run(kind, "--output", str(tmp_path / "a"), "--second", str(tmp_path / "a"))
    assert result.exit_code == 2
    assert "is also an output" in " ".join(result.output.split())


def test_what_cannot_be_a_file_is_said(tmp_path: Path) -> None:
    for output, says in ((tmp_path, "is a folder; name a file"), (tmp_path / "none" / "a", "there is no folder")):
        result = run("a web page", "--output", str(output))
        assert result.exit_code == 2
        assert says in " ".join(result.output.split())


def test_every_option_that_names_a_file_to_write_declares_it() -> None:
    """Of all commands: options whose help says that something is written or drawn have the type OutputFile."""
    for name in COMMANDS:
        for option in load(name).params:
            if isinstance(option, click.Option) and isinstance(option.type, click.Path) and option.help:
                writes = option.help.startswith(("Also write", "Write", "Draw", "Feature cache to write"))
                assert isinstance(option.type, OutputFile) == writes, f"{name} {option.opts}"


def test_a_folder_with_foreign_files_of_our_names_is_refused(tmp_path: Path) -> None:
    def is_ours(folder: Path) -> bool:
        return is_json_with("mrnn")(folder / "metrics.json")

    folder = tmp_path / "out"
    refuse_foreign_folder(folder, ("metrics.json", "figures/*"), is_ours=is_ours)
    (folder / "figures").mkdir(parents=True)
    (folder / "notes.txt").write_text("other")
    (folder / "metrics.json").touch()
    refuse_foreign_folder(folder, ("metrics.json", "figures/*"), is_ours=is_ours)
    for name in ("metrics.json", "figures/a.png"):
        (folder / name).write_text('{"loss": 3}')
        with pytest.raises(SettingError, match=f"out holds {name}, which mrnn did not write"):
            refuse_foreign_folder(folder, (name,), is_ours=is_ours)
    (folder / "metrics.json").write_text('{"mrnn": "0.1"}')
    refuse_foreign_folder(folder, ("metrics.json", "figures/*"), is_ours=is_ours)
    with pytest.raises(SettingError, match="is a file, not a folder"):
        refuse_foreign_folder(folder / "notes.txt", ("metrics.json",), is_ours=is_ours)

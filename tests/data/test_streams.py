"""Standard streams that are closed or whose reader goes away, and locales that are not UTF-8."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

COMMAND = """
import sys
from pathlib import Path
import click
from mrnn.data.command import command
from mrnn.data.progress import Progress

@command("say")
@click.argument("output", type=click.Path(path_type=Path))
def main(output):
    with Progress("work", 3, unit="things") as progress:
        progress.add(3)
    for number in range(20_000):
        click.echo(f"line {number}")
        click.echo(f"note {number}", err=True)
    with output.open("w") as file:
        file.write("done")
    click.echo("last", err=True)

main()
"""


def say(tmp_path: Path, shell: str, **variables: str) -> subprocess.CompletedProcess[str]:
    (tmp_path / "say.py").write_text(COMMAND)
    command = f"set -o pipefail; {sys.executable} {tmp_path}/say.py {tmp_path}/out {shell}"
    environment = {**os.environ, **variables}
    return subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False, env=environment)


@pytest.mark.parametrize("closed", ["2>&-", ">&-", ">&- 2>&-", "<&- >&- 2>&-", "<&-"])
def test_closed_streams_do_not_stop_the_work_nor_reach_its_files(tmp_path: Path, closed: str) -> None:
    done = say(tmp_path, closed)
    assert done.returncode == 0
    assert (tmp_path / "out").read_text() == "done"
    assert ("last" in done.stderr) == ("2>&-" not in closed)


@pytest.mark.parametrize("pipe", ["2>/dev/null | head -1", "2>&1 >/dev/null | head -1", "2>&1 | head -1"])
def test_a_reader_that_goes_away_does_not_stop_the_work(tmp_path: Path, pipe: str) -> None:
    done = say(tmp_path, pipe)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == 1
    assert (tmp_path / "out").read_text() == "done"


NAMES = """
import sys
from pathlib import Path
import click
from mrnn.data.command import command
from mrnn.data.folder import read_folder

@command("names")
@click.argument("folder", type=click.Path(path_type=Path))
def main(folder):
    corpus = read_folder(folder)
    click.echo(f"{corpus.images[0].path} {len(corpus.problems)}")
    (folder / corpus.images[0].path).read_bytes()

main()
"""


@pytest.mark.parametrize("locale", [{"LC_ALL": "C"}, {"LC_ALL": "POSIX"}, {"LC_ALL": "en_US.ISO-8859-1"}])
def test_names_beyond_ascii_under_a_forced_locale(tmp_path: Path, locale: dict[str, str]) -> None:
    (tmp_path / "names.py").write_text(NAMES)
    folder = tmp_path / "été"
    folder.mkdir()
    (folder / "café.jpg").touch()
    (folder / "captions.csv").write_text("image,caption\ncafé.jpg,A café.\n", encoding="utf-8")
    environment = {**os.environ, **locale, "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = subprocess.run(
        [sys.executable, tmp_path / "names.py", folder], capture_output=True, check=False, env=environment
    )
    assert (done.returncode, done.stderr.decode()) == (0, "")
    assert done.stdout.decode() == "café.jpg 0\n"

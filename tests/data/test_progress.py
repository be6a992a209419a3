"""Progress is shown by commands and by nobody else."""

import threading

import pytest

from mrnn.data.progress import Progress, progress_shown


def count() -> None:
    with Progress("copy", 4, unit="images", done=1) as progress:
        progress.add(2)
        progress.add(1, note="1 failed")


def test_the_library_is_silent(capsys: pytest.CaptureFixture[str]) -> None:
    count()
    with progress_shown():
        pass
    count()
    assert capsys.readouterr() == ("", "")


def test_inside_a_command_a_log_gets_one_line_at_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_shown():
        count()
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("copy: 4 of 4 images, ")
    assert printed.err.endswith(" s, 1 failed\n")
    assert printed.err.count("\n") == 1


def test_other_threads_stay_silent(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_shown():
        thread = threading.Thread(target=count)
        thread.start()
        thread.join()
    assert capsys.readouterr().err == ""

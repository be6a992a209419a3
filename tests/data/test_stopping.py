"""Signals become requests, requests become exit codes."""

import os
import signal
import threading

import click
import pytest
from click.testing import CliRunner

from mrnn.data.command import debug_option, one_line_errors
from mrnn.data.errors import CacheError, SettingError, Stopped
from mrnn.data.stopping import SIGNALS, stop_on_signals


@pytest.mark.usefixtures("hangup_heeded")
@pytest.mark.parametrize(
    ("number", "code", "name"),
    [*((number, 75, number.name) for number in SIGNALS if number != signal.SIGINT), (signal.SIGINT, 130, "Ctrl-C")],
)
def test_signals_ask_for_a_stop(number: signal.Signals, code: int, name: str) -> None:
    before = signal.getsignal(number)
    with stop_on_signals() as stop:
        assert not stop.reason
        os.kill(os.getpid(), number)
        assert stop.reason == name
        assert stop.stopped("3 rows are saved").exit_code == code
        assert f"stopped by {name}: 3 rows are saved" in str(stop.stopped("3 rows are saved"))
    assert signal.getsignal(number) == before


def test_a_second_ctrl_c_ends_at_once() -> None:
    with pytest.raises(KeyboardInterrupt), stop_on_signals():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)


def test_outside_the_main_thread_no_handler_is_installed() -> None:
    before = signal.getsignal(signal.SIGTERM)
    seen = []

    def work() -> None:
        with stop_on_signals(time_limit=0.0) as stop:
            seen.extend([stop.reason, signal.getsignal(signal.SIGTERM)])

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == ["the time limit", before]


def test_a_time_limit_asks_for_a_stop_by_itself() -> None:
    with stop_on_signals(time_limit=0.0) as stop:
        assert stop.reason == "the time limit"
        assert stop.stopped("all").exit_code == 75
    with stop_on_signals(time_limit=100.0) as stop:
        assert not stop.reason


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (CacheError("no\n  cache"), 1, "error: no cache\n"),
        (FileNotFoundError(2, "No such file or directory", "a.h5"), 1, "error: No such file or directory: a.h5\n"),
        (Stopped("stopped", exit_code=75), 75, "stopped\n"),
        (
            SettingError("that\ncannot be"),
            2,
            "Usage: command [OPTIONS]\nTry 'command --help' for help.\n\nError: that cannot be\n",
        ),
        (KeyboardInterrupt(), 130, "stopped by Ctrl-C\n"),
    ],
)
def test_errors_end_as_one_line_and_an_exit_code(error: BaseException, code: int, line: str) -> None:
    @click.command()
    @debug_option
    @one_line_errors
    def command() -> None:
        raise error

    result = CliRunner().invoke(command)
    assert (result.exit_code, result.stderr) == (code, line)
    if code in (1, 2):
        assert "Traceback" in CliRunner().invoke(command, ["--debug"]).stderr


def test_another_process_takes_the_reason_over() -> None:
    for ask in (*SIGNALS, None):
        with stop_on_signals(time_limit=None if ask else 0.0) as asked, stop_on_signals() as other:
            if ask:
                asked.receive(ask, None)
            assert asked.code
            assert not other.code
            other.adopt(0)
            assert not other.reason
            other.adopt(asked.code)
            assert other.reason == asked.reason
            assert other.stopped("all").exit_code == asked.stopped("all").exit_code


def test_a_hangup_that_nohup_ignores_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stop_on_signals() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not stop.reason
    finally:
        signal.signal(signal.SIGHUP, before)

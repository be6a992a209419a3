"""The command: its address, its end by a signal, and what it refuses."""

import http.client
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner

from mrnn.evaluate.commands.serve import main

COMMAND = [sys.executable, "-m", "mrnn.data.commands", "serve"]


@pytest.mark.parametrize(("number", "code", "missing"), [(signal.SIGTERM, 0, False), (signal.SIGINT, 130, True)])
def test_it_serves_until_a_signal(
    make_pictured: Callable[..., tuple[Path, Path]], tmp_path: Path, number: signal.Signals, code: int, missing: bool
) -> None:
    run, cache = make_pictured(source="grid", kind="mrnn")
    options = ["--checkpoint", str(run), "--features", str(cache), "--port", "0", "--device", "cpu"]
    options += ["--images", str(tmp_path / "elsewhere")] if missing else []
    process = subprocess.Popen([*COMMAND, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    line = process.stderr.readline()
    if missing:
        assert line.startswith("warning: 8 of 8 images are not found below"), line
        line = process.stderr.readline()
    address = re.match(r"http://127\.0\.0\.1:(\d+) shows the page", line)
    assert address is not None, line + process.stderr.read()
    with closing(http.client.HTTPConnection("127.0.0.1", int(address[1]), timeout=120)) as connection:
        connection.request("GET", "/api/pictures?sentence=a+dog")
        with connection.getresponse() as answer:
            assert answer.status == 200
            answer.read()
        process.send_signal(number)  # while the connection is open
        out, rest = process.communicate(timeout=120)
    assert (process.returncode, out) == (code, "")
    assert rest.splitlines()[-1].startswith("stopped by")
    assert "Traceback" not in rest


def test_a_port_that_is_taken(make_pictured: Callable[..., tuple[Path, Path]]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = CliRunner().invoke(main, ["--checkpoint", "run", "--features", "f.h5", "--port", str(port)])
    assert done.exit_code == 2
    assert f"cannot listen on 127.0.0.1, port {port}" in " ".join(done.stderr.split())


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    monkeypatch.delitem(sys.modules, "mrnn.evaluate.web.server", raising=False)
    done = CliRunner().invoke(main, ["--checkpoint", "run", "--features", "f.h5"])
    assert done.exit_code == 2
    assert "pip install 'mrnn[web]'" in " ".join(done.stderr.split())


def test_a_model_that_cannot_search(make_world: Callable[..., tuple[Path, Path]]) -> None:
    run, cache = make_world(kind="generator")
    done = CliRunner().invoke(main, ["--checkpoint", str(run), "--features", str(cache), "--port", "0"])
    assert done.exit_code == 1
    assert "generator" in done.stderr

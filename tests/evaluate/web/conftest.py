"""A server of the page in a thread, on a small world of drawn pictures."""

import http.client
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

pytest.importorskip("uvicorn", reason="the extra web is not installed")

from mrnn.data.cache import open_cache
from mrnn.data.stopping import StopRequest
from mrnn.evaluate import open_run
from mrnn.evaluate.report.pictures import Pictures
from mrnn.evaluate.web.answers import Answers
from mrnn.evaluate.web.app import make_app
from mrnn.evaluate.web.guard import hosts_of
from mrnn.evaluate.web.server import Server, listen
from mrnn.evaluate.web.work import Worker

SAID = ("A dog runs in <script>document.title = 'run'</script> snow .", "A cat sleeps at home .")


class Reply(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Site(NamedTuple):
    """A running server. runs : those of m-RNN and of the alignment, and the cache."""

    port: int
    answers: Answers
    worker: Worker
    runs: tuple[Path, Path, Path]

    def ask(
        self, path: str, *, method: str = "GET", body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> Reply:
        """The answer to a request."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        try:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            return Reply(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
        finally:
            connection.close()

    def post(self, path: str, body: bytes | None = None) -> Reply:
        """The answer to a POST request."""
        return self.ask(path, method="POST", body=body)


class Stop(StopRequest):
    """A request that a test makes."""

    asked = False

    @property
    def reason(self) -> str:
        return "the test" if self.asked else ""


@pytest.fixture
def site(make_pictured: Callable[..., tuple[Path, Path]]) -> Iterator[Site]:
    run, file = make_pictured(source="grid", kind="mrnn", said=SAID, end=-6.0)
    alignment, _ = make_pictured(source="grid", said=SAID)
    cache, opened = open_cache(file), open_run(run, device="cpu")
    answers = Answers(
        opened.gallery(cache, normaliser_images=2),
        describing=opened,
        aligning=open_run(alignment, device="cpu"),
        pictures=Pictures(cache.root),
    )
    worker, stop = Worker(waiting=16), Stop()
    with listen("127.0.0.1", 0) as listening:
        port = listening.getsockname()[1]
        server = Server(make_app(answers, worker, hosts=hosts_of("127.0.0.1", port)), stop)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        yield Site(port, answers, worker, (run, alignment, file))
        stop.asked = True
        thread.join(60)
        worker.stop()
    assert not thread.is_alive()

"""The addresses of the page and its JSON endpoints (docs/serve.md).

    GET  /                       the page, with /page.js and /page.css
    GET  /api/status             what the server can do, and how far its preparation is
    GET  /api/pictures           ?sentence=...&top=24: pictures for a sentence
    GET  /pictures/ID            a small copy of a picture of the cache
    POST /api/captions           a picture as the body, or ?id=ID: a caption with the parts of its words
    POST /api/sentences          the same, with top: sentences of the cache for a picture
    POST /api/regions            the same, with sentence: the regions that its parts speak of

Uploaded pictures stay in memory and are bounded before they are decoded; requests name files by the ids of the cache
only. Errors are {"error": "a sentence"} with 400, 404, 413, 422 (it cannot be answered) or 503 (try again later).
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection
from importlib.resources import files
from typing import Any

from anyio.to_thread import run_sync
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from mrnn.data.errors import MrnnError
from mrnn.evaluate.report.page import asset
from mrnn.evaluate.web.answers import MAX_BYTES, Answers, Question, check_picture
from mrnn.evaluate.web.guard import Guard
from mrnn.evaluate.web.work import Busy, Many, Worker

MAX_TOP, MAX_SENTENCE = 100, 1000  # results, characters
RETRY = {"retry-after": "2"}  # seconds
FILES = {"": "text/html", "page.js": "text/javascript", "page.css": "text/css"}


class Refused(Exception):
    """A request that cannot be answered. status : of HTTP."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


def make_app(answers: Answers, worker: Worker, *, hosts: Collection[str]) -> Starlette:
    """The application.

    answers : what can be asked for.
    worker : does the work of the models.
    hosts : the names that the server is known by, see `mrnn.evaluate.web.guard.hosts_of`.
    """

    async def work(many: Many, item: Any) -> Any:
        return await asyncio.wrap_future(worker.submit(many, item))

    async def status(request: Request) -> Any:
        return answers.status()

    async def pictures(request: Request) -> Any:
        return await work(answers.pictures_many, (sentence_of(request), top_of(request, 24)))

    async def captions(request: Request) -> Any:
        return await work(answers.captions_many, Question(await picture_of(request, answers)))

    async def sentences(request: Request) -> Any:
        if not answers.preparation.ready:
            raise Refused(503, answers.preparation.error or "the index of the sentences is being prepared")
        return await work(answers.sentences_many, Question(await picture_of(request, answers), top=top_of(request, 10)))

    async def regions(request: Request) -> Any:
        asked = sentence_of(request)
        return await work(answers.regions_many, Question(await picture_of(request, answers), sentence=asked))

    async def picture(request: Request) -> Response:
        content = await run_sync(answers.thumbnail, request.path_params["id"])
        return Response(content, media_type="image/webp", headers=KEPT) if content else not_there()

    routes = [Route("/" + name, _file(name or "page.html", kind)) for name, kind in FILES.items()]
    routes += [Route("/pictures/{id:path}", picture)]
    routes += [Route(f"/api/{each.__name__}", _json(each)) for each in (status, pictures)]
    routes += [Route(f"/api/{each.__name__}", _json(each), methods=["POST"]) for each in (captions, sentences, regions)]
    return Starlette(routes=routes, middleware=[Middleware(Guard, hosts=hosts)])


KEPT = {"cache-control": "private, max-age=3600"}  # pictures of the cache do not change while the server runs


def sentence_of(request: Request) -> str:
    """The sentence that a request asks about."""
    sentence = request.query_params.get("sentence", "").strip()
    if not sentence:
        raise Refused(400, "give a sentence")
    if len(sentence) > MAX_SENTENCE:
        raise Refused(400, f"the sentence has more than {MAX_SENTENCE:,} characters")
    return sentence


def top_of(request: Request, default: int) -> int:
    """The number of results that a request asks for."""
    text = request.query_params.get("top", str(default))
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= MAX_TOP):
        raise Refused(400, f"top must be a number from 1 to {MAX_TOP}")
    return int(text)


async def picture_of(request: Request, answers: Answers) -> bytes:
    """The picture that a request is about: its body, or a picture of the cache by its id."""
    image_id = request.query_params.get("id")
    if image_id is not None:
        file = answers.file_of(image_id)
        if file is None:
            raise Refused(404, "the cache has no such picture, or its file is not there")
        content = await run_sync(file.read_bytes)
    else:
        content = await body_of(request)
    await run_sync(check_picture, content)
    return content


async def body_of(request: Request) -> bytes:
    """The body of a request, read as far as the bound."""
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > MAX_BYTES:
            raise Refused(413, f"the picture has more than {MAX_BYTES:,} bytes")
        parts.append(part)
    if not size:
        raise Refused(400, "give a picture as the body of the request, or the id of one of the cache")
    return b"".join(parts)


def not_there() -> Response:
    """The answer where there is no picture."""
    return JSONResponse({"error": "the cache has no such picture, or its file is not there"}, status_code=404)


def _json(answer: Callable[[Request], Awaitable[Any]]) -> Callable[[Request], Awaitable[Response]]:
    """An endpoint that answers with JSON, and with a sentence where it cannot."""

    async def endpoint(request: Request) -> Response:
        try:
            return JSONResponse(await answer(request))
        except Refused as refused:
            found = refused.status, str(refused)
        except Busy:
            found = 503, "too many requests are waiting; try again in a moment"
        except MrnnError as error:
            found = 422, str(error)
        except (asyncio.CancelledError, ClientDisconnect):
            raise
        headers = RETRY if found[0] == 503 else None
        return JSONResponse({"error": found[1]}, status_code=found[0], headers=headers)

    return endpoint


def _file(name: str, kind: str) -> Callable[[Request], Awaitable[Response]]:
    """An endpoint for a file beside this module."""
    content = files("mrnn.evaluate.web").joinpath(name).read_text(encoding="utf-8")
    if kind == "text/css":
        content = asset("style.css") + content  # the report's style comes first

    async def endpoint(request: Request) -> Response:
        return Response(content, media_type=kind)

    return endpoint

"""What every request and response of the page goes through, whatever it asks for.

Host      must be a name that this server is known by: a page of another site whose name is made to point at this
          machine (DNS rebinding) sends its own name
Origin    must be the server's own if it is sent: pages of other sites may not use the server
headers   a Content-Security-Policy that allows the page's own files only; nothing is stored by the browser
"""

from collections.abc import Collection

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}


class Guard:
    """Refuses requests by their Host and Origin, and adds HEADERS to every response."""

    def __init__(self, app: ASGIApp, *, hosts: Collection[str]) -> None:
        """hosts : what a Host header may be, with the port, in lower case."""
        self._app, self._hosts = app, frozenset(hosts)
        self._origins = frozenset(f"http://{host}" for host in hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        headers, app = Headers(scope=scope), self._app
        if headers.get("host", "").lower() not in self._hosts:
            app = PlainTextResponse("this server is not known by that name (Host)\n", status_code=421)
        elif headers.get("origin", "http://" + headers["host"]).lower() not in self._origins:
            app = PlainTextResponse("pages of other sites may not use this server (Origin)\n", status_code=403)
        await app(scope, receive, send_with_headers)


def hosts_of(host: str, port: int, more: Collection[str] = ()) -> set[str]:
    """The names that a server is known by: what it listens on, `more`, and for this machine its usual names."""
    names = {host, *more}
    if host in ("127.0.0.1", "::1", "localhost"):
        names |= {"127.0.0.1", "::1", "localhost"}
    shown = {f"[{name}]" if ":" in name else name for name in map(str.lower, names)}
    return {f"{name}:{port}" for name in shown} | (shown if port == 80 else set())

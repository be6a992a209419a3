"""Runs the page's server until a signal, on top of uvicorn."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from starlette.types import ASGIApp

from mrnn.data.errors import SettingError
from mrnn.data.stopping import StopRequest

BACKLOG = 128  # connections that may wait to be accepted
GRACE = 5  # seconds that requests have to end when the server stops


class Server(uvicorn.Server):
    """A server that stops on the signals of `stop_on_signals`, in place of uvicorn's own."""

    def __init__(self, app: ASGIApp, stop: StopRequest) -> None:
        config = uvicorn.Config(
            app, log_level="warning", lifespan="off", timeout_graceful_shutdown=GRACE, server_header=False
        )
        super().__init__(config)
        self._stop = stop

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to whoever started the server."""
        yield

    async def on_tick(self, counter: int) -> bool:
        """Whether to stop; called ten times a second."""
        return await super().on_tick(counter) or bool(self._stop.reason)


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens. port : 0 for any free one. Raises SettingError if that is not possible."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family, backlog=BACKLOG)
    except OSError as error:
        raise SettingError(f"cannot listen on {host}, port {port} ({error.strerror}); choose another --port") from error

"""Serves a WSGI application on a loopback port, from a thread of this process."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
from abc import ABC, abstractmethod
from typing import Self

from flask import Flask
from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server

from kataven.dev.embedded.errors import DevError

HOSTS = ("127.0.0.1", "localhost")
POLL_SECONDS = 0.05


class _QuietHandler(WSGIRequestHandler):
    protocol_version = "HTTP/1.0"  # a kept-alive connection would still be served after `stop`

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Log nothing, because query strings contain codes and states."""


class LoopbackServer(ABC):
    """A server on a loopback address. Port 0 selects a free one. Raises ValueError for any other host."""

    def __init__(self, host: str, port: int) -> None:
        if host not in HOSTS:
            raise ValueError(f"a development server listens only on {' or '.join(HOSTS)}, not on {host!r}")
        self.host = host
        self.port = port
        self._server: BaseWSGIServer | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """The server's origin. With port 0 it is known after `start`."""
        return f"http://{self.host}:{self.port}"

    @abstractmethod
    def create_application(self) -> Flask:
        """The application to serve."""

    def start(self) -> None:
        """Return when the server accepts requests. Raises OSError if the port is in use."""
        # Bound here, because Werkzeug exits the process if it cannot bind.
        with socket.create_server((self.host, self.port)) as listener:
            self.port = listener.getsockname()[1]
            application, descriptor = self.create_application(), listener.fileno()
            self._server = make_server(
                self.host, self.port, application, threaded=True, request_handler=_QuietHandler, fd=descriptor
            )
        self._thread = threading.Thread(target=self._server.serve_forever, args=(POLL_SECONDS,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Return when the port is free again. The next `start` uses the same port."""
        if self._server is not None and self._thread is not None:
            self._server.shutdown()
            self._thread.join()
            self._server = self._thread = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def serve_until_signal(server: LoopbackServer, name: str) -> int:
    """Serve until SIGTERM or SIGINT. Returns the exit status: 0, or 1 with a message if the server cannot start."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    try:
        server.start()
    except OSError as error:
        sys.stderr.write(f"{name}: cannot listen on {server.url}: {os.strerror(error.errno or 0)}\n")
        return 1
    except DevError as error:
        sys.stderr.write(f"{name}: {error}\n")
        return 1
    stop.wait()
    server.stop()
    return 0

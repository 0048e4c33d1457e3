"""The development issuer on a loopback port, in a thread of whoever starts it."""

from __future__ import annotations

import socket
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

from flask import Flask
from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server

from kataven.dev.issuer.app import REFRESH_TOKENS, create_issuer
from kataven.dev.issuer.keys import Keyring

HOSTS = ("127.0.0.1", "localhost")
POLL_SECONDS = 0.05
"""How long `stop` may take to be noticed."""


class _QuietHandler(WSGIRequestHandler):
    protocol_version = "HTTP/1.0"  # a connection kept alive would go on being answered after `stop`

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Nothing: the query of a request holds codes and states."""


class DevIssuer:
    """An OpenID provider for one machine, reachable from that machine alone.

    It makes anybody an owner of anything, so it refuses (ValueError) to be given any but a loopback name to listen on.
    Port 0 takes a free one. Keys live in `data_dir`, so tokens outlive a restart on the same port.
    """

    def __init__(self, data_dir: Path, *, host: str = "127.0.0.1", port: int = 0) -> None:
        if host not in HOSTS:
            raise ValueError(f"the development issuer listens on {' or '.join(HOSTS)} only")
        self.keyring = Keyring(data_dir)
        self._host = host
        self._port = port
        self._server: BaseWSGIServer | None = None
        self._thread: threading.Thread | None = None
        self._application: Flask | None = None

    @property
    def url(self) -> str:
        """What stands in `iss`. With port 0 it is known once started."""
        return f"http://{self._host}:{self._port}"

    def start(self) -> None:
        """Returns when requests are answered. Raises OSError if the port is taken, DevError if there are no keys."""
        self.keyring.signing_key()
        # Bound here and not by Werkzeug, which ends the process if it can't.
        with socket.create_server((self._host, self._port)) as listener:
            self._port = listener.getsockname()[1]
            self._application = create_issuer(self.url, self.keyring)
            self._server = make_server(
                self._host,
                self._port,
                self._application,
                threaded=True,
                request_handler=_QuietHandler,
                fd=listener.fileno(),
            )
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(POLL_SECONDS,), name="dev-issuer", daemon=True
        )
        self._thread.start()

    def sign_everybody_out(self) -> None:
        """Withdraw every refresh token that is out."""
        if self._application is not None:
            self._application.extensions[REFRESH_TOKENS].withdraw_all()

    def stop(self) -> None:
        """Returns when the port is free again. The next `start` takes the same one."""
        if self._server is not None and self._thread is not None:
            self._server.shutdown()
            self._thread.join()
            self._server = self._thread = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

"""Stands between the limiter and Redis, and can be slow, or silent, or gone."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from typing import Self
from urllib.parse import urlsplit


class Proxy:
    """Forwards a TCP port of this machine to the Redis of a `unix:` URL."""

    def __init__(self, redis_url: str, tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls
        self._upstream = urlsplit(redis_url).path
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._threads: list[threading.Thread] = []
        self._open: set[socket.socket] = set()
        self._talking = threading.Event()
        self._talking.set()
        self.url = f"{'rediss' if tls else 'redis'}://127.0.0.1:{self._listener.getsockname()[1]}/0"
        self.delay_seconds = 0.0
        """How long each answer takes more."""
        self.heard = 0
        """How many times a client has spoken."""

    def __enter__(self) -> Self:
        self._run(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> None:
        """Be gone: nobody listens any more, and every connection is broken. May be repeated."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.talk()
        self.cut()
        for thread in self._threads:
            thread.join()

    def lead_to(self, redis_url: str) -> None:
        """Lead new connections to another Redis; those that are open stay where they are."""
        self._upstream = urlsplit(redis_url).path

    def be_silent(self) -> None:
        """Accept everything and answer nothing, as behind a network that drops packets."""
        self._talking.clear()

    def talk(self) -> None:
        self._talking.set()

    def cut(self) -> None:
        """Break every connection."""
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _run(self, target: object, *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # as Redis itself does
                with contextlib.suppress(ssl.SSLError):
                    self._serve(self._tls.wrap_socket(client, server_side=True) if self._tls else client)

    def _serve(self, client: socket.socket) -> None:
        server = socket.socket(socket.AF_UNIX)
        server.connect(self._upstream)
        self._open |= {client, server}
        self._run(self._forward, client, server)
        self._run(self._forward, server, client)

    def _forward(self, source: socket.socket, target: socket.socket) -> None:
        answering = source.family == socket.AF_UNIX
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                self.heard += not answering
                if answering:
                    time.sleep(self.delay_seconds)  # this is the slowness, not a wait for anything
                    self._talking.wait()
                target.sendall(data)
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        source.close()

"""A TCP proxy between the limiter and Redis that can delay replies, drop them, or stop."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from typing import Self
from urllib.parse import urlsplit


class Proxy:
    """Forwards a local TCP port to the Redis of a `unix:` URL."""

    def __init__(self, redis_url: str, tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls
        self._upstream = urlsplit(redis_url).path
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._threads: list[threading.Thread] = []
        self._open: set[socket.socket] = set()
        self._replying = threading.Event()
        self._replying.set()
        self.url = f"{'rediss' if tls else 'redis'}://127.0.0.1:{self._listener.getsockname()[1]}/0"
        self.delay_seconds = 0.0
        """Delay that is added to each reply."""
        self.requests = 0
        """The number of requests from clients."""

    def __enter__(self) -> Self:
        self._run(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop listening and close every connection. Idempotent."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.resume_replying()
        self.cut()
        for thread in self._threads:
            thread.join()

    def redirect_to(self, redis_url: str) -> None:
        """Forward new connections to another Redis. Open connections are not affected."""
        self._upstream = urlsplit(redis_url).path

    def stop_replying(self) -> None:
        """Accept requests but forward no replies, like a network that drops packets."""
        self._replying.clear()

    def resume_replying(self) -> None:
        self._replying.set()

    def cut(self) -> None:
        """Close every connection."""
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
        replying = source.family == socket.AF_UNIX
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                self.requests += not replying
                if replying:
                    time.sleep(self.delay_seconds)  # simulates latency; the test does not wait for anything here
                    self._replying.wait()
                target.sendall(data)
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        source.close()

"""A proxy between psycopg2 and PostgreSQL on a Unix socket that counts round trips."""

import contextlib
import selectors
import socket
import tempfile
import threading
from pathlib import Path
from typing import Self

from sqlalchemy import URL


class CountingProxy:
    """Forwards to the server of `url`. A round trip starts when the client sends data after a response."""

    def __init__(self, url: URL) -> None:
        self._upstream = f"{url.query['host']}/.s.PGSQL.5432"
        self._folder = tempfile.TemporaryDirectory(prefix="proxy-")
        self.url = url.update_query_dict({"host": self._folder.name})
        self.round_trips = 0
        self._threads: list[threading.Thread] = []
        self._clients: list[socket.socket] = []
        self._listener = socket.socket(socket.AF_UNIX)

    def __enter__(self) -> Self:
        self._listener.bind(str(Path(self._folder.name) / ".s.PGSQL.5432"))
        self._listener.listen()
        self._run(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)  # wakes accept(), which close() does not
        self._listener.close()
        for client in self._clients:
            with contextlib.suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        self._folder.cleanup()

    def _run(self, target: object, *args: object) -> None:
        thread = threading.Thread(target=target, args=args)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self._clients.append(client)
                self._run(self._forward, client)

    def _forward(self, client: socket.socket) -> None:
        with client, socket.socket(socket.AF_UNIX) as server, selectors.DefaultSelector() as ready:
            server.connect(self._upstream)
            ready.register(client, selectors.EVENT_READ, server)
            ready.register(server, selectors.EVENT_READ, client)
            last_sender: object = server
            with contextlib.suppress(OSError):
                while True:
                    for key, _ in ready.select():
                        source, target = key.fileobj, key.data
                        data = source.recv(65536)  # type: ignore[union-attr]
                        if not data:
                            return
                        self.round_trips += source is client and last_sender is server
                        last_sender = source
                        target.sendall(data)

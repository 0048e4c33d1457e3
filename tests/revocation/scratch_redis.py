"""A Redis that can be killed and restarted at the same address, and a proxy that can drop all traffic."""

from __future__ import annotations

import signal
import socket
import subprocess
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Self

import redis

from kataven.dev.embedded.binaries import redis_program

READY_SECONDS = 20


class ScratchRedis:
    """A Redis without persistence."""

    def __init__(self, folder: Path) -> None:
        self.socket = folder / "redis.sock"
        self.url = f"unix://{self.socket}?db=0"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [
            str(redis_program()),
            "--port",
            "0",
            "--unixsocket",
            str(self.socket),
            "--save",
            "",
            "--appendonly",
            "no",
        ]
        self._process = subprocess.Popen(command, cwd=self.socket.parent, stdout=subprocess.DEVNULL)
        _wait_until_ready(self.url)

    def kill(self) -> None:
        """Kill it with SIGKILL, as the kernel's OOM killer does."""
        self.signal(signal.SIGKILL)
        assert self._process is not None
        self._process.wait()
        self._process = None

    def restart(self) -> None:
        self.kill()
        self.start()

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def client(self) -> redis.Redis:
        return redis.Redis.from_url(self.url, decode_responses=True)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self.kill()


class Proxy:
    """Forwards connections to `target`. While it drops traffic, bytes are discarded in both directions."""

    def __init__(self, target: Path) -> None:
        self._target = target
        path = target.with_name("proxy.sock")
        self.url = f"unix://{path}?db=0"
        self._drops = threading.Event()
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._begin(self._accept)

    def drop_traffic(self) -> None:
        self._drops.set()

    def restore(self) -> None:
        """Forward traffic again. Connections that lost bytes are closed."""
        self._drops.clear()
        for end in self._sockets:
            _shut(end)

    def close(self) -> None:
        _shut(self._listener)
        self._threads[0].join()
        for end in self._sockets:
            _shut(end)
        for thread in self._threads[1:]:
            thread.join()
        for end in [self._listener, *self._sockets]:
            end.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            far = socket.socket(socket.AF_UNIX)
            self._sockets += [near, far]
            try:
                far.connect(str(self._target))
            except OSError:
                _shut(near)
                continue
            self._begin(self._pump, near, far)
            self._begin(self._pump, far, near)

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                if not self._drops.is_set():
                    sink.sendall(data)
        _shut(source)
        _shut(sink)

    def _begin(self, work: Callable[..., None], *arguments: socket.socket) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()


def _shut(end: socket.socket) -> None:
    with suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)


def _wait_until_ready(url: str) -> None:
    ready = threading.Event()
    with redis.Redis.from_url(url, socket_timeout=1) as client:
        for _ in range(READY_SECONDS * 50):
            try:
                client.ping()
            except redis.ConnectionError:
                ready.wait(0.02)
            else:
                return
    raise AssertionError("Redis does not respond")

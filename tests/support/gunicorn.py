"""Runs the product under gunicorn with its own configuration and several workers, on a loopback port."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx2

from tests.support.waiting import wait_until

CHECKOUT = Path(__file__).resolve().parents[2]
START_SECONDS = 30.0
STOP_SECONDS = 20


def free_port() -> int:
    """A port that was unused a moment ago, on every address.

    It is below the range from which the kernel chooses the ports of connections, so that none of the many connections
    of the tests takes it before the server listens.
    """
    for _ in range(100):
        port = 20_000 + secrets.randbelow(12_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("0.0.0.0", port))  # noqa: S104  closed at once
            return port
    raise RuntimeError("no port is free")


@dataclass
class Gunicorn:
    """A running server; `log` has its output."""

    environ: Mapping[str, str] = field(repr=False)
    log: Path
    workers: int = 2
    application: str = "wsgi:api"
    configuration: str = "gunicorn.conf.py"
    port: int = field(default_factory=lambda: free_port())
    host: str = "127.0.0.1"
    """Any loopback address: servers on two addresses count as two hosts."""

    unix: Path | None = None
    """The Unix socket that it listens on instead, if `environ` sets one."""

    prefix: Sequence[str] = ()
    """A command that runs gunicorn elsewhere, for example `ip netns exec NAME`."""

    network: Callable[[], contextlib.AbstractContextManager[None]] = contextlib.nullcontext
    """Moves the calling thread to where the server's address is reachable."""

    def __enter__(self) -> Self:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*self.prefix, sys.executable, *self.arguments()],
                cwd=self.folder,
                env={
                    **os.environ,
                    "PYTHONPATH": str(CHECKOUT),
                    **self.environ,
                    "HOST": self.host,
                    "PORT": str(self.port),
                    "WORKERS": str(self.workers),
                },
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            wait_until(self._answers, START_SECONDS, lambda: self.log.read_text()[-2000:])
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(STOP_SECONDS)
        self.kill()

    def arguments(self) -> list[str]:
        """The arguments of the interpreter."""
        return ["-m", "gunicorn", "-c", self.configuration, self.application]

    @property
    def folder(self) -> Path:
        """The folder in which the server runs."""
        return CHECKOUT

    def kill(self) -> None:
        """Stop the server and its workers, whatever they are doing."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    def client(self, token: str | None = None, account: str | None = None) -> httpx2.Client:
        """A client with a credential. The caller must close it."""
        headers = {}
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        if account is not None:
            headers["X-Account-ID"] = account
        return httpx2.Client(base_url=self.url, headers=headers, timeout=30, trust_env=False)

    def worker_pids(self) -> list[int]:
        """The process ids of the workers."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return [int(pid) for pid in children.split()]

    def raw(self, request: bytes) -> bytes:
        """Send bytes and return the response, read until the server closes the connection."""
        return b"".join(self._raw(request))

    def connect(self) -> socket.socket:
        """A new connection. The caller must close it."""
        return socket.create_connection((self.host, self.port), timeout=30)

    def _raw(self, request: bytes) -> Iterator[bytes]:
        with self.connect() as connection:
            connection.sendall(request)
            while chunk := connection.recv(65_536):
                yield chunk

    def _answers(self) -> bool:
        if self.process.poll() is not None:
            raise RuntimeError(f"gunicorn ended: {self.log.read_text()[-2000:]}")
        if self.unix is not None:
            with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
                probe.connect(str(self.unix))
                probe.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
                return probe.recv(12) == b"HTTP/1.1 200"
            return False
        with contextlib.suppress(httpx2.TransportError), self.network():
            return httpx2.get(f"{self.url}/healthz", trust_env=False).status_code == 200
        return False

"""A dependency of a running product, and the ways in which it fails."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

from tests.support.proxy import Proxy

FLAPS = 3


class Server(Protocol):
    """A process that can be stopped and started again."""

    def start(self) -> None: ...
    def stop(self) -> None: ...


class Dependency:
    """`server`, which clients reach through `proxy` if one exists. `process` returns the current process id."""

    def __init__(self, server: Server, proxy: Proxy | None, process: Callable[[], int]) -> None:
        self._server = server
        self._proxy = proxy
        self._process = process

    @contextlib.contextmanager
    def broken(self, fault: str, between: Callable[[], None]) -> Iterator[None]:
        """Until the block ends, the dependency is `dead`, `frozen` or `half-open`. With `flapping`, `between` runs at
        each change."""
        with getattr(self, f"_{fault.replace('-', '_')}")(between):
            yield

    @contextlib.contextmanager
    def _dead(self, _: Callable[[], None]) -> Iterator[None]:
        self._server.stop()
        try:
            yield
        finally:
            self._server.start()

    @contextlib.contextmanager
    def _frozen(self, _: Callable[[], None]) -> Iterator[None]:
        frozen: list[int] = []
        try:
            while frozen != (more := family(self._process())):
                frozen = more
                for pid in frozen:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGSTOP)
            yield
        finally:
            for pid in frozen:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)

    @contextlib.contextmanager
    def _half_open(self, _: Callable[[], None]) -> Iterator[None]:
        assert self._proxy is not None
        self._proxy.swallow()
        try:
            yield
        finally:
            self._proxy.heal()

    @contextlib.contextmanager
    def _flapping(self, between: Callable[[], None]) -> Iterator[None]:
        for _ in range(FLAPS):
            with self._dead(between):
                between()
            between()
        yield


def family(pid: int) -> list[int]:
    """A process and its children."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *map(int, children)]

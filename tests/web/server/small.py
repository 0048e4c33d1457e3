"""A small application for the tests of the server: each path names its behaviour."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

worker: Any = None
"""Set by `small_conf.py`."""

LARGE = 6 * 1024 * 1024


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    path = environ["PATH_INFO"]
    if path == "/read":
        return _answer(start_response, str(len(environ["wsgi.input"].read())).encode())
    if path == "/ignore":
        return _answer(start_response, b"not read", "401 Unauthorized")
    if path == "/refused":
        return _answer(start_response, json.dumps(worker.refused).encode())
    if path == "/environ":
        shown = {name: value for name, value in environ.items() if isinstance(value, str)}
        return _answer(start_response, json.dumps(shown).encode())
    if path == "/large":
        return _answer(start_response, b"x" * LARGE)
    if path == "/fail":
        raise RuntimeError("with sk_live_acme_" + "a" * 49)
    if path == "/stream":
        start_response("200 OK", [])
        return _parts(fail=False)
    if path == "/half":
        start_response("200 OK", [])
        return _parts(fail=True)
    if path == "/hold":
        _hold(Path(environ["QUERY_STRING"]))
    return _answer(start_response, str(os.getpid()).encode())


def _answer(start_response: Callable[..., Any], body: bytes, status: str = "200 OK") -> Iterable[bytes]:
    start_response(status, [("Content-Length", str(len(body))), ("Content-Type", "text/plain")])
    return [body]


def _parts(*, fail: bool) -> Iterator[bytes]:
    yield b"one"
    if fail:
        raise RuntimeError("in the middle")
    yield b"two"


def _hold(folder: Path) -> None:
    """Signal the start, and wait until the test allows the end."""
    (folder / "begun").touch()
    while not (folder / "end").exists():
        time.sleep(0.01)

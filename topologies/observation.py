"""What the load observes: one line of JSON for each request. Times are CLOCK_MONOTONIC, which all processes share."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.scenarios.connection import Response
from topologies.http_client import ClientConnection

BODY_LENGTH = 300
KEPT_CODES = 400


@dataclass(frozen=True, slots=True)
class Observation:
    """One request and its response."""

    kind: str
    """What was sent: `key`, `jwt`, `agents`, `create-key`, `revoke`, `limit`, `hub` or `sign-in`."""
    subject: str
    """The id of the key, or another name for what was sent."""
    started: float
    ended: float
    status: int
    """0 if no response arrived."""
    code: str = ""
    """The problem code, or the kind of connection error."""

    def line(self) -> str:
        values = [self.kind, self.subject, self.started, self.ended, self.status, self.code]
        return json.dumps(values)


@dataclass
class Recorder:
    """Collects observations of threads in this process."""

    observations: list[Observation] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, observation: Observation) -> None:
        with self._lock:
            self.observations.append(observation)

    def snapshot(self) -> list[Observation]:
        with self._lock:
            return list(self.observations)


def send(port: int, message: bytes, kind: str, subject: str) -> tuple[Observation, Response | None]:
    """Send a request over a new connection."""
    started = time.monotonic()
    try:
        with closing(ClientConnection(port)) as connection:
            started = time.monotonic()
            response = connection.exchange(message)
    except OSError as error:
        return Observation(kind, subject, started, time.monotonic(), 0, type(error).__name__), None
    return observed(kind, subject, started, response), response


def observed(kind: str, subject: str, started: float, response: Response) -> Observation:
    ended = time.monotonic()
    code = "" if response.status < KEPT_CODES else problem_code(response)
    return Observation(kind, subject, started, ended, response.status, code)


def problem_code(response: Response) -> str:
    try:
        problem: Any = response.json()
        return str(problem["code"])
    except (ValueError, KeyError, TypeError):
        return response.body[:BODY_LENGTH].decode(errors="replace")


def read_observations(paths: Iterable[Path]) -> Iterator[Observation]:
    """The observations of other processes. An incomplete last line is ignored."""
    for path in paths:
        for line in path.read_text().splitlines():
            try:
                yield Observation(*json.loads(line))
            except ValueError:
                continue
